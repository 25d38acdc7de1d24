// SPDX-License-Identifier: Apache-2.0
// The sheet of `?`: every shortcut that works at the moment.
import { t } from '../text/language';
import { Dialog } from './dialog';
import { singleKeys } from './preferences';
import { shortcuts } from './shortcuts';

/** What the views' own fields understand, beside the table of shortcuts. */
const kInFields = [
  { keys: 'Enter', text: 'shortcut.send' },
  { keys: 'Shift+Enter', text: 'shortcut.newLine' },
  { keys: 'ArrowUp', text: 'shortcut.editLast' },
] as const;

const kNames: Record<string, string> = { Escape: 'Esc', ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→' };
const keyName = (key: string) => kNames[key] ?? (key.length === 1 ? key.toUpperCase() : key);

export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title={t('shortcuts.title')} onClose={onClose}>
      <dl class="shortcut-list">
        {[...shortcuts.value, ...kInFields].map(({ keys, text }) => (
          <div key={keys + text}>
            <dt>{t(text)}</dt>
            <dd>
              {keys.split('+').map((key) => (
                <kbd key={key}>{keyName(key)}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox"
          checked={singleKeys.value}
          onChange={({ currentTarget }) => (singleKeys.value = currentTarget.checked)}
        />
        {t('shortcuts.single')}
      </label>
    </Dialog>
  );
}
