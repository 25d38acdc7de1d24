// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { addMessage, newConversation, shownPath, type Conversation } from '../../src/chat/conversation';
import { exportedConversations, importedConversations } from '../../src/chat/exchange';

function sample(): Conversation {
  let chat = { ...newConversation('m'), system: 'S', sampling: { temperature: 0.5, stop: ['x'] } };
  chat = addMessage(chat, {
    id: 'u',
    parent: '',
    role: 'user',
    text: 'Hi',
    created: 1,
    attachments: [{ name: 'a', text: 'b' }],
  }) as typeof chat;
  return addMessage(chat, {
    id: 'a',
    parent: 'u',
    role: 'assistant',
    text: 'Yes',
    created: 2,
    model: 'm',
    toolCalls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
  });
}
const file = (conversations: unknown) => JSON.stringify({ format: 'puna-conversations', version: 1, conversations });

test('what is written is read again, under a new id', () => {
  const [chat] = importedConversations(exportedConversations([sample()]));
  expect(chat!.id).not.toBe(sample().id);
  expect({ ...chat, id: '', created: 0, updated: 0 }).toEqual({ ...sample(), id: '', created: 0, updated: 0 });
});

test('refuses other files', () => {
  for (const text of [
    '',
    '[]',
    '{}',
    'null',
    '{"format":"other","conversations":[]}',
    '{"format":"puna-conversations","conversations":{}}',
  ])
    expect(() => importedConversations(text)).toThrow();
});

test('takes only what it knows, in its type', () => {
  const [chat, ...rest] = importedConversations(
    file([
      {
        title: { evil: 1 },
        sampling: { temperature: 'hot', top_k: 3, stop: [1, 's'], other: 1 },
        messages: { u: { role: 'user', text: 5, extra: '<b>' }, s: { role: 'system', text: 'x' }, n: null },
        selected: { '': 'u', u: 'nowhere' },
      },
      7,
      null,
      { messages: [] },
    ]),
  );
  expect(rest).toEqual([]);
  expect(chat).toMatchObject({ title: '', sampling: { top_k: 3, stop: ['s'] }, selected: { '': 'u' } });
  expect(Object.keys(chat!.messages)).toEqual(['u']);
  expect(chat!.messages.u).toMatchObject({ text: '', role: 'user' });
  expect(chat!.messages.u).not.toHaveProperty('extra');
});

test('leaves out messages that run in a circle or hang from nothing', () => {
  const [chat] = importedConversations(
    file([
      {
        messages: {
          a: { role: 'user', parent: 'b' },
          b: { role: 'user', parent: 'a' },
          c: { role: 'user', parent: 'none' },
          d: { role: 'user' },
          '': { role: 'user', parent: 'd' },
        },
      },
    ]),
  );
  expect(Object.keys(chat!.messages)).toEqual(['d']);
  expect(shownPath(chat!).map(({ id }) => id)).toEqual(['d']);
});
