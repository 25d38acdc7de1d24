// SPDX-License-Identifier: Apache-2.0
// The stored conversations, grouped by day, each to be opened, renamed or deleted.
import { useState } from 'preact/hooks';
import { IconButton } from '../interface/icons';
import { go, hashOf, route } from '../interface/route';
import { showToast } from '../interface/toasts';
import { t, type Key } from '../text/language';
import { returnFocus } from './composer';
import { headings, storageFailed, type Heading } from './conversation_store';
import { deleteConversation, lives, openConversation, restoreConversation, update } from './session';

const kDayMs = 86_400_000;

/** By the calendar days of `now`, not by hours passed. */
export function ageOf(updated: number, now: number): Key {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (updated >= midnight) return 'age.today';
  if (updated >= midnight - kDayMs) return 'age.yesterday';
  if (updated >= midnight - 7 * kDayMs) return 'age.week';
  return 'age.older';
}

export function ConversationList({ onChosen }: { onChosen: () => void }) {
  const now = Date.now();
  const groups = new Map<Key, Heading[]>();
  for (const heading of headings.value) {
    const age = ageOf(heading.updated, now);
    groups.set(age, [...(groups.get(age) ?? []), heading]);
  }
  return (
    <nav class="conversations" aria-label={t('list.label')}>
      {storageFailed.value && <p class="note">{t('list.storageFailed')}</p>}
      {headings.value.length === 0 && <p class="note">{t('list.empty')}</p>}
      {[...groups].map(([age, members]) => (
        <section key={age}>
          <h2>{t(age)}</h2>
          <ul>
            {members.map((heading) => (
              <Entry key={heading.id} heading={heading} onChosen={onChosen} />
            ))}
          </ul>
        </section>
      ))}
    </nav>
  );
}

export async function deleteWithWayBack(id: string) {
  const chat = await deleteConversation(id);
  if (route.value.id === id) go('chat', '', true);
  returnFocus();
  if (chat) showToast(t('toast.conversationDeleted'), { label: t('action.undo'), act: () => void restoreConversation(chat) });
}

async function rename(id: string, title: string) {
  await openConversation(id);
  update(id, (chat) => ({ ...chat, title, titleIsOwn: true }));
}

function Entry({ heading: { id, title }, onChosen }: { heading: Heading; onChosen: () => void }) {
  const [renaming, setRenaming] = useState(false);
  const here = route.value.view === 'chat' && route.value.id === id;
  const name = title || t('chat.untitled');
  if (renaming)
    return (
      <li>
        <RenameField
          title={title}
          onDone={(next) => {
            setRenaming(false);
            if (next && next !== title) void rename(id, next);
          }}
        />
      </li>
    );
  return (
    <li class="entry">
      <a href={hashOf('chat', id)} aria-current={here ? 'page' : undefined} title={name} onClick={onChosen}>
        {lives.value.has(id) && <span class="pulse" role="img" aria-label={t('list.writing')} />}
        {name}
      </a>
      <IconButton icon="edit" class="small" label={t('list.rename', { name })} onClick={() => setRenaming(true)} />
      <IconButton icon="trash" class="small" label={t('list.delete', { name })} onClick={() => void deleteWithWayBack(id)} />
    </li>
  );
}

function RenameField({ title, onDone }: { title: string; onDone: (title: string) => void }) {
  return (
    <input
      class="rename"
      aria-label={t('list.newName')}
      defaultValue={title}
      maxLength={200}
      ref={(input) => {
        if (input && document.activeElement !== input) input.select();
      }}
      onKeyDown={(event) => {
        if (event.isComposing) return;
        if (event.key === 'Enter') onDone(event.currentTarget.value.trim());
        if (event.key === 'Escape') onDone('');
      }}
      onBlur={(event) => onDone(event.currentTarget.value.trim())}
    />
  );
}
