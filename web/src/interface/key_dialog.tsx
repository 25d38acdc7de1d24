// SPDX-License-Identifier: Apache-2.0
// Asks for the API key. It stays in this tab unless the person wants it remembered.
import { useState } from 'preact/hooks';
import { apiKey, keyIsRemembered, setApiKey } from '../api/client';
import { refreshServer } from '../api/server_state';
import { t } from '../text/language';
import { Dialog } from './dialog';

export function KeyDialog({ onClose }: { onClose: () => void }) {
  const [key, setKey] = useState(apiKey.value);
  const [remember, setRemember] = useState(keyIsRemembered());
  const keep = () => {
    setApiKey(key.trim(), remember);
    onClose();
    void refreshServer();
  };
  return (
    <Dialog title={t('key.title')} onClose={onClose}>
      <p>{t('key.text')}</p>
      <label class="field">
        <span>{t('key.label')}</span>
        <input
          type="password"
          autocomplete="off"
          spellcheck={false}
          value={key}
          autofocus
          onInput={({ currentTarget }) => setKey(currentTarget.value)}
          onKeyDown={({ key: pressed }) => pressed === 'Enter' && keep()}
        />
      </label>
      <label class="check">
        <input type="checkbox" checked={remember} onChange={({ currentTarget }) => setRemember(currentTarget.checked)} />
        {t('key.remember')}
      </label>
      <div class="row">
        <button type="button" class="button primary" onClick={keep}>
          {t('action.save')}
        </button>
        <button type="button" class="button" onClick={onClose}>
          {t('action.cancel')}
        </button>
      </div>
    </Dialog>
  );
}
