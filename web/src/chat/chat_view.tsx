// SPDX-License-Identifier: Apache-2.0
// The chat: its head with the model, the messages, and where the next one is written.
import type { Signal } from '@preact/signals';
import { useEffect, useLayoutEffect, useState } from 'preact/hooks';
import { defaultModel, modelEntry, refreshServer, serverError } from '../api/server_state';
import { saveFile } from '../interface/files';
import { IconButton } from '../interface/icons';
import { go, route } from '../interface/route';
import { offerShortcuts } from '../interface/shortcuts';
import { showToast } from '../interface/toasts';
import { t } from '../text/language';
import { ChatSettings } from './chat_settings';
import { attachFiles, Composer, focusComposer, setDraft } from './composer';
import { shownPath, type Conversation } from './conversation';
import { exportedConversations } from './exchange';
import { FailureView } from './failure_view';
import { MessageList } from './message_list';
import { ModelPicker } from './model_picker';
import { failureOf, openConversation, startConversation, stopAnswer, update } from './session';

type Held = Signal<Conversation | null>;

function useConversation(id: string): Held | undefined {
  const [held, setHeld] = useState<Held>();
  useEffect(() => {
    let here = true;
    if (id === '') setHeld(startConversation());
    else void openConversation(id).then((found) => here && setHeld(found));
    return () => {
      here = false;
    };
  }, [id]);
  return held;
}

export function ChatView() {
  const { id } = route.value;
  const held = useConversation(id);
  const chat = held?.value;
  useEffect(() => {
    if (!held || held.value) return;
    showToast(t('chat.gone'));
    go('chat', '', true);
  }, [held]);
  return chat ? <OpenChat key={chat.id} chat={chat} /> : <div class="view" />;
}

function OpenChat({ chat }: { chat: Conversation }) {
  const [editing, setEditing] = useState('');
  const [settings, setSettings] = useState(false);
  const [dropping, setDropping] = useState(false);
  const path = shownPath(chat);
  useEffect(() => {
    document.title = chat.title ? `${chat.title} – Puna` : 'Puna';
  }, [chat.title]);
  useLayoutEffect(
    () =>
      offerShortcuts([
        { keys: '/', text: 'shortcut.compose', act: focusComposer },
        { keys: 'Ctrl+,', text: 'shortcut.settings', act: () => setSettings(true) },
        { keys: 'Escape', text: 'shortcut.stop', act: () => stopAnswer(chat.id) },
      ]),
    [chat.id],
  );
  const edit = (message: string) => {
    setEditing(message);
    if (!message) focusComposer();
  };
  const editLast = () => setEditing(path.findLast(({ role }) => role === 'user')?.id ?? '');
  return (
    <div
      class={`view chat ${dropping ? 'dropping' : ''}`}
      onDragOver={(event) => {
        event.preventDefault();
        setDropping(true);
      }}
      onDragLeave={({ currentTarget, relatedTarget }) => {
        if (!currentTarget.contains(relatedTarget as Node)) setDropping(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setDropping(false);
        void attachFiles(chat.id, [...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <ChatHead chat={chat} onSettings={() => setSettings(true)} />
      {path.length === 0 ? <EmptyChat chat={chat} /> : <MessageList chat={chat} path={path} editing={editing} onEdit={edit} />}
      <div class="foot">
        <Composer id={chat.id} onEditLast={editLast} />
        <p class="foot-note">{t('composer.note')}</p>
      </div>
      {dropping && <div class="drop-note">{t('attach.drop')}</div>}
      {settings && <ChatSettings chat={chat} onClose={() => setSettings(false)} />}
    </div>
  );
}

function ChatHead({ chat, onSettings }: { chat: Conversation; onSettings: () => void }) {
  const empty = Object.keys(chat.messages).length === 0;
  return (
    <header class="view-head">
      <h1 class={empty ? 'sr-only' : 'title'} title={chat.title} tabIndex={-1}>
        {chat.title || t('chat.new')}
      </h1>
      <ModelPicker
        label={t('model.label')}
        value={chat.model || defaultModel.value}
        onChange={(model) => update(chat.id, (now) => ({ ...now, model }))}
      />
      {!empty && (
        <IconButton
          icon="export"
          label={t('action.export')}
          onClick={() => saveFile('conversation.json', exportedConversations([chat]), 'application/json')}
        />
      )}
      <IconButton icon="gear" label={t('settings.chat')} onClick={onSettings} />
    </header>
  );
}

function EmptyChat({ chat }: { chat: Conversation }) {
  const failure = serverError.value;
  const model = modelEntry(chat.model || defaultModel.value);
  return (
    <div class="empty">
      <h2>{t('empty.title')}</h2>
      <p>{model ? t('empty.text', { model: model.id }) : t('empty.noModel')}</p>
      {failure && <FailureView failure={failureOf(failure)} onRetry={() => void refreshServer()} />}
      <ul class="suggestions" aria-label={t('empty.suggestions')}>
        {(['empty.try1', 'empty.try2', 'empty.try3'] as const).map((key) => (
          <li key={key}>
            <button
              type="button"
              class="suggestion"
              onClick={() => {
                setDraft(chat.id, { text: t(key) });
                focusComposer();
              }}
            >
              {t(key)}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
