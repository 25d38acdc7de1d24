// SPDX-License-Identifier: Apache-2.0
// Conversations in the browser's IndexedDB: one record for each, and one for each of its messages, so that an answer to a long chat
// writes two records and not thousands. Other tabs are told of changes.
import { signal } from '@preact/signals';
import type { Conversation, Message } from './conversation';

export interface Heading {
  id: string;
  title: string;
  updated: number;
  model: string;
}

type StoredConversation = Omit<Conversation, 'messages'>;
type StoredMessage = Message & { chat: string };

export const headings = signal<Heading[]>([]);
export const storageFailed = signal(false);

const channel = typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel('puna-conversations');

/** The messages that are known to be stored as they are: a message is never changed in place, so the same object is the same record. */
const stored = new Map<string, Record<string, Message>>();

function opened(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('puna', 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore('conversations', { keyPath: 'id' });
      opening.result.createObjectStore('messages', { keyPath: ['chat', 'id'] });
    };
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

let database: Promise<IDBDatabase> | undefined;

/** One transaction over both stores; the result of the request that `act` returns. */
async function inStores<T>(
  mode: IDBTransactionMode,
  act: (conversations: IDBObjectStore, messages: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  database ??= opened();
  const transaction = (await database).transaction(['conversations', 'messages'], mode);
  return new Promise((resolve, reject) => {
    const asked = act(transaction.objectStore('conversations'), transaction.objectStore('messages'));
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

const messagesOf = (chat: string) => IDBKeyRange.bound([chat], [chat, []]);
const headingOf = ({ id, title, updated, model }: StoredConversation): Heading => ({ id, title, updated, model });
const newestFirst = (a: Heading, b: Heading) => b.updated - a.updated;

function withMessages(conversation: StoredConversation, records: StoredMessage[]): Conversation {
  const messages: Record<string, Message> = {};
  for (const { chat: _, ...message } of records) messages[message.id] = message;
  return { ...conversation, messages };
}

export async function loadConversation(id: string): Promise<Conversation | undefined> {
  let records: IDBRequest<StoredMessage[]>;
  const conversation = await inStores<StoredConversation | undefined>('readonly', (conversations, messages) => {
    records = messages.getAll(messagesOf(id));
    return conversations.get(id);
  });
  if (!conversation) return undefined;
  const chat = withMessages(conversation, records!.result);
  stored.set(id, chat.messages);
  return chat;
}

export async function allConversations(): Promise<Conversation[]> {
  let records: IDBRequest<StoredMessage[]>;
  const conversations = await inStores<StoredConversation[]>('readonly', (all, messages) => {
    records = messages.getAll();
    return all.getAll();
  });
  const byChat = new Map<string, StoredMessage[]>(conversations.map(({ id }) => [id, []]));
  for (const record of records!.result) byChat.get(record.chat)?.push(record);
  return conversations.map((conversation) => withMessages(conversation, byChat.get(conversation.id)!));
}

export async function loadHeadings(): Promise<void> {
  try {
    const found = await inStores<StoredConversation[]>('readonly', (conversations) => conversations.getAll());
    headings.value = found.map(headingOf).sort(newestFirst);
  } catch {
    storageFailed.value = true;
  }
}

async function write<T>(id: string, act: (conversations: IDBObjectStore, messages: IDBObjectStore) => IDBRequest<T>) {
  try {
    await inStores('readwrite', act);
    channel?.postMessage(id);
  } catch {
    stored.delete(id);
    storageFailed.value = true;
  }
}

/** The list follows what is stored, not what is meant to be: what it shows outlives the page from that moment on. */
export async function saveConversation(chat: Conversation): Promise<void> {
  const { messages, ...conversation } = chat;
  const before = stored.get(chat.id) ?? {};
  stored.set(chat.id, messages);
  await write(chat.id, (conversations, store) => {
    const key = conversations.getKey(chat.id);
    const put = (message: Message) => store.put({ ...message, chat: chat.id });
    const isKnown = (message: Message) => before[message.id] === message;
    for (const message of Object.values(messages)) if (!isKnown(message)) put(message);
    for (const id of Object.keys(before)) if (!messages[id]) store.delete([chat.id, id]);
    // Another tab may have deleted it, and its messages with it: then all of them are written again.
    key.onsuccess = () => {
      if (key.result === undefined) Object.values(messages).filter(isKnown).forEach(put);
    };
    return conversations.put(conversation);
  });
  headings.value = [headingOf(chat), ...headings.value.filter(({ id }) => id !== chat.id)].sort(newestFirst);
}

/** An answer on its way, so that a page that is closed meanwhile does not lose it. */
export const savePartial = (chat: string, message: Message) => write(chat, (_, store) => store.put({ ...message, chat }));

export async function forgetConversation(chat: string): Promise<void> {
  stored.delete(chat);
  await write(chat, (conversations, store) => {
    store.delete(messagesOf(chat));
    return conversations.delete(chat);
  });
  headings.value = headings.value.filter(({ id }) => id !== chat);
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
