// SPDX-License-Identifier: Apache-2.0
// Conversations as a JSON file: written whole, read with suspicion. Nothing of a file is trusted but strings, numbers and the tree.
import type { Sampling, ToolCall } from '../api/types';
import { kRoot, newId, type Conversation, type Message, type Role } from './conversation';

const kFormat = 'puna-conversations';

export const exportedConversations = (conversations: Conversation[]) =>
  JSON.stringify({ format: kFormat, version: 1, conversations }, null, 1);

type Unknown = Record<string, unknown>;
const isObject = (value: unknown): value is Unknown => typeof value === 'object' && value !== null && !Array.isArray(value);
const text = (value: unknown) => (typeof value === 'string' ? value : '');
const time = (value: unknown) => (typeof value === 'number' && Number.isFinite(value) ? value : Date.now());

function sampling(value: unknown): Sampling {
  const result: Unknown = {};
  if (!isObject(value)) return {};
  for (const name of ['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens', 'seed'])
    if (typeof value[name] === 'number') result[name] = value[name];
  if (Array.isArray(value.stop)) result.stop = value.stop.filter((stop) => typeof stop === 'string');
  return result;
}

function toolCalls(value: unknown): ToolCall[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.filter(isObject).map((call) => {
    const made = isObject(call.function) ? call.function : {};
    return { id: text(call.id), type: 'function', function: { name: text(made.name), arguments: text(made.arguments) } };
  });
}

function message(value: unknown, id: string): Message | undefined {
  // A message with the root's name would be below itself.
  if (id === kRoot || !isObject(value) || !['user', 'assistant', 'tool'].includes(text(value.role))) return undefined;
  const attachments = Array.isArray(value.attachments)
    ? value.attachments.filter(isObject).map((file) => ({ name: text(file.name), text: text(file.text) }))
    : undefined;
  return {
    id,
    parent: text(value.parent),
    role: value.role as Role,
    text: text(value.text),
    created: time(value.created),
    attachments,
    model: text(value.model) || undefined,
    reasoning: text(value.reasoning) || undefined,
    toolCalls: toolCalls(value.toolCalls),
    toolCallId: text(value.toolCallId) || undefined,
    finish: text(value.finish) || undefined,
    edited: value.edited === true || undefined,
  };
}

function conversation(value: unknown): Conversation | undefined {
  if (!isObject(value) || !isObject(value.messages)) return undefined;
  const messages: Record<string, Message> = {};
  for (const [id, entry] of Object.entries(value.messages)) {
    const read = message(entry, id);
    if (read) messages[id] = read;
  }
  // A message whose parents run in a circle or lead nowhere would never be shown, or without end.
  for (const { id } of Object.values(messages)) if (!reachesRoot(messages, id)) delete messages[id];
  const selected: Record<string, string> = {};
  if (isObject(value.selected))
    for (const [parent, id] of Object.entries(value.selected))
      if (messages[text(id)]?.parent === parent) selected[parent] = text(id);
  return {
    id: newId(),
    title: text(value.title),
    titleIsOwn: value.titleIsOwn === true,
    created: time(value.created),
    updated: time(value.updated),
    model: text(value.model),
    system: text(value.system),
    sampling: sampling(value.sampling),
    tools: text(value.tools),
    messages,
    selected,
  };
}

function reachesRoot(messages: Record<string, Message>, id: string): boolean {
  const seen = new Set<string>();
  for (let at = id; at !== ''; at = messages[at]!.parent) {
    if (!messages[at] || seen.has(at)) return false;
    seen.add(at);
  }
  return true;
}

/** Throws where the file is not one of ours. Imported conversations get new ids: nothing stored is overwritten. */
export function importedConversations(file: string): Conversation[] {
  const value: unknown = JSON.parse(file);
  if (!isObject(value) || value.format !== kFormat || !Array.isArray(value.conversations)) throw new Error('format');
  return value.conversations.map(conversation).filter((chat) => chat !== undefined);
}
