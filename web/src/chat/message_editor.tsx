// SPDX-License-Identifier: Apache-2.0
// Edits a message in its place. A question goes out again as a new version, an answer is kept as written.
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { t } from '../text/language';
import type { Message } from './conversation';

interface MessageEditorProps {
  message: Message;
  /** True while an answer is written: until its end no question goes out. */
  busy: boolean;
  onSave: (text: string) => void;
  onCancel: () => void;
}

export function MessageEditor({ message, busy, onSave, onCancel }: MessageEditorProps) {
  const [text, setText] = useState(message.text);
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, []);
  const asks = message.role === 'user';
  const ready = text.trim() !== '' && !(asks && busy);
  const save = () => ready && onSave(text);
  return (
    <div class="editor">
      <textarea
        ref={area}
        class="growing"
        rows={3}
        aria-label={t('message.editing')}
        value={text}
        onInput={({ currentTarget }) => setText(currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            event.preventDefault();
            onCancel();
          } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            save();
          }
        }}
      />
      <div class="row">
        <button type="button" class="button primary" onClick={save} disabled={!ready}>
          {t(asks ? 'action.sendVersion' : 'action.save')}
        </button>
        <button type="button" class="button" onClick={onCancel}>
          {t('action.cancel')}
        </button>
      </div>
    </div>
  );
}
