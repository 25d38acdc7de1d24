// SPDX-License-Identifier: Apache-2.0
// The conversations that are open and the answers that are being written. An answer goes on while the person looks elsewhere.
import { signal, type Signal } from '@preact/signals';
import { emptyAnswer, streamChat, tokensPerSecond, type Answer } from '../api/chat_stream';
import { ApiError } from '../api/client';
import { defaultModel, modelEntry, refreshServer } from '../api/server_state';
import { StreamAnnouncer } from '../interface/announcer';
import { go } from '../interface/route';
import { t } from '../text/language';
import type { Attachment } from './attachments';
import * as tree from './conversation';
import { forgetConversation, loadConversation, onOtherTab, saveConversation, savePartial } from './conversation_store';
import { parseTools } from './tools';

const kRenderMs = 50;
const kSaveMs = 2000;

/** An answer on its way: `answer` changes at most each 50 ms; at `ended` all of it is in the conversation. */
export interface Live {
  messageId: string;
  answer: Signal<Answer>;
  stop: AbortController;
  ended: Promise<void>;
}

const open = new Map<string, Signal<tree.Conversation | null>>();
export const lives = signal<ReadonlyMap<string, Live>>(new Map());
/** Conversations that another tab has changed while they were answered here. */
const missed = new Set<string>();
/** The conversation without a message: what is begun in it is there again after a look elsewhere. */
let fresh: Signal<tree.Conversation | null> | undefined;

/** The conversation's signal; null where none of that id is stored. */
export async function openConversation(id: string): Promise<Signal<tree.Conversation | null>> {
  const known = open.get(id);
  if (known) return known;
  const stored = signal<tree.Conversation | null>((await loadConversation(id).catch(() => undefined)) ?? null);
  if (stored.value) open.set(id, stored);
  return stored;
}

/** The same one until its first message is sent. */
export function startConversation(): Signal<tree.Conversation | null> {
  if (fresh) return fresh;
  const chat = tree.newConversation(defaultModel.value);
  fresh = signal<tree.Conversation | null>(chat);
  open.set(chat.id, fresh);
  return fresh;
}

export function update(id: string, change: (chat: tree.Conversation) => tree.Conversation, save = true) {
  const held = open.get(id);
  if (!held?.value) return;
  held.value = change(held.value);
  // A conversation without a message is not worth a line in the list.
  if (save && Object.keys(held.value.messages).length > 0) void saveConversation(held.value);
}

export async function deleteConversation(id: string): Promise<tree.Conversation | null> {
  stopAnswer(id);
  // What was written of the answer is to come back as well.
  await lives.value.get(id)?.ended;
  const chat = (await openConversation(id)).value;
  open.delete(id);
  await forgetConversation(id);
  return chat;
}

export async function restoreConversation(chat: tree.Conversation) {
  open.set(chat.id, signal<tree.Conversation | null>(chat));
  await saveConversation(chat);
}

/** Shows what is stored by now. What another tab has deleted stays open here, and is stored again with its next change. */
async function catchUp(id: string): Promise<void> {
  const held = open.get(id);
  if (!held) return;
  const before = held.value;
  const found = await loadConversation(id).catch(() => undefined);
  // What was written here meanwhile may have been stored too late to be in `found`.
  if (held.value !== before) return catchUp(id);
  if (found) held.value = found;
}

onOtherTab((id) => {
  if (lives.value.has(id)) missed.add(id);
  else void catchUp(id);
});

const leafOf = (chat: tree.Conversation) => tree.shownPath(chat).at(-1)?.id ?? tree.kRoot;

function newMessage(parent: string, role: tree.Role, change: Partial<tree.Message>): tree.Message {
  return { id: tree.newId(), parent, role, text: '', created: Date.now(), ...change };
}

export function sendMessage(id: string, text: string, attachments: Attachment[]) {
  const held = open.get(id);
  const chat = held?.value;
  if (!chat) return;
  if (held === fresh) fresh = undefined;
  go('chat', id);
  askAfter(id, newMessage(leafOf(chat), 'user', { text, attachments: attachments.length ? attachments : undefined }));
}

/** The same question, put differently: a sibling of the old one. */
export const branchFrom = (id: string, old: tree.Message, text: string) =>
  askAfter(id, newMessage(old.parent, 'user', { text, attachments: old.attachments }));

function askAfter(id: string, message: tree.Message) {
  // One answer at a time: what would not be asked now is not kept either.
  if (lives.value.has(id)) return;
  update(id, (chat) => tree.addMessage(chat, message));
  answer(id, message.id);
}

