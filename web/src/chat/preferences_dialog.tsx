// SPDX-License-Identifier: Apache-2.0
// The page's own settings: how it looks, its language, the key, and the stored conversations as files.
import { useState } from 'preact/hooks';
import { apiKey, keyWanted } from '../api/client';
import { props } from '../api/server_state';
import { Dialog } from '../interface/dialog';
import { pickFiles, saveFile } from '../interface/files';
import { theme, type Theme } from '../interface/preferences';
import { go } from '../interface/route';
import { showToast } from '../interface/toasts';
import { chooseLanguage, chosenLanguage, kLanguageNames, t, type LanguageCode } from '../text/language';
import { allConversations, headings, saveConversation } from './conversation_store';
import { exportedConversations, importedConversations } from './exchange';
import { deleteConversation } from './session';

async function exportAll() {
  saveFile('puna-conversations.json', exportedConversations(await allConversations()), 'application/json');
}

async function importFile() {
  const [file] = await pickFiles('.json,application/json', false);
  if (!file) return;
  try {
    const chats = importedConversations(await file.text());
    for (const chat of chats) await saveConversation(chat);
    showToast(t('import.done', { count: chats.length }));
  } catch {
    showToast(t('import.wrong', { name: file.name }));
  }
}

async function deleteAll() {
  for (const { id } of headings.value) await deleteConversation(id);
  go('chat', '', true);
}

export function PreferencesDialog({ onClose }: { onClose: () => void }) {
  const { version } = props.value;
  return (
    <Dialog title={t('preferences.title')} onClose={onClose}>
      <div class="field-grid">
        <label class="field">
          <span>{t('preferences.theme')}</span>
          <select value={theme.value} onChange={({ currentTarget }) => (theme.value = currentTarget.value as Theme)}>
            {(['system', 'light', 'dark'] as const).map((name) => (
              <option key={name} value={name}>
                {t(`theme.${name}`)}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          <span>{t('preferences.language')}</span>
          <select
            value={chosenLanguage.value}
            onChange={({ currentTarget }) => chooseLanguage(currentTarget.value as LanguageCode | '')}
          >
            <option value="">{t('preferences.followBrowser')}</option>
            {Object.entries(kLanguageNames).map(([code, name]) => (
              <option key={code} value={code} lang={code}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </div>
      <fieldset>
        <legend>{t('key.label')}</legend>
        <p class="note">{t(apiKey.value ? 'key.isSet' : 'key.isUnset')}</p>
        <button
          type="button"
          class="button"
          onClick={() => {
            onClose();
            keyWanted.value = true;
          }}
        >
          {t('key.enter')}
        </button>
      </fieldset>
      <Conversations />
      {version && <p class="note">{t('preferences.version', { version })}</p>}
    </Dialog>
  );
}

function Conversations() {
  const [sure, setSure] = useState(false);
  const count = headings.value.length;
  return (
    <fieldset>
      <legend>{t('list.label')}</legend>
      <p class="note">{t('preferences.storedHere', { count })}</p>
      <div class="row">
        <button type="button" class="button" onClick={() => void exportAll()} disabled={count === 0}>
          {t('preferences.export')}
        </button>
        <button type="button" class="button" onClick={() => void importFile()}>
          {t('preferences.import')}
        </button>
        <button
          type="button"
          class="button danger"
          disabled={count === 0}
          onClick={() => {
            if (sure) void deleteAll();
            setSure(!sure);
          }}
        >
          {t(sure ? 'preferences.deleteSure' : 'preferences.deleteAll', { count })}
        </button>
      </div>
    </fieldset>
  );
}
