// SPDX-License-Identifier: Apache-2.0
// The shown path. Long ones are windowed: the last messages first, earlier ones when the person scrolls up or asks.
// It follows the end of a stream as long as the person has not scrolled away.
import { useSignalEffect } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { t } from '../text/language';
import type { Conversation, Message } from './conversation';
import { MessageView } from './message_view';
import { lives } from './session';

const kWindow = 60;
const kNearEnd = 80;

interface MessageListProps {
  chat: Conversation;
  path: Message[];
  editing: string;
  onEdit: (id: string) => void;
}

export function MessageList({ chat, path, editing, onEdit }: MessageListProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [shown, setShown] = useState(kWindow);
  const first = Math.max(0, path.length - shown);

  const toEnd = () => {
    const element = scroller.current;
    if (element && follows.current) element.scrollTop = element.scrollHeight;
  };
  useEffect(() => {
    setShown(kWindow);
    follows.current = true;
  }, [chat.id]);
  useLayoutEffect(toEnd, [chat.id, path.length, path.at(-1)?.id]);
  useSignalEffect(() => {
    void lives.value.get(chat.id)?.answer.value;
    requestAnimationFrame(toEnd);
  });

  const showEarlier = () => {
    const element = scroller.current!;
    const fromEnd = element.scrollHeight - element.scrollTop;
    follows.current = false;
    setShown(shown + kWindow);
    requestAnimationFrame(() => (element.scrollTop = element.scrollHeight - fromEnd));
  };
  return (
    <div
      class="messages"
      ref={scroller}
      tabIndex={0}
      role="region"
      aria-label={t('chat.messages')}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        follows.current = scrollHeight - scrollTop - clientHeight < kNearEnd;
      }}
    >
      <div class="column">
        {first > 0 && (
          <button type="button" class="button earlier" onClick={showEarlier}>
            {t('chat.earlier', { count: first })}
          </button>
        )}
        {path.slice(first).map((message) => (
          <MessageView
            key={message.id}
            chat={chat}
            message={message}
            path={path}
            editing={editing === message.id}
            onEdit={onEdit}
          />
        ))}
      </div>
    </div>
  );
}
