// SPDX-License-Identifier: Apache-2.0
// npm ai with @ai-sdk/openai-compatible against nano.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embed, embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';
import { capital, idle, key, occupy, pick, startGuarded, startServer, sum, tools } from './server.mjs';
import { checkedFetch } from './shapes.mjs';

let server, guarded, provider, model;
const { fetch, checked } = checkedFetch();
const connect = (to, apiKey = key) => createOpenAICompatible({
  name: 'puna', baseURL: `${to.url}/v1`, apiKey, fetch, includeUsage: true, supportsStructuredOutputs: true,
});
const ask = (prompt, more = {}) => ({ model, prompt, temperature: 0, maxOutputTokens: 40, maxRetries: 0, ...more });
const results = { calculator: '4318', convert_units: '1', date_math: 'Monday' };
const described = ({ function: { description, parameters } }) => ({ description, inputSchema: jsonSchema(parameters) });
const calledOnly = Object.fromEntries(tools.map((one) => [one.function.name, tool(described(one))]));
const picking = { pick: tool(described(pick)) };
const runnable = Object.fromEntries(
  tools.map((one) => [one.function.name, tool({ ...described(one), execute: async () => results[one.function.name] })]),
);
const City = z.object({ name: z.enum(['Paris', 'Rome']), large: z.boolean() });

before(async () => {
  [server, guarded] = await Promise.all([startServer(), startGuarded()]);
  provider = connect(server);
  model = provider('nano');
});
after(async () => {
  await Promise.all([server.stop(), guarded.stop()]);
  assert.ok((await checked()) >= 15);
});

test('a text', async () => {
  const { text, finishReason, usage } = await generateText(ask(capital));
  assert.match(text, /Paris/);
  assert.equal(finishReason, 'stop');
  assert.ok(usage.totalTokens > 0);
});

test('a streamed text, its reason and its usage', async () => {
  const result = streamText(ask(capital));
  let text = '';
  for await (const part of result.textStream) text += part;
  const whole = await generateText(ask(capital));
  assert.equal(text, whole.text);
  assert.equal(await result.finishReason, 'stop');
  assert.equal((await result.usage).totalTokens, whole.usage.totalTokens);
});

test('the parts of a stream', async () => {
  const types = new Set();
  for await (const part of streamText(ask(capital)).fullStream) types.add(part.type);
  for (const type of ['start', 'text-start', 'text-delta', 'text-end', 'finish']) assert.ok(types.has(type), type);
  assert.ok(!types.has('error'));
});

test('a conversation with a system prompt', async () => {
  const messages = [{ role: 'user', content: 'Hi' }, { role: 'assistant', content: 'Hello!' }, { role: 'user', content: capital }];
  assert.ok((await generateText({ model, system: 'You are kind.', messages, maxOutputTokens: 20 })).text);
});

test('tools', async () => {
  const { toolCalls, finishReason } = await generateText(ask(sum, { tools: calledOnly }));
  assert.equal(finishReason, 'tool-calls');
  assert.equal(toolCalls[0].toolName, 'calculator');
  assert.match(toolCalls[0].input.expression, /127/);
});

test('tools that are run, in steps', async () => {
  const { text, steps } = await generateText(ask(sum, { tools: runnable, stopWhen: stepCountIs(3) }));
  assert.match(text, /4,?318/);
  assert.equal(steps.length, 2);
});

test('streamed tools that are run', async () => {
  const result = streamText(ask(sum, { tools: runnable, stopWhen: stepCountIs(3) }));
  const types = [];
  for await (const part of result.fullStream) types.push(part.type);
  assert.equal(types.filter((type) => type === 'tool-call').length, 1);
  assert.equal(types.filter((type) => type === 'tool-result').length, 1);
  assert.match(await result.text, /4,?318/);
});

test('tools that must be called, and must not', async () => {
  const required = await generateText(ask(capital, { tools: picking, toolChoice: 'required' }));
  assert.ok(required.toolCalls.length >= 1);
  const choice = { type: 'tool', toolName: 'pick' };
  const named = await generateText(ask(sum, { tools: { ...calledOnly, ...picking }, toolChoice: choice }));
  assert.equal(named.toolCalls[0].toolName, 'pick');
  assert.equal((await generateText(ask(sum, { tools: calledOnly, toolChoice: 'none' }))).toolCalls.length, 0);
});

test('an object of a schema', async () => {
  const { object } = await generateObject(ask(capital, { schema: City, maxOutputTokens: 100 }));
  assert.ok(['Paris', 'Rome'].includes(object.name));
});

test('a streamed object of a schema', async () => {
  const result = streamObject(ask(capital, { schema: City, maxOutputTokens: 100 }));
  let parts = 0;
  for await (const _ of result.partialObjectStream) ++parts;
  assert.ok(parts > 1);
  assert.equal(typeof (await result.object).large, 'boolean');
});

test('seeds, stop sequences, lengths', async () => {
  const more = { temperature: 1, seed: 3, topP: 0.9 };
  assert.equal((await generateText(ask('Tell me a story.', more))).text, (await generateText(ask('Tell me a story.', more))).text);
  assert.doesNotMatch((await generateText(ask(capital, { stopSequences: [' capital'] }))).text, /capital/);
  assert.equal((await generateText(ask(capital, { maxOutputTokens: 2 }))).finishReason, 'length');
});

test('a completion', async () => {
  const asked = { model: provider.completionModel('nano'), prompt: 'Once upon a time', temperature: 0, maxOutputTokens: 10 };
  const { text } = await generateText(asked);
  let streamed = '';
  for await (const part of streamText(asked).textStream) streamed += part;
  assert.equal(streamed, text);
});

test('embeddings', async () => {
  const embedder = provider.embeddingModel('nano');
  const { embedding } = await embed({ model: embedder, value: 'a cat' });
  const { embeddings } = await embedMany({ model: embedder, values: ['a cat', 'a dog'] });
  assert.equal(embeddings.length, 2);
  assert.equal(embedding.length, embeddings[0].length);
});

test('what cannot be done: 400, 404', async () => {
  const status = (statusCode) => (error) => APICallError.isInstance(error) && error.statusCode === statusCode;
  await assert.rejects(generateText(ask(capital, { temperature: 9 })), status(400));
  await assert.rejects(generateText(ask('one two '.repeat(3000))), status(400));
  await assert.rejects(generateText(ask(capital, { model: provider('gpt-4o') })), status(404));
  let told;
  const result = streamText(ask(capital, { temperature: 9, onError: ({ error }) => (told = error) }));
  await result.consumeStream();
  assert.ok(status(400)(told));
});

test('a wrong key: 401', async () => {
  const asked = ask(capital, { model: connect(guarded, 'not-the-key-of-it')('nano') });
  await assert.rejects(generateText(asked), (error) => error.statusCode === 401 && !error.isRetryable);
});

test('a full server: 429, and the client that tries again', async () => {
  const free = await occupy(guarded.url);
  const full = ask(capital, { model: connect(guarded)('nano') });
  await assert.rejects(generateText(full), (error) => error.statusCode === 429 && error.isRetryable);
  const patient = generateText({ ...full, maxRetries: 5 });
  setTimeout(free, 300);
  assert.match((await patient).text, /Paris/);
});

test('a client that stops listening', async () => {
  const abort = new AbortController();
  const result = streamText(ask('Tell me a story.', { temperature: 1, maxOutputTokens: 900, abortSignal: abort.signal }));
  const types = new Set();
  for await (const part of result.fullStream) {
    types.add(part.type);
    if (part.type === 'text-delta') abort.abort();
  }
  assert.ok(types.has('abort'));
  await idle(server.url);
});
