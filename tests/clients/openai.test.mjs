// SPDX-License-Identifier: Apache-2.0
// npm openai against nano.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { capital, idle, key, occupy, pick, startGuarded, startServer, sum, tools } from './server.mjs';
import { checkedFetch } from './shapes.mjs';

let server, guarded, client;
const { fetch, checked } = checkedFetch();
const connect = (to, more = {}) => new OpenAI({ baseURL: `${to.url}/v1`, apiKey: key, maxRetries: 0, fetch, ...more });
const ask = (content, more = {}) => ({
  model: 'nano', messages: [{ role: 'user', content }], temperature: 0, max_completion_tokens: 40, ...more,
});

before(async () => {
  [server, guarded] = await Promise.all([startServer(), startGuarded()]);
  client = connect(server);
});
after(async () => {
  await Promise.all([server.stop(), guarded.stop()]);
  assert.ok((await checked()) >= 20);
});

test('a chat', async () => {
  const answer = await client.chat.completions.create(ask(capital));
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.ok(answer.usage.total_tokens > 0);
});

test('a streamed chat with its usage', async () => {
  const stream = await client.chat.completions.create(ask(capital, { stream: true, stream_options: { include_usage: true } }));
  let text = '', last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    last = chunk;
  }
  const whole = await client.chat.completions.create(ask(capital));
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(last.usage.total_tokens, whole.usage.total_tokens);
});

test('the helper that puts a stream together', async () => {
  const stream = client.chat.completions.stream(ask(capital));
  let text = '';
  stream.on('content', (delta) => (text += delta));
  assert.equal(await stream.finalContent(), text);
  assert.match(text, /Paris/);
});

test('tools, and their results', async () => {
  const asked = ask(sum, { tools });
  const { message, finish_reason: reason } = (await client.chat.completions.create(asked)).choices[0];
  assert.equal(reason, 'tool_calls');
  const [call] = message.tool_calls;
  assert.equal(call.function.name, 'calculator');
  const messages = [...asked.messages, message, { role: 'tool', tool_call_id: call.id, content: '4318' }];
  const answer = await client.chat.completions.create({ ...asked, messages });
  assert.match(answer.choices[0].message.content, /4,?318/);
});

test('streamed tools', async () => {
  const stream = client.chat.completions.stream(ask(sum, { tools }));
  const message = await stream.finalMessage();
  assert.equal(message.tool_calls.length, 1);
  assert.match(JSON.parse(message.tool_calls[0].function.arguments).expression, /127/);
});

test('the helper that runs tools', async () => {
  const run = { calculator: () => '4318', convert_units: () => '1', date_math: () => 'Monday' };
  const runnable = tools.map((tool) => ({ ...tool, function: { ...tool.function, function: run[tool.function.name], parse: JSON.parse } }));
  const runner = client.chat.completions.runTools(ask(sum, { tools: runnable }));
  assert.match(await runner.finalContent(), /4,?318/);
});

test('a tool that must be called', async () => {
  const choice = { type: 'function', function: { name: 'pick' } };
  const answer = await client.chat.completions.create(ask(sum, { tools: [...tools, pick], tool_choice: choice }));
  assert.equal(answer.choices[0].message.tool_calls[0].function.name, 'pick');
});

test('an answer of a schema', async () => {
  const City = z.object({ name: z.enum(['Paris', 'Rome']), large: z.boolean() });
  const format = { response_format: zodResponseFormat(City, 'city'), max_completion_tokens: 100 };
  const answer = await client.chat.completions.parse(ask(capital, format));
  assert.ok(['Paris', 'Rome'].includes(answer.choices[0].message.parsed.name));
  const stream = client.chat.completions.stream(ask(capital, format));
  assert.deepEqual((await stream.finalChatCompletion()).choices[0].message.parsed, answer.choices[0].message.parsed);
});

test('log-probabilities', async () => {
  const answer = await client.chat.completions.create(ask(capital, { logprobs: true, top_logprobs: 4 }));
  const { content } = answer.choices[0].logprobs;
  assert.equal(content.map((one) => one.token).join(''), answer.choices[0].message.content);
  assert.ok(content.every((one) => one.top_logprobs.length === 4));
});

test('several answers', async () => {
  const answer = await client.chat.completions.create(ask(capital, { n: 3, seed: 1, temperature: 1 }));
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
});

