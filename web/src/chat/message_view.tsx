// SPDX-License-Identifier: Apache-2.0
// One message with what a person can do to it.
import { modelEntry } from '../api/server_state';
import { copyText } from '../interface/files';
import { IconButton } from '../interface/icons';
import { showToast } from '../interface/toasts';
import { t } from '../text/language';
import { returnFocus } from './composer';
import * as tree from './conversation';
import type { Conversation, Message } from './conversation';
import { FailureView } from './failure_view';
import { FiguresView } from './figures_view';
import { MarkdownView } from './markdown_view';
import { MessageEditor } from './message_editor';
import { answer, branchFrom, lives, sendToolResults, update, type Live } from './session';
import { ToolCallsView } from './tool_calls_view';

interface MessageProps {
  chat: Conversation;
  message: Message;
  path: Message[];
  editing: boolean;
  onEdit: (id: string) => void;
}

const speakers = { user: 'role.user', assistant: 'role.assistant', tool: 'role.tool' } as const;

export function MessageView({ chat, message, path, editing, onEdit }: MessageProps) {
  const live = lives.value.get(chat.id);
  const isLive = live?.messageId === message.id;
  const speaker = message.role === 'assistant' && message.model ? message.model : t(speakers[message.role]);
  return (
    <article class={`message ${message.role}`} id={`message-${message.id}`} aria-label={speaker} aria-busy={isLive}>
      <header class="speaker">
        {speaker}
        {message.edited && <span class="edited">{t('message.edited')}</span>}
      </header>
      {editing ? (
        <MessageEditor
          message={message}
          busy={live !== undefined}
          onCancel={() => onEdit('')}
          onSave={(text) => keepEdit(chat, message, text, onEdit)}
        />
      ) : isLive ? (
        <LiveBody live={live} model={message.model ?? ''} />
      ) : (
        <Body chat={chat} message={message} path={path} />
      )}
      {!editing && !isLive && <Actions chat={chat} message={message} busy={live !== undefined} onEdit={onEdit} />}
    </article>
  );
}

function keepEdit(chat: Conversation, message: Message, text: string, onEdit: (id: string) => void) {
  onEdit('');
  if (message.role === 'user') branchFrom(chat.id, message, text);
  else update(chat.id, (now) => tree.changeMessage(now, message.id, { text, edited: true }));
}

function LiveBody({ live, model }: { live: Live; model: string }) {
  const state = modelEntry(model)?.puna?.state;
  const { text, reasoning, toolCalls } = live.answer.value;
  const begun = text || reasoning || toolCalls.length;
  return (
    <>
      {reasoning && <Reasoning text={reasoning} open={!text} />}
      {text && <MarkdownView text={text} growing />}
      {toolCalls.length > 0 && <ToolCallsView calls={toolCalls.filter(Boolean)} waiting={[]} onResults={() => {}} />}
      {!begun && <p class="waiting">{t(!state || state === 'loaded' ? 'chat.waiting' : 'chat.loadingModel', { model })}</p>}
    </>
  );
}

const Reasoning = ({ text, open = false }: { text: string; open?: boolean }) => (
  <details class="reasoning" open={open}>
    <summary>{t('message.reasoning')}</summary>
    <MarkdownView text={text} />
  </details>
);

function Body({ chat, message, path }: Pick<MessageProps, 'chat' | 'message' | 'path'>) {
  const { role, text, attachments, reasoning, toolCalls, failure, figures, finish } = message;
  if (role === 'tool')
    return (
      <pre class="tool-result" tabIndex={0}>
        {text}
      </pre>
    );
  if (role === 'user')
    return (
      <>
        {text && <p class="said">{text}</p>}
        {attachments?.map(({ name, text: inside }) => (
          <details class="attached" key={name}>
            <summary>{name}</summary>
            <pre tabIndex={0}>{inside}</pre>
          </details>
        ))}
      </>
    );
  const empty = !text && !toolCalls?.length && !failure;
  return (
    <>
      {reasoning && <Reasoning text={reasoning} />}
      {text && <MarkdownView text={text} />}
      {empty && <p class="waiting">{t(finish ? 'chat.empty' : 'chat.interrupted')}</p>}
      {toolCalls && toolCalls.length > 0 && (
        <ToolCallsView
          calls={toolCalls}
          waiting={lives.value.has(chat.id) ? [] : tree.openToolCalls(path, message)}
          onResults={(results) => sendToolResults(chat.id, message.id, results)}
        />
      )}
      {failure && <FailureView failure={failure} onRetry={() => answerAgain(chat, message)} />}
      {figures && <FiguresView figures={figures} model={message.model} finish={finish} />}
    </>
  );
}

function answerAgain(chat: Conversation, message: Message) {
  answer(chat.id, message.parent);
  returnFocus();
}

function removeWithWayBack(chat: Conversation, message: Message) {
  update(chat.id, (now) => tree.removeMessage(now, message.id));
  returnFocus();
  showToast(t('toast.messageDeleted'), {
    label: t('action.undo'),
    act: () => update(chat.id, (now) => tree.restoreMessage(now, chat, message)),
  });
}

interface ActionsProps extends Pick<MessageProps, 'chat' | 'message' | 'onEdit'> {
  busy: boolean;
}

function Actions({ chat, message, busy, onEdit }: ActionsProps) {
  const family = tree.siblings(chat, message.parent);
  return (
    <div class="actions" role="group" aria-label={t('message.actions')}>
      {family.length > 1 && <Versions chat={chat} family={family} shown={message} busy={busy} />}
      <IconButton icon="copy" label={t('action.copy')} onClick={() => void copyText(message.text)} />
      {message.role !== 'tool' && (
        <IconButton
          icon="edit"
          label={t(message.role === 'user' ? 'action.editBranch' : 'action.editText')}
          onClick={() => onEdit(message.id)}
          disabled={busy}
        />
      )}
      {message.role === 'assistant' && (
        <IconButton icon="again" label={t('action.regenerate')} onClick={() => answerAgain(chat, message)} disabled={busy} />
      )}
      <IconButton icon="trash" label={t('action.delete')} onClick={() => removeWithWayBack(chat, message)} disabled={busy} />
    </div>
  );
}

function Versions({ chat, family, shown, busy }: { chat: Conversation; family: Message[]; shown: Message; busy: boolean }) {
  const at = family.findIndex(({ id }) => id === shown.id);
  // Round and round: a button that went grey at the end would drop the keyboard's focus.
  const show = (index: number) =>
    update(chat.id, (now) => tree.selectMessage(now, family[(index + family.length) % family.length]!));
  return (
    <span class="versions" role="group" aria-label={t('version.which', { at: at + 1, of: family.length })}>
      <IconButton icon="left" label={t('version.previous')} onClick={() => show(at - 1)} disabled={busy} />
      <span aria-hidden="true">{`${at + 1}/${family.length}`}</span>
      <IconButton icon="right" label={t('version.next')} onClick={() => show(at + 1)} disabled={busy} />
    </span>
  );
}