export function sendToolResults(id: string, parent: string, results: { callId: string; text: string }[]) {
  if (lives.value.has(id)) return;
  let last = parent;
  for (const { callId, text } of results) {
    const message = newMessage(last, 'tool', { text, toolCallId: callId });
    update(id, (chat) => tree.addMessage(chat, message));
    last = message.id;
  }
  answer(id, last);
}

export const stopAnswer = (id: string) => lives.value.get(id)?.stop.abort();

function setLive(id: string, live: Live | undefined) {
  const next = new Map(lives.value);
  if (live) next.set(id, live);
  else next.delete(id);
  lives.value = next;
}

/** A new answer below `parent`; failed answers without a word are taken away first. */
export function answer(id: string, parent: string) {
  const held = open.get(id);
  if (!held?.value || lives.value.has(id)) return;
  for (const { id: old, text, failure, toolCalls } of tree.siblings(held.value, parent))
    if (failure && text === '' && !toolCalls?.length) update(id, (chat) => tree.removeMessage(chat, old), false);
  const chat = held.value;
  const model = chat.model || defaultModel.value;
  const message = newMessage(parent, 'assistant', { model });
  const begun = { messageId: message.id, answer: signal(emptyAnswer()), stop: new AbortController() };
  update(id, (now) => tree.addMessage(now, message));
  setLive(id, { ...begun, ended: keepAnswer(id, chat, { parent, model, live: begun, gathered: emptyAnswer() }) });
}

interface Following {
  parent: string;
  model: string;
  live: Omit<Live, 'ended'>;
  gathered: Answer;
}

async function keepAnswer(id: string, chat: tree.Conversation, following: Following): Promise<void> {
  const { model, live, gathered } = following;
  const end = await follow(id, chat, following);
  while (missed.delete(id)) await catchUp(id);
  update(id, (now) => tree.changeMessage(now, live.messageId, { ...recorded(gathered, model), ...end }));
  setLive(id, undefined);
  void refreshServer();
}

async function follow(
  id: string,
  chat: tree.Conversation,
  { parent, model, live, gathered }: Following,
): Promise<Partial<tree.Message>> {
  const speaker = new StreamAnnouncer();
  let saved = performance.now();
  let timer = 0;
  const show = () => {
    timer = 0;
    live.answer.value = { ...gathered };
    speaker.grow(gathered.text);
    if (performance.now() - saved < kSaveMs) return;
    saved = performance.now();
    const begun = open.get(id)?.value?.messages[live.messageId];
    if (begun) void savePartial(id, { ...begun, ...recorded(gathered, model) });
  };
  const parsed = parseTools(chat.tools);
  const tools = 'tools' in parsed && parsed.tools.length > 0 ? parsed.tools : undefined;
  const request = { ...chat.sampling, model, messages: tree.wireMessages(chat, parent), tools };
  try {
    await streamChat(request, gathered, live.stop.signal, () => (timer ||= window.setTimeout(show, kRenderMs)));
    const called = gathered.toolCalls.find(Boolean)?.function.name;
    speaker.finish(gathered.text, called ? t('tool.waits', { name: called }) : t('chat.answered'));
    return { finish: gathered.finish || 'stop', failure: undefined };
  } catch (cause) {
    if (live.stop.signal.aborted) return { finish: 'stopped' };
    const failure = failureOf(cause);
    speaker.finish('', failure.message || t('error.lost'));
    return { finish: 'error', failure };
  } finally {
    clearTimeout(timer);
  }
}

export function failureOf(cause: unknown): tree.Failure {
  if (cause instanceof ApiError) {
    const { message, status, code, retryAfter } = cause;
    return { message, status, code, retryAfter };
  }
  return { message: String(cause), status: 0, code: '', retryAfter: 0 };
}

function recorded(gathered: Answer, model: string): Partial<tree.Message> {
  const { text, reasoning, toolCalls, usage, timings, firstTokenMs } = gathered;
  return {
    text,
    reasoning: reasoning || undefined,
    toolCalls: toolCalls.length ? toolCalls.filter(Boolean).map((call, i) => ({ ...call, id: call.id || `call_${i}` })) : undefined,
    figures: {
      tokensPerSecond: tokensPerSecond(gathered),
      firstTokenMs,
      usage,
      timings,
      context: modelEntry(model)?.puna?.context,
    },
  };
}
