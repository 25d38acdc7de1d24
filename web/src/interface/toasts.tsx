// SPDX-License-Identifier: Apache-2.0
// Short notices at the foot of the page, some with a way back.
import { signal } from '@preact/signals';
import { t } from '../text/language';
import { announce } from './announcer';
import { IconButton } from './icons';

const kShownMs = 8000;

interface Toast {
  id: number;
  text: string;
  action?: { label: string; act: () => void };
}

const toasts = signal<Toast[]>([]);
let count = 0;

const drop = (id: number) => (toasts.value = toasts.value.filter((toast) => toast.id !== id));

export function showToast(text: string, action?: Toast['action']) {
  const id = ++count;
  toasts.value = [...toasts.value.slice(-2), { id, text, action }];
  announce(text);
  const dropLater = () => {
    // Not while someone is at it.
    if (document.querySelector('.toasts:is(:hover, :focus-within)')) setTimeout(dropLater, 1000);
    else drop(id);
  };
  setTimeout(dropLater, kShownMs);
}

export const Toasts = () => (
  <section class="toasts" aria-label={t('toast.region')}>
    {toasts.value.map(({ id, text, action }) => (
      <div class="toast" key={id}>
        <span>{text}</span>
        {action && (
          <button
            type="button"
            class="link-button"
            onClick={() => {
              action.act();
              drop(id);
            }}
          >
            {action.label}
          </button>
        )}
        <IconButton icon="close" label={t('action.close')} onClick={() => drop(id)} />
      </div>
    ))}
  </section>
);
