// SPDX-License-Identifier: Apache-2.0
import { expect, test, vi } from 'vitest';
import en from '../../src/text/en.json';
import zh from '../../src/text/zh.json';

vi.stubGlobal('localStorage', { getItem: () => null });
vi.stubGlobal('sessionStorage', { getItem: () => null });
vi.stubGlobal('navigator', { languages: ['fr', 'zh-TW', 'en'] });
vi.stubGlobal('location', { hash: '' });
vi.stubGlobal('matchMedia', () => ({ matches: false, addEventListener: () => {} }));
vi.stubGlobal('addEventListener', () => {});

test('both languages have the same keys and the same places for values', () => {
  expect(Object.keys(zh)).toEqual(Object.keys(en));
  const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([place]) => place).sort();
  for (const key of Object.keys(en) as (keyof typeof en)[]) expect(places(zh[key]), key).toEqual(places(en[key]));
});

test('the first language of the browser that the page has is taken', async () => {
  const { language, filledIn } = await import('../../src/text/language');
  expect(language.value).toBe('zh');
  expect(filledIn('{a} of {b} {c}', { a: 1, b: 'x' })).toBe('1 of x {c}');
});

test('views are read from the address', async () => {
  const { hashOf, routeOf } = await import('../../src/interface/route');
  expect(routeOf('#/chat/a%20b')).toEqual({ view: 'chat', id: 'a b' });
  expect(routeOf('#/train')).toEqual({ view: 'train', id: '' });
  for (const hash of ['', '#', '#/nothing', '#/chat/a/b', '#/chat/%E0%A4%A'])
    expect(routeOf(hash)).toEqual({ view: 'chat', id: '' });
  expect(routeOf(hashOf('chat', 'a/b'))).toEqual({ view: 'chat', id: 'a/b' });
});

test('a stream is spoken in whole sentences', async () => {
  const { wholeSentences } = await import('../../src/interface/announcer');
  expect(wholeSentences('One **two**. Thr', 0)).toEqual({ say: 'One two.', end: 13 });
  expect(wholeSentences('One', 0)).toEqual({ say: '', end: 0 });
  expect(wholeSentences('山很高。水', 0)).toEqual({ say: '山很高。', end: 4 });
});

test('keys are named the same with Control and Command', async () => {
  const { keysOf } = await import('../../src/interface/shortcuts');
  const event = (key: string, more: object = {}) =>
    ({ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more }) as KeyboardEvent;
  expect(keysOf(event('k', { metaKey: true }))).toBe('Ctrl+k');
  expect(keysOf(event('O', { ctrlKey: true, shiftKey: true }))).toBe('Ctrl+Shift+o');
  expect(keysOf(event('?', { shiftKey: true }))).toBe('?');
  expect(keysOf(event('Escape'))).toBe('Escape');
});

test('ages follow the calendar', async () => {
  const { ageOf } = await import('../../src/chat/conversation_list');
  const now = new Date(2026, 4, 10, 1).getTime();
  expect(ageOf(new Date(2026, 4, 10, 0, 1).getTime(), now)).toBe('age.today');
  expect(ageOf(new Date(2026, 4, 9, 23).getTime(), now)).toBe('age.yesterday');
  expect(ageOf(new Date(2026, 4, 4).getTime(), now)).toBe('age.week');
  expect(ageOf(new Date(2026, 3, 1).getTime(), now)).toBe('age.older');
});
