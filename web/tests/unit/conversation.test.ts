// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import * as tree from '../../src/chat/conversation';

let clock = 0;
const message = (id: string, parent: string, role: tree.Role, more: Partial<tree.Message> = {}): tree.Message => ({
  id,
  parent,
  role,
  text: id,
  created: ++clock,
  ...more,
});
const ids = (chat: tree.Conversation) =>
  tree
    .shownPath(chat)
    .map(({ id }) => id)
    .join(' ');

/** u1 ─ a1 ─ u2 ─ a2, with a second answer b1 to u1. */
function sample(): tree.Conversation {
  let chat = tree.newConversation('m');
  for (const [id, parent, role] of [
    ['u1', '', 'user'],
    ['a1', 'u1', 'assistant'],
    ['u2', 'a1', 'user'],
    ['a2', 'u2', 'assistant'],
    ['b1', 'u1', 'assistant'],
  ] as const)
    chat = tree.addMessage(chat, message(id, parent, role));
  return chat;
}

test('shows the branch that was added last, and any that is chosen', () => {
  const chat = sample();
  expect(ids(chat)).toBe('u1 b1');
  expect(ids(tree.selectMessage(chat, chat.messages.a1!))).toBe('u1 a1 u2 a2');
  expect(tree.siblings(chat, 'u1').map(({ id }) => id)).toEqual(['a1', 'b1']);
});

test('removes a message with all below it, shows its neighbour, and brings it back', () => {
  const before = tree.selectMessage(sample(), sample().messages.a1!);
  const after = tree.removeMessage(before, 'a1');
  expect(Object.keys(after.messages).sort()).toEqual(['b1', 'u1']);
  expect(ids(after)).toBe('u1 b1');
  expect(ids(tree.restoreMessage(after, before, before.messages.a1!))).toBe('u1 a1 u2 a2');
  expect(tree.removeMessage(after, 'gone')).toBe(after);
});

test('an undo keeps what was written since', () => {
  const before = sample();
  let now = tree.removeMessage(before, 'b1');
  now = tree.addMessage(now, message('u3', 'a2', 'user'));
  const back = tree.restoreMessage(now, before, before.messages.b1!);
  expect(Object.keys(back.messages)).toContain('u3');
  expect(ids(back)).toBe('u1 b1');
});

test('leaves the old conversation as it was', () => {
  const chat = sample();
  const copy = structuredClone(chat);
  tree.removeMessage(chat, 'u1');
  tree.changeMessage(chat, 'a1', { text: 'x' });
  tree.addMessage(chat, message('z', 'b1', 'user'));
  expect(chat).toEqual(copy);
});

test('asks the server with system prompt, files, tool calls and results, but not with answers that failed unsaid', () => {
  let chat = tree.newConversation('m');
  chat.system = 'Be brief.';
  const call = { id: 'c1', type: 'function' as const, function: { name: 'f', arguments: '{}' } };
  chat = tree.addMessage(chat, message('u1', '', 'user', { text: 'Hi', attachments: [{ name: 'a.py', text: 'x = "```"' }] }));
  chat = tree.addMessage(chat, message('a1', 'u1', 'assistant', { text: '', toolCalls: [call] }));
  chat = tree.addMessage(chat, message('t1', 'a1', 'tool', { text: '7', toolCallId: 'c1' }));
  chat = tree.addMessage(chat, message('a2', 't1', 'assistant', { text: '' }));
  chat = tree.addMessage(chat, message('u2', 'a2', 'user', { text: 'And?' }));
  expect(tree.wireMessages(chat, 'u2')).toEqual([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hi\n\na.py:\n````py\nx = "```"\n````' },
    { role: 'assistant', content: null, tool_calls: [call] },
    { role: 'tool', content: '7', tool_call_id: 'c1' },
    { role: 'user', content: 'And?' },
  ]);
});

test('comes to an end where a stored message has the name of the root', () => {
  for (const parent of ['', 'u1']) {
    const before = sample();
    const chat = { ...before, messages: { ...before.messages, '': message('', parent, 'user') } };
    expect(ids(chat)).toBe('u1 b1');
    expect(tree.wireMessages(chat, 'b1').length).toBe(2);
    expect(ids(tree.removeMessage(chat, 'u1'))).toBe('');
  }
});

test('knows which tool calls wait', () => {
  let chat = tree.newConversation('m');
  const call = (id: string) => ({ id, type: 'function' as const, function: { name: id, arguments: '' } });
  chat = tree.addMessage(chat, message('a', '', 'assistant', { toolCalls: [call('1'), call('2')] }));
  chat = tree.addMessage(chat, message('t', 'a', 'tool', { toolCallId: '1' }));
  expect(tree.openToolCalls(tree.shownPath(chat), chat.messages.a!).map(({ id }) => id)).toEqual(['2']);
});

test('names a conversation after its first line, cut between characters', () => {
  expect(tree.titleFrom({ text: '  Hello\nthere' })).toBe('Hello');
  expect(tree.titleFrom({ text: '', attachments: [{ name: 'a.txt', text: '' }] })).toBe('a.txt');
  const long = tree.titleFrom({ text: '🌈'.repeat(80) });
  expect([...long].length).toBe(60);
});
