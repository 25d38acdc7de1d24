// SPDX-License-Identifier: Apache-2.0
// The page's words in the person's language. Each language is one JSON file with the same keys; {name} stands for a value.
import { computed, signal } from '@preact/signals';
import en from './en.json';
import zh from './zh.json';

export type Key = keyof typeof en;
export type LanguageCode = 'en' | 'zh';

const kTexts: Record<LanguageCode, Record<Key, string>> = { en, zh };
export const kLanguageNames: Record<LanguageCode, string> = { en: 'English', zh: '中文' };

const kSaved = 'puna.language';
const saved = localStorage.getItem(kSaved);

/** What the person chose; empty follows the browser. */
export const chosenLanguage = signal<LanguageCode | ''>(saved === 'en' || saved === 'zh' ? saved : '');

export const language = computed<LanguageCode>(() => {
  if (chosenLanguage.value) return chosenLanguage.value;
  return navigator.languages
    .find((code) => /^(en|zh)\b/i.test(code))
    ?.slice(0, 2)
    .toLowerCase() === 'zh'
    ? 'zh'
    : 'en';
});

export function chooseLanguage(code: LanguageCode | '') {
  chosenLanguage.value = code;
  if (code) localStorage.setItem(kSaved, code);
  else localStorage.removeItem(kSaved);
}

export function filledIn(template: string, values: Record<string, string | number>): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export const t = (key: Key, values: Record<string, string | number> = {}) => filledIn(kTexts[language.value][key], values);

export const locale = () => (language.value === 'zh' ? 'zh-CN' : 'en');
export const formatNumber = (value: number, options: Intl.NumberFormatOptions = {}) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: 2, ...options }).format(value);

/** Figures of training reach from 1e-7 to 1e6: four digits that count. */
export const formatFigure = (value: number) =>
  value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)
    ? value.toExponential(2)
    : formatNumber(value, { maximumSignificantDigits: 4, maximumFractionDigits: undefined });
