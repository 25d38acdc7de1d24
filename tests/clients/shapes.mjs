// SPDX-License-Identifier: Apache-2.0
// A fetch whose answers are checked against tests/golden/server while a client reads them.
import Ajv2020 from 'ajv/dist/2020.js';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';

const folder = new URL('../golden/server/', import.meta.url);
const ajv = new Ajv2020({ allErrors: false, strict: true, allowUnionTypes: true });
const validators = new Map();
for (const file of readdirSync(folder)) {
  validators.set(file.replace('.schema.json', ''), ajv.compile(JSON.parse(readFileSync(new URL(file, folder)))));
}

export function checkShape(value, name) {
  const validate = validators.get(name);
  assert.ok(validate, `there is no schema ${name}`);
  assert.ok(validate(value), `${name}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(value)}`);
  return value;
}

// By path: the shape of an answer, of an event of it, and of a refusal.
const shapes = [
  [/^\/v1\/chat\/completions$/, 'chat_completion', 'chat_completion_chunk', 'error'],
  [/^\/v1\/completions$/, 'completion', 'completion_chunk', 'error'],
  [/^\/v1\/embeddings$/, 'embedding_list', null, 'error'],
  [/^\/v1\/models$/, 'model_list', null, 'error'],
  [/^\/v1\/models\/.+$/, 'model', null, 'error'],
  [/^\/v1\/responses$/, 'response', 'response_event', 'error'],
  [/^\/v1\/messages\/count_tokens$/, 'message_tokens', null, 'message_error'],
  [/^\/v1\/messages$/, 'message', 'message_event', 'message_error'],
  [/^\/api\/chat$/, 'ollama_chat', 'ollama_chat', 'ollama_error'],
  [/^\/api\/generate$/, 'ollama_generate', 'ollama_generate', 'ollama_error'],
  [/^\/api\/embed$/, 'ollama_embed', null, 'ollama_error'],
  [/^\/api\/(tags|ps|show|version)$/, null, null, 'ollama_error'],
];

function checkText(text, path, status, type) {
  const row = shapes.find(([pattern]) => pattern.test(path));
  if (!row) return;
  const [, whole, event, refusal] = row;
  if (status >= 400) return checkShape(JSON.parse(text), refusal);
  if (type.startsWith('text/event-stream')) {
    assert.ok(text.endsWith('\n\n'), 'a stream ends with a blank line');
    for (const frame of text.slice(0, -2).split('\n\n')) {
      const data = frame.split('\n').find((line) => line.startsWith('data: '));
      if (data && data !== 'data: [DONE]') checkShape(JSON.parse(data.slice(6)), event);
    }
  } else if (type.startsWith('application/x-ndjson')) {
    for (const line of text.trimEnd().split('\n')) checkShape(JSON.parse(line), event);
  } else {
    checkShape(JSON.parse(text), whole ?? `ollama_${path.slice(5)}`);
  }
}

// `fetch` for a client, and `checked()`, which fails where an answer that came through it had not its shape, and counts them.
export function checkedFetch() {
  const checks = [];
  const fetchAndCheck = async (resource, options) => {
    const response = await fetch(resource, options);
    const path = new URL(resource.url ?? resource).pathname;
    const copy = response.clone();
    const check = copy.text().then(
      (text) => checkText(text, path, response.status, response.headers.get('content-type') ?? ''),
      () => {}, // an answer that its client did not want to the end
    );
    check.catch(() => {}); // told by checked()
    checks.push(check);
    return response;
  };
  return {
    fetch: fetchAndCheck,
    async checked() {
      await Promise.all(checks);
      return checks.length;
    },
  };
}
