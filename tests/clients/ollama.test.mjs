// SPDX-License-Identifier: Apache-2.0
// npm ollama against nano.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Ollama } from 'ollama';
import { capital, idle, key, occupy, startGuarded, startServer, sum, tools } from './server.mjs';
import { checkedFetch } from './shapes.mjs';

let server, guarded, client;
const { fetch, checked } = checkedFetch();
const connect = (to, more = {}) => new Ollama({ host: to.url, fetch, ...more });
const bearer = (value) => ({ headers: { Authorization: `Bearer ${value}` } });
const ask = (content, more = {}) => ({
  model: 'nano', messages: [{ role: 'user', content }], options: { temperature: 0, num_predict: 40, ...more.options },
  ...Object.fromEntries(Object.entries(more).filter(([name]) => name !== 'options')),
});

before(async () => {
  [server, guarded] = await Promise.all([startServer(), startGuarded()]);
  client = connect(server);
});
after(async () => {
  await Promise.all([server.stop(), guarded.stop()]);
  assert.ok((await checked()) >= 15);
});

test('a chat', async () => {
  const answer = await client.chat(ask(capital));
  assert.match(answer.message.content, /Paris/);
  assert.ok(answer.done && answer.done_reason === 'stop' && answer.eval_count > 0);
});

test('a streamed chat', async () => {
  let text = '', last;
  for await (const part of await client.chat(ask(capital, { stream: true }))) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, (await client.chat(ask(capital))).message.content);
  assert.ok(last.done && last.total_duration > 0);
});

test('a text', async () => {
  const answer = await client.generate({ model: 'nano', prompt: capital, options: { temperature: 0 } });
  assert.match(answer.response, /Paris/);
});

test('a streamed text', async () => {
  let text = '';
  const asked = { model: 'nano', prompt: capital, options: { temperature: 0 } };
  for await (const part of await client.generate({ ...asked, stream: true })) text += part.response;
  assert.equal(text, (await client.generate(asked)).response);
});

test('a raw text, and a system prompt', async () => {
  const raw = { model: 'nano', prompt: 'Once upon a time', raw: true, options: { temperature: 0, num_predict: 8 } };
  assert.ok((await client.generate(raw)).response);
  assert.ok((await client.generate({ model: 'nano', prompt: capital, system: 'You are kind.', options: { num_predict: 8 } })).response);
});

test('tools, and their results', async () => {
  const asked = ask(sum, { tools });
  const { message } = await client.chat(asked);
  const [call] = message.tool_calls;
  assert.equal(call.function.name, 'calculator');
  assert.match(call.function.arguments.expression, /127/);
  const messages = [...asked.messages, message, { role: 'tool', tool_name: 'calculator', content: '4318' }];
  assert.match((await client.chat({ ...asked, messages })).message.content, /4,?318/);
});

test('streamed tools', async () => {
  const calls = [];
  for await (const part of await client.chat(ask(sum, { tools, stream: true }))) calls.push(...(part.message.tool_calls ?? []));
  assert.deepEqual(calls.map((call) => call.function.name), ['calculator']);
});

test('an answer of a schema, and of JSON', async () => {
  const format = { type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } }, required: ['city'], additionalProperties: false };
  const answer = await client.chat(ask(capital, { format, options: { num_predict: 60 } }));
  assert.ok(['Paris', 'Rome'].includes(JSON.parse(answer.message.content).city));
  const json = await client.generate({ model: 'nano', prompt: capital, format: 'json', options: { temperature: 0, num_predict: 200 } });
  if (json.done_reason === 'stop') JSON.parse(json.response);
});

test('options', async () => {
  const options = { temperature: 1, seed: 5, top_k: 20, top_p: 0.9, min_p: 0.01, repeat_penalty: 1.1, num_predict: 20 };
  const [one, two] = [await client.chat(ask('Tell me a story.', { options })), await client.chat(ask('Tell me a story.', { options }))];
  assert.equal(one.message.content, two.message.content);
  const stopped = await client.chat(ask(capital, { options: { stop: [' capital'] } }));
  assert.doesNotMatch(stopped.message.content, /capital/);
  assert.equal((await client.chat(ask(capital, { options: { num_predict: 2 } }))).done_reason, 'length');
});

test('log-probabilities', async () => {
  const answer = await client.chat(ask(capital, { logprobs: true, top_logprobs: 3 }));
  assert.equal(answer.logprobs.map((one) => one.token).join(''), answer.message.content);
  assert.equal(answer.logprobs[0].top_logprobs.length, 3);
});

test('embeddings', async () => {
  const answer = await client.embed({ model: 'nano', input: ['a cat', 'a dog'] });
  assert.equal(answer.embeddings.length, 2);
  const length = Math.hypot(...answer.embeddings[0]);
  assert.ok(Math.abs(length - 1) < 1e-3, `their length is 1: ${length}`);
});

test('models', async () => {
  const { models } = await client.list();
  assert.equal(models.length, 1);
  assert.match(models[0].model, /^nano(:latest)?$/);
  await client.chat(ask(capital));
  assert.equal((await client.ps()).models.length, 1);
  const shown = await client.show({ model: 'nano' });
  assert.ok(shown.capabilities.includes('completion') && shown.capabilities.includes('tools'));
  assert.equal(shown.model_info['general.architecture'], 'llama');
  assert.ok((await client.version()).version);
});

test('a model is loaded and unloaded', async () => {
  assert.ok((await client.generate({ model: 'nano', prompt: '' })).done);
  assert.ok((await client.generate({ model: 'nano', prompt: '', keep_alive: 0 })).done);
});

test('what cannot be done: 400, 404', async () => {
  await assert.rejects(client.chat(ask(capital, { options: { temperature: -1 } })), { name: 'ResponseError', status_code: 400 });
  await assert.rejects(client.chat(ask('one two '.repeat(3000))), { status_code: 400 });
  await assert.rejects(client.chat(ask(capital, { model: 'nobody' })), { status_code: 404 });
  await assert.rejects(client.show({ model: 'nobody' }), { status_code: 404 });
  await assert.rejects(client.chat(ask(capital, { model: 'nobody', stream: true })), { status_code: 404 });
});

test('a wrong key: 401', async () => {
  await assert.rejects(connect(guarded, bearer('not-the-key-of-it')).list(), { status_code: 401 });
  assert.equal((await connect(guarded, bearer(key)).list()).models.length, 1);
});

test('a full server: 429', async () => {
  const free = await occupy(guarded.url);
  await assert.rejects(connect(guarded, bearer(key)).chat(ask(capital)), { status_code: 429 });
  free();
});

test('a client that stops listening', async () => {
  const stream = await client.chat(ask('Tell me a story.', { stream: true, options: { temperature: 1, num_predict: 900 } }));
  await assert.rejects(
    async () => {
      for await (const _ of stream) stream.abort();
    },
    { name: 'AbortError' },
  );
  await idle(server.url);
});
