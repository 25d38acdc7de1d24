// SPDX-License-Identifier: Apache-2.0
// npm @langchain/openai against nano. It needs Node 20.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AIMessage, HumanMessage, SystemMessage, ToolMessage } from '@langchain/core/messages';
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { z } from 'zod';
import { capital, idle, key, occupy, pick, startGuarded, startServer, sum, tools } from './server.mjs';
import { checkedFetch } from './shapes.mjs';

let server, guarded;
const { fetch, checked } = checkedFetch();
const options = (to, more) => ({
  model: 'nano', apiKey: key, temperature: 0, maxTokens: 40, maxRetries: 0, configuration: { baseURL: `${to.url}/v1`, fetch }, ...more,
});
const chat = (more = {}, to = server) => new ChatOpenAI(options(to, more));
const City = z.object({ name: z.enum(['Paris', 'Rome']), large: z.boolean() });

before(async () => {
  [server, guarded] = await Promise.all([startServer(), startGuarded()]);
});
after(async () => {
  await Promise.all([server.stop(), guarded.stop()]);
  assert.ok((await checked()) >= 15);
});

test('a chat', async () => {
  const answer = await chat().invoke(capital);
  assert.match(answer.content, /Paris/);
  assert.ok(answer.usage_metadata.total_tokens > 0);
  assert.equal(answer.response_metadata.finish_reason, 'stop');
});

test('a conversation', async () => {
  const messages = [new SystemMessage('You are kind.'), new HumanMessage('Hi'), new AIMessage('Hello!'), new HumanMessage(capital)];
  assert.ok((await chat().invoke(messages)).content);
});

test('a streamed chat and its usage', async () => {
  let all;
  for await (const chunk of await chat({ streamUsage: true }).stream(capital)) all = all ? all.concat(chunk) : chunk;
  assert.equal(all.content, (await chat().invoke(capital)).content);
  assert.ok(all.usage_metadata.total_tokens > 0);
});

test('several at once', async () => {
  const answers = await chat().batch([capital, 'Hi', sum]);
  assert.equal(answers.length, 3);
  assert.match(answers[0].content, /Paris/);
});

test('several answers', async () => {
  const { generations } = await chat({ n: 3, temperature: 1 }).generate([[new HumanMessage(capital)]]);
  assert.equal(generations[0].length, 3);
});

test('tools, and their results', async () => {
  const model = chat().bindTools(tools);
  const asked = await model.invoke(sum);
  const [call] = asked.tool_calls;
  assert.equal(call.name, 'calculator');
  assert.match(call.args.expression, /127/);
  const answer = await model.invoke([new HumanMessage(sum), asked, new ToolMessage({ content: '4318', tool_call_id: call.id })]);
  assert.match(answer.content, /4,?318/);
});

test('streamed tools', async () => {
  let all;
  for await (const chunk of await chat().bindTools(tools).stream(sum)) all = all ? all.concat(chunk) : chunk;
  assert.deepEqual(all.tool_calls.map((call) => call.name), ['calculator']);
});

test('tools that must be called, and must not', async () => {
  const required = await chat().bindTools([pick], { tool_choice: 'required' }).invoke(capital);
  assert.ok(required.tool_calls.length >= 1);
  const named = await chat().bindTools([...tools, pick], { tool_choice: 'pick' }).invoke(sum);
  assert.equal(named.tool_calls[0].name, 'pick');
  assert.equal((await chat().bindTools(tools, { tool_choice: 'none' }).invoke(sum)).tool_calls.length, 0);
});

test('an answer of a schema', async () => {
  const model = chat({ maxTokens: 100 });
  const bySchema = await model.withStructuredOutput(City, { method: 'jsonSchema' }).invoke(capital);
  assert.ok(['Paris', 'Rome'].includes(bySchema.name));
  const byCall = await model.withStructuredOutput(City, { method: 'functionCalling' }).invoke(capital);
  assert.equal(typeof byCall.large, 'boolean');
});

test('an answer of JSON', async () => {
  const answer = await chat({ maxTokens: 200, modelKwargs: { response_format: { type: 'json_object' } } }).invoke(capital);
  if (answer.response_metadata.finish_reason === 'stop') JSON.parse(answer.content);
});

test('log-probabilities', async () => {
  const answer = await chat({ logprobs: true, topLogprobs: 3 }).invoke(capital);
  assert.equal(answer.response_metadata.logprobs.content.map((one) => one.token).join(''), answer.content);
});

test('stop strings, lengths, penalties', async () => {
  assert.doesNotMatch((await chat().invoke(capital, { stop: [' capital'] })).content, /capital/);
  assert.equal((await chat({ maxTokens: 2 }).invoke(capital)).response_metadata.finish_reason, 'length');
  assert.ok((await chat({ frequencyPenalty: 0.5, presencePenalty: 0.5, topP: 0.9 }).invoke(capital)).content);
});

test('a completion', async () => {
  const model = new OpenAI(options(server, { maxTokens: 10 }));
  const text = await model.invoke('Once upon a time');
  let streamed = '';
  for await (const part of await model.stream('Once upon a time')) streamed += part;
  assert.equal(streamed, text);
});

test('embeddings', async () => {
  const embedder = new OpenAIEmbeddings({ model: 'nano', apiKey: key, configuration: { baseURL: `${server.url}/v1`, fetch } });
  assert.equal((await embedder.embedDocuments(['a cat', 'a dog'])).length, 2);
  assert.ok((await embedder.embedQuery('a cat')).length > 0);
});

test('the responses API', async () => {
  const answer = await chat({ useResponsesApi: true }).invoke(capital);
  assert.match(answer.text, /Paris/);
});

test('what cannot be done: 400, 404', async () => {
  await assert.rejects(chat({ temperature: 9 }).invoke(capital), { status: 400 });
  await assert.rejects(chat().invoke('one two '.repeat(3000)), { status: 400 });
  await assert.rejects(chat({ model: 'gpt-4o' }).invoke(capital), { status: 404 });
  await assert.rejects(async () => {
    for await (const _ of await chat({ temperature: 9 }).stream(capital));
  }, { status: 400 });
});

test('a wrong key: 401', async () => {
  await assert.rejects(chat({ apiKey: 'not-the-key-of-it' }, guarded).invoke(capital), { status: 401 });
});

test('a full server: 429, and the client that tries again', async () => {
  const free = await occupy(guarded.url);
  await assert.rejects(chat({}, guarded).invoke(capital), { status: 429 });
  const patient = chat({ maxRetries: 5 }, guarded).invoke(capital);
  setTimeout(free, 300);
  assert.match((await patient).content, /Paris/);
});

test('a client that stops listening', async () => {
  const abort = new AbortController();
  const stream = await chat({ temperature: 1, maxTokens: 900 }).stream('Tell me a story.', { signal: abort.signal });
  await assert.rejects(async () => {
    for await (const _ of stream) abort.abort();
  });
  await idle(server.url);
});
