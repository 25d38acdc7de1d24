// SPDX-License-Identifier: Apache-2.0
// Where a message is written. What was begun is kept for each conversation until it is sent.
import { signal } from '@preact/signals';
import { useLayoutEffect } from 'preact/hooks';
import { pickFiles } from '../interface/files';
import { Icon, IconButton } from '../interface/icons';
import { showToast } from '../interface/toasts';
import { formatNumber, t } from '../text/language';
import { kMaxFileBytes, kMaxFiles, readAttachment, type Attachment } from './attachments';
import { lives, sendMessage, stopAnswer } from './session';

interface Draft {
  text: string;
  attachments: Attachment[];
}

const kEmpty: Draft = { text: '', attachments: [] };
const drafts = signal<ReadonlyMap<string, Draft>>(new Map());

const draftOf = (id: string) => drafts.value.get(id) ?? kEmpty;
export const setDraft = (id: string, change: Partial<Draft>) =>
  (drafts.value = new Map(drafts.value).set(id, { ...draftOf(id), ...change }));

export const focusComposer = () => document.getElementById('composer')?.focus();
/** Where what had the focus is gone. On a touch screen it would bring up the keyboard: not there. */
export const returnFocus = () => matchMedia('(hover: hover)').matches && focusComposer();

export async function attachFiles(id: string, files: File[]) {
  for (const file of files) {
    const { attachments } = draftOf(id);
    const read = attachments.length >= kMaxFiles ? ({ reason: 'many', name: file.name } as const) : await readAttachment(file);
    if ('reason' in read) {
      const limit = read.reason === 'many' ? String(kMaxFiles) : `${formatNumber(kMaxFileBytes / 1024)} KB`;
      showToast(t(`attach.${read.reason}`, { name: read.name, limit }));
    } else {
      setDraft(id, { attachments: [...draftOf(id).attachments, read] });
    }
  }
  focusComposer();
}

export function Composer({ id, onEditLast }: { id: string; onEditLast: () => void }) {
  const { text, attachments } = draftOf(id);
  const busy = lives.value.has(id);
  const ready = !busy && (text.trim() !== '' || attachments.length > 0);
  useLayoutEffect(() => void returnFocus(), [id]);

  const send = () => {
    if (!ready) return;
    setDraft(id, kEmpty);
    sendMessage(id, text, attachments);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === 'ArrowUp' && text === '' && !busy) {
      event.preventDefault();
      onEditLast();
    }
  };
  const onPaste = (event: ClipboardEvent) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    void attachFiles(id, files);
  };
  return (
    <div class="composer">
      {attachments.length > 0 && <Chips id={id} attachments={attachments} />}
      <div class="composer-row">
        <IconButton icon="attach" label={t('attach.add')} onClick={async () => attachFiles(id, await pickFiles('', true))} />
        <textarea
          id="composer"
          class="growing"
          rows={1}
          aria-label={t('composer.label')}
          placeholder={t('composer.hint')}
          value={text}
          onInput={({ currentTarget }) => setDraft(id, { text: currentTarget.value })}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
        />
        {busy ? (
          <IconButton icon="stop" class="send" label={t('action.stop')} onClick={() => stopAnswer(id)} />
        ) : (
          <IconButton icon="send" class="send" label={t('action.send')} onClick={send} disabled={!ready} />
        )}
      </div>
    </div>
  );
}

const Chips = ({ id, attachments }: { id: string; attachments: Attachment[] }) => (
  <ul class="chips" aria-label={t('attach.list')}>
    {attachments.map(({ name }, index) => (
      <li class="chip" key={index}>
        <Icon name="file" />
        <span>{name}</span>
        <IconButton
          icon="close"
          label={t('attach.remove', { name })}
          onClick={() => setDraft(id, { attachments: attachments.filter((_, other) => other !== index) })}
        />
      </li>
    ))}
  </ul>
);