test('the same seed, stop strings, biases', async () => {
  const more = { temperature: 1, seed: 5 };
  const [one, two] = await Promise.all([1, 2].map(() => client.chat.completions.create(ask('Tell me a story.', more))));
  assert.equal(one.choices[0].message.content, two.choices[0].message.content);
  const stopped = await client.chat.completions.create(ask(capital, { stop: [' capital'], logit_bias: { 5: -1 } }));
  assert.doesNotMatch(stopped.choices[0].message.content, /capital/);
});

test('completions', async () => {
  const asked = { model: 'nano', prompt: 'Once upon a time', temperature: 0, max_tokens: 12 };
  const whole = await client.completions.create(asked);
  let text = '';
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) text += chunk.choices[0].text;
  assert.equal(text, whole.choices[0].text);
});

test('embeddings, as numbers and in base64', async () => {
  const numbers = await client.embeddings.create({ model: 'nano', input: ['a cat', 'a dog'], encoding_format: 'float' });
  const base64 = await client.embeddings.create({ model: 'nano', input: ['a cat', 'a dog'] }); // what the client asks for by itself
  assert.equal(numbers.data.length, 2);
  numbers.data[1].embedding.forEach((value, i) => assert.ok(Math.abs(value - base64.data[1].embedding[i]) < 1e-6));
});

test('responses', async () => {
  const answer = await client.responses.create({ model: 'nano', input: capital, temperature: 0 });
  assert.match(answer.output_text, /Paris/);
  let text = '', completed = false;
  for await (const event of await client.responses.create({ model: 'nano', input: capital, temperature: 0, stream: true })) {
    if (event.type === 'response.output_text.delta') text += event.delta;
    completed ||= event.type === 'response.completed';
  }
  assert.equal(text, answer.output_text);
  assert.ok(completed);
});

test('responses with tools', async () => {
  const own = tools.map((tool) => ({ type: 'function', strict: false, ...tool.function }));
  const answer = await client.responses.create({ model: 'nano', input: sum, temperature: 0, tools: own });
  const call = answer.output.find((item) => item.type === 'function_call');
  assert.equal(call.name, 'calculator');
  const input = [{ role: 'user', content: sum }, call, { type: 'function_call_output', call_id: call.call_id, output: '4318' }];
  const next = await client.responses.create({ model: 'nano', input, temperature: 0, tools: own });
  assert.match(next.output_text, /4,?318/);
});

test('models', async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names, ['nano']);
  assert.equal((await client.models.retrieve('nano')).owned_by, 'puna');
});

test('what cannot be done: 400, 404', async () => {
  await assert.rejects(client.chat.completions.create(ask(capital, { temperature: 9 })), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, 'temperature');
    return true;
  });
  await assert.rejects(client.chat.completions.create(ask('one two '.repeat(3000))), { code: 'context_length_exceeded' });
  await assert.rejects(client.chat.completions.create(ask(capital, { model: 'gpt-4o' })), OpenAI.NotFoundError);
  await assert.rejects(client.models.retrieve('nobody'), { code: 'model_not_found' });
  await assert.rejects(client.chat.completions.create(ask(capital, { stream: true, n: 99 })), { param: 'n' });
});

test('a wrong key: 401', async () => {
  await assert.rejects(connect(guarded, { apiKey: 'not-the-key-of-it' }).models.list(), OpenAI.AuthenticationError);
  assert.equal((await connect(guarded).models.list()).data.length, 1);
});

test('a full server: 429, and the client that tries again', async () => {
  const free = await occupy(guarded.url);
  await assert.rejects(connect(guarded).chat.completions.create(ask(capital)), OpenAI.RateLimitError);
  const patient = connect(guarded, { maxRetries: 8 }).chat.completions.create(ask(capital));
  setTimeout(free, 300);
  assert.match((await patient).choices[0].message.content, /Paris/);
});

test('a client that stops listening', async () => {
  const stream = await client.chat.completions.create(ask(capital, { stream: true, max_completion_tokens: 900, ignore_eos: true }));
  let chunks = 0;
  for await (const _ of stream) if (++chunks === 5) break;
  const abort = new AbortController();
  const asked = client.chat.completions.create(ask(capital, { max_completion_tokens: 900, ignore_eos: true }), { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await assert.rejects(asked, OpenAI.APIUserAbortError);
  await idle(server.url);
});

test('a time that is too short', async () => {
  const hasty = connect(server, { timeout: 30 });
  const asked = hasty.chat.completions.create(ask(capital, { max_completion_tokens: 900, ignore_eos: true, n: 16 }));
  await assert.rejects(asked, OpenAI.APIConnectionTimeoutError);
  await idle(server.url);
});
