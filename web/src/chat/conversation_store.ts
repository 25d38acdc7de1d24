// SPDX-License-Identifier: Apache-2.0
// Conversations in the browser's IndexedDB: one record each, and a list of headings in memory. Other tabs are told of changes.
import { signal } from '@preact/signals';
import type { Conversation } from './conversation';

export interface Heading {
  id: string;
  title: string;
  updated: number;
  model: string;
}

export const headings = signal<Heading[]>([]);
export const storageFailed = signal(false);

const kStore = 'conversations';
const channel = typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel('puna-conversations');

function opened(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('puna', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(kStore, { keyPath: 'id' });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

let database: Promise<IDBDatabase> | undefined;

async function inStore<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  database ??= opened();
  const transaction = (await database).transaction(kStore, mode);
  return new Promise((resolve, reject) => {
    const asked = act(transaction.objectStore(kStore));
    asked.onsuccess = () => resolve(asked.result);
    transaction.onabort = () => reject(transaction.error);
    asked.onerror = () => reject(asked.error);
  });
}

const headingOf = ({ id, title, updated, model }: Conversation): Heading => ({ id, title, updated, model });
const newestFirst = (a: Heading, b: Heading) => b.updated - a.updated;

export const loadConversation = (id: string) => inStore<Conversation | undefined>('readonly', (store) => store.get(id));
export const allConversations = () => inStore<Conversation[]>('readonly', (store) => store.getAll());

export async function loadHeadings(): Promise<void> {
  try {
    headings.value = (await allConversations()).map(headingOf).sort(newestFirst);
  } catch {
    storageFailed.value = true;
  }
}

export async function saveConversation(chat: Conversation): Promise<void> {
  const others = headings.value.filter(({ id }) => id !== chat.id);
  headings.value = [headingOf(chat), ...others].sort(newestFirst);
  try {
    await inStore('readwrite', (store) => store.put(chat));
    channel?.postMessage(chat.id);
  } catch {
    storageFailed.value = true;
  }
}

export async function forgetConversation(id: string): Promise<void> {
  headings.value = headings.value.filter((heading) => heading.id !== id);
  await inStore('readwrite', (store) => store.delete(id)).catch(() => (storageFailed.value = true));
  channel?.postMessage(id);
}

/** Calls back with the conversation another tab has changed or deleted. */
export function onOtherTab(callback: (id: string) => void) {
  channel?.addEventListener('message', ({ data }) => {
    void loadHeadings();
    callback(String(data));
  });
}

/** Conversations with all words of `query` in title or messages, newest first, with the place that matched. */
export async function searchConversations(query: string, limit: number): Promise<(Heading & { excerpt: string })[]> {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: (Heading & { excerpt: string })[] = [];
  const chats = (await allConversations()).sort(newestFirst);
  for (const chat of chats) {
    const texts = Object.values(chat.messages).map(({ text }) => text);
    const whole = [chat.title, ...texts].join('\n').toLowerCase();
    if (!words.every((word) => whole.includes(word))) continue;
    found.push({ ...headingOf(chat), excerpt: excerptAround(texts, words[0] ?? '') });
    if (found.length === limit) break;
  }
  return found;
}

export function excerptAround(texts: string[], word: string): string {
  for (const text of word ? texts : []) {
    const at = text.toLowerCase().indexOf(word);
    if (at < 0) continue;
    const from = Math.max(0, at - 30);
    return (from > 0 ? '…' : '') + text.slice(from, at + word.length + 70).replace(/\s+/g, ' ');
  }
  return '';
}
