// SPDX-License-Identifier: Apache-2.0
// All keyboard shortcuts, as one table that the listener and the `?` sheet walk.
import { signal } from '@preact/signals';
import type { Key } from '../text/language';
import { singleKeys } from './preferences';

export interface Shortcut {
  keys: string;
  text: Key;
  act: () => void;
}

/** Filled by the views while they are shown; `keys` is "Ctrl+k" or one key alone. */
export const shortcuts = signal<Shortcut[]>([]);

export function offerShortcuts(offered: Shortcut[]): () => void {
  shortcuts.value = [...shortcuts.value, ...offered];
  return () => (shortcuts.value = shortcuts.value.filter((shortcut) => !offered.includes(shortcut)));
}

export function keysOf(event: KeyboardEvent): string {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const control = event.ctrlKey || event.metaKey ? 'Ctrl+' : '';
  return `${control}${event.altKey ? 'Alt+' : ''}${event.shiftKey && control ? 'Shift+' : ''}${key}`;
}

const takesText = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

export function listenForShortcuts() {
  addEventListener('keydown', (event) => {
    if (event.isComposing || event.defaultPrevented) return;
    const keys = keysOf(event);
    const single = !keys.includes('+') && keys !== 'Escape';
    if (single && (!singleKeys.value || takesText(event.target))) return;
    if (document.querySelector('dialog[open]')) return;
    const found = shortcuts.value.find((shortcut) => shortcut.keys === keys);
    if (!found) return;
    event.preventDefault();
    found.act();
  });
}
