// SPDX-License-Identifier: Apache-2.0
// What a person has set for this browser.
import { effect, signal } from '@preact/signals';
import { language, locale } from '../text/language';

export type Theme = 'system' | 'light' | 'dark';

const stored = (name: string) => localStorage.getItem(`puna.${name}`);

export const theme = signal<Theme>((['light', 'dark'] as const).find((name) => name === stored('theme')) ?? 'system');
/** Shortcuts of one key without Ctrl; speech input may trip over them, so they can be turned off. */
export const singleKeys = signal(stored('single-keys') !== 'off');

const darkScreen = matchMedia('(prefers-color-scheme: dark)');
export const screenIsDark = signal(darkScreen.matches);
darkScreen.addEventListener('change', ({ matches }) => (screenIsDark.value = matches));

export const isDark = () => theme.value === 'dark' || (theme.value === 'system' && screenIsDark.value);

export function applyPreferences() {
  effect(() => {
    document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
    localStorage.setItem('puna.theme', theme.value);
    localStorage.setItem('puna.single-keys', singleKeys.value ? 'on' : 'off');
  });
  effect(() => {
    document.documentElement.lang = language.value === 'zh' ? 'zh-Hans' : locale();
  });
}
