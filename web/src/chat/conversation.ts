// SPDX-License-Identifier: Apache-2.0
// A conversation is a tree of messages: an edit or a second answer is a sibling, and `selected` says which sibling is shown.
// All functions return a new conversation and leave the old one as it was.
import type { Sampling, Timings, ToolCall, Usage, WireMessage } from '../api/types';
import { fenced, type Attachment } from './attachments';

export type Role = 'user' | 'assistant' | 'tool';

export interface Failure {
  message: string;
  status: number;
  code: string;
  retryAfter: number;
}

export interface Figures {
  tokensPerSecond?: number;
  firstTokenMs?: number;
  usage?: Usage;
  timings?: Timings;
  context?: number;
}

export interface Message {
  id: string;
  parent: string;
  role: Role;
  text: string;
  created: number;
  attachments?: Attachment[];
  model?: string;
  reasoning?: string;
  toolCalls?: ToolCall[];
  toolCallId?: string;
  /** "stop", "length", "tool_calls" of the server; "stopped" by the person; "error". */
  finish?: string;
  failure?: Failure;
  figures?: Figures;
  edited?: boolean;
}

export interface Conversation {
  id: string;
  title: string;
  titleIsOwn: boolean;
  created: number;
  updated: number;
  model: string;
  system: string;
  sampling: Sampling;
  tools: string;
  messages: Record<string, Message>;
  selected: Record<string, string>;
}

/** The parent of first messages. */
export const kRoot = '';

export const newId = () => crypto.randomUUID?.() ?? `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

export function newConversation(model: string): Conversation {
  const now = Date.now();
  return {
    id: newId(),
    title: '',
    titleIsOwn: false,
    created: now,
    updated: now,
    model,
    system: '',
    sampling: {},
    tools: '',
    messages: {},
    selected: {},
  };
}

const families = new WeakMap<Record<string, Message>, Map<string, Message[]>>();

/** Messages by their parent, the oldest first; made once for each state of a conversation. */
function childrenOf({ messages }: Conversation): Map<string, Message[]> {
  const known = families.get(messages);
  if (known) return known;
  const children = new Map<string, Message[]>();
  for (const message of Object.values(messages)) {
    // Imports once took a message with the root's name. It is below itself: who went down to it would never end.
    if (message.id === kRoot) continue;
    const family = children.get(message.parent);
    if (family) family.push(message);
    else children.set(message.parent, [message]);
  }
  for (const family of children.values()) family.sort((a, b) => a.created - b.created);
  families.set(messages, children);
  return children;
}

export const siblings = (chat: Conversation, parent: string): Message[] => childrenOf(chat).get(parent) ?? [];

/** The messages that are shown, from the first to the last. */
export function shownPath(chat: Conversation): Message[] {
  const children = childrenOf(chat);
  const path: Message[] = [];
  for (let parent = kRoot; ;) {
    const family = children.get(parent);
    if (!family) return path;
    const chosen = family.find(({ id }) => id === chat.selected[parent]) ?? family.at(-1)!;
    path.push(chosen);
    parent = chosen.id;
  }
}

export function addMessage(chat: Conversation, message: Message): Conversation {
  const first = message.role === 'user' && !chat.titleIsOwn && chat.title === '';
  return {
    ...chat,
    title: first ? titleFrom(message) : chat.title,
    updated: Date.now(),
    messages: { ...chat.messages, [message.id]: message },
    selected: { ...chat.selected, [message.parent]: message.id },
  };
}

export function changeMessage(chat: Conversation, id: string, change: Partial<Message>): Conversation {
  const message = chat.messages[id];
  if (!message) return chat;
  return { ...chat, updated: Date.now(), messages: { ...chat.messages, [id]: { ...message, ...change } } };
}

export const selectMessage = (chat: Conversation, { id, parent }: Message): Conversation => ({
  ...chat,
  selected: { ...chat.selected, [parent]: id },
});

/** Without the message and all that follows it; its neighbour is shown instead. */
export function removeMessage(chat: Conversation, id: string): Conversation {
  const gone = chat.messages[id];
  if (!gone) return chat;
  const messages = { ...chat.messages };
  const selected = { ...chat.selected };
  const waiting = [id];
  while (waiting.length > 0) {
    const next = waiting.pop()!;
    for (const child of siblings(chat, next)) waiting.push(child.id);
    delete messages[next];
    delete selected[next];
  }
  const family = siblings(chat, gone.parent);
  const at = family.findIndex((message) => message.id === id);
  const neighbour = family[at - 1] ?? family[at + 1];
  if (selected[gone.parent] === id) {
    if (neighbour) selected[gone.parent] = neighbour.id;
    else delete selected[gone.parent];
  }
  return { ...chat, updated: Date.now(), messages, selected };
}

/** Undoes removeMessage: what `before` had and `now` lacks comes back; what was written since stays. */
export const restoreMessage = (now: Conversation, before: Conversation, { id, parent }: Message): Conversation => ({
  ...now,
  updated: Date.now(),
  messages: { ...before.messages, ...now.messages },
  selected: { ...before.selected, ...now.selected, [parent]: id },
});

export function titleFrom({ text, attachments }: Pick<Message, 'text' | 'attachments'>): string {
  const line = text.trim().split('\n', 1)[0] || (attachments?.[0]?.name ?? '');
  const characters = [...line];
  return characters.length > 60 ? characters.slice(0, 59).join('').trimEnd() + '…' : line;
}

function wireMessage(message: Message): WireMessage {
  if (message.role === 'tool') return { role: 'tool', content: message.text, tool_call_id: message.toolCallId };
  if (message.role === 'user') return { role: 'user', content: fenced(message.text, message.attachments ?? []) };
  if (message.toolCalls?.length) return { role: 'assistant', content: message.text || null, tool_calls: message.toolCalls };
  return { role: 'assistant', content: message.text };
}

/** What the server is asked: the system prompt and the path up to `last`. Answers that failed before their first word are left out. */
export function wireMessages(chat: Conversation, last: string): WireMessage[] {
  const path: Message[] = [];
  for (let id = last; id !== kRoot && chat.messages[id]; id = chat.messages[id]!.parent) path.unshift(chat.messages[id]!);
  const said = path.filter(({ role, text, toolCalls }) => role !== 'assistant' || text !== '' || toolCalls?.length);
  const system: WireMessage[] = chat.system.trim() ? [{ role: 'system', content: chat.system }] : [];
  return [...system, ...said.map(wireMessage)];
}

/** The tool calls of `message` that have no result below it on the shown path. */
export function openToolCalls(path: Message[], message: Message): ToolCall[] {
  const answered = new Set(path.filter(({ role }) => role === 'tool').map(({ toolCallId }) => toolCallId));
  return (message.toolCalls ?? []).filter(({ id }) => !answered.has(id));
}
