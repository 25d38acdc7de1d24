// SPDX-License-Identifier: Apache-2.0
// npm @anthropic-ai/sdk against nano.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { capital, idle, key, occupy, pick, startGuarded, startServer, sum, tools } from './server.mjs';
import { checkedFetch } from './shapes.mjs';

let server, guarded, client;
const { fetch, checked } = checkedFetch();
const connect = (to, more = {}) => new Anthropic({ baseURL: to.url, apiKey: key, maxRetries: 0, fetch, ...more });
const ask = (content, more = {}) => ({ model: 'nano', max_tokens: 40, temperature: 0, messages: [{ role: 'user', content }], ...more });
const own = ({ function: { name, description, parameters } }) => ({ name, description, input_schema: parameters });
const ownTools = tools.map(own);
const textOf = (message) => message.content.filter((block) => block.type === 'text').map((block) => block.text).join('');

before(async () => {
  [server, guarded] = await Promise.all([startServer(), startGuarded()]);
  client = connect(server);
});
after(async () => {
  await Promise.all([server.stop(), guarded.stop()]);
  assert.ok((await checked()) >= 15);
});

test('a message', async () => {
  const message = await client.messages.create(ask(capital));
  assert.match(textOf(message), /Paris/);
  assert.equal(message.stop_reason, 'end_turn');
  assert.ok(message.usage.output_tokens > 0);
});

test('a streamed message', async () => {
  const whole = await client.messages.create(ask(capital));
  let text = '';
  for await (const event of await client.messages.create(ask(capital, { stream: true }))) {
    if (event.type === 'content_block_delta') text += event.delta.text;
  }
  assert.equal(text, textOf(whole));
});

test('the helper that puts a stream together', async () => {
  const stream = client.messages.stream(ask(capital));
  let text = '';
  stream.on('text', (delta) => (text += delta));
  const message = await stream.finalMessage();
  assert.equal(textOf(message), text);
  assert.equal(message.stop_reason, 'end_turn');
});

test('a system prompt, as text and in blocks', async () => {
  const one = await client.messages.create(ask(capital, { system: 'You are kind.' }));
  const two = await client.messages.create(ask(capital, { system: [{ type: 'text', text: 'You are kind.' }] }));
  assert.equal(textOf(one), textOf(two));
});

test('content in blocks, and an earlier answer', async () => {
  const messages = [
    { role: 'user', content: [{ type: 'text', text: 'Hi' }] }, { role: 'assistant', content: 'Hello!' },
    { role: 'user', content: [{ type: 'text', text: capital }] },
  ];
  assert.ok(textOf(await client.messages.create(ask('', { messages }))));
});

test('tools, and their results', async () => {
  const asked = ask(sum, { tools: ownTools });
  const message = await client.messages.create(asked);
  assert.equal(message.stop_reason, 'tool_use');
  const call = message.content.find((block) => block.type === 'tool_use');
  assert.equal(call.name, 'calculator');
  assert.match(call.input.expression, /127/);
  const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: '4318' }] };
  const messages = [...asked.messages, { role: 'assistant', content: message.content }, result];
  assert.match(textOf(await client.messages.create({ ...asked, messages })), /4,?318/);
});

test('streamed tools', async () => {
  const message = await client.messages.stream(ask(sum, { tools: ownTools })).finalMessage();
  assert.equal(message.stop_reason, 'tool_use');
  assert.match(message.content.at(-1).input.expression, /127/);
});

test('tools that must be called, and must not', async () => {
  const any = await client.messages.create(ask(capital, { tools: [own(pick)], tool_choice: { type: 'any' } }));
  assert.equal(any.stop_reason, 'tool_use');
  const choice = { type: 'tool', name: 'pick' };
  const named = await client.messages.create(ask(sum, { tools: [...ownTools, own(pick)], tool_choice: choice }));
  assert.equal(named.content.at(-1).name, 'pick');
  const none = await client.messages.create(ask(sum, { tools: ownTools, tool_choice: { type: 'none' } }));
  assert.ok(none.content.every((block) => block.type === 'text'));
});

test('stop sequences and lengths', async () => {
  const stopped = await client.messages.create(ask(capital, { stop_sequences: [' capital'] }));
  assert.deepEqual([stopped.stop_reason, stopped.stop_sequence], ['stop_sequence', ' capital']);
  const cut = await client.messages.create(ask(capital, { max_tokens: 2 }));
  assert.deepEqual([cut.stop_reason, cut.usage.output_tokens], ['max_tokens', 2]);
});

test('sampling', async () => {
  assert.ok(textOf(await client.messages.create(ask(capital, { temperature: 1, top_p: 0.9, top_k: 20, metadata: { user_id: 'x' } }))));
});

test('counting tokens', async () => {
  const { max_tokens: _, temperature: __, ...asked } = ask(capital);
  const count = await client.messages.countTokens(asked);
  const message = await client.messages.create(ask(capital));
  const { input_tokens: read, cache_read_input_tokens: cached } = message.usage;
  assert.equal(count.input_tokens, read + (cached ?? 0));
});

test('what cannot be done: 400, 404', async () => {
  await assert.rejects(client.messages.create(ask(capital, { temperature: 9 })), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create(ask('one two '.repeat(3000))), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create(ask(capital, { model: 'claude-opus-4' })), Anthropic.NotFoundError);
  await assert.rejects(client.messages.create(ask(capital, { unknown: 1 })), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create(ask(capital, { stream: true, max_tokens: 0 })), Anthropic.BadRequestError);
});

test('a wrong key: 401', async () => {
  await assert.rejects(connect(guarded, { apiKey: 'not-the-key-of-it' }).messages.create(ask(capital)), Anthropic.AuthenticationError);
  assert.ok(textOf(await connect(guarded).messages.create(ask(capital))));
});

test('a full server: 429, and the client that tries again', async () => {
  const free = await occupy(guarded.url);
  await assert.rejects(connect(guarded).messages.create(ask(capital)), Anthropic.RateLimitError);
  const patient = connect(guarded, { maxRetries: 8 }).messages.create(ask(capital));
  setTimeout(free, 300);
  assert.match(textOf(await patient), /Paris/);
});

test('a client that stops listening', async () => {
  const story = ask('Tell me a story.', { max_tokens: 900, temperature: 1 });
  for await (const _ of await client.messages.create({ ...story, stream: true })) break;
  // Before anything is read: an answer that is there whole when it is given up would leave finalMessage() without an end.
  const stream = client.messages.stream(story);
  stream.on('connect', () => stream.abort());
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  await idle(server.url);
});
