// SPDX-License-Identifier: Apache-2.0
// A running `puna serve`, for one file of tests; PUNA is the program's path. Its prompts mention one date, whenever it runs: a
// small model's words depend on it.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

export const key = 'a-key-for-the-clients-tests';
export const tools = JSON.parse(readFileSync(new URL('../../recipes/nano/tools.json', import.meta.url)));
// A call of it is short whatever the model would like to say; a free text that it is made to write may have no end.
export const pick = { type: 'function', function: {
  name: 'pick', description: 'Picks a city', parameters: {
    type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } }, required: ['city'], additionalProperties: false,
  },
} };
export const capital = 'What is the capital of France?';
export const sum = 'What is 127 * 34?';

// nano at `url`; stop() ends it and fails where it did not end well.
export async function startServer(flags = [], env = {}) {
  const program = process.env.PUNA;
  if (!program) throw new Error('PUNA is not set: give the path of the program');
  const child = spawn(program, ['serve', 'nano', '--port', '0', '--date', '26 Nov 2026', ...flags], {
    env: { ...process.env, PUNA_HOST: '', PUNA_API_KEY: '', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('exit', (code) => reject(new Error(`puna serve ended with ${code}`)));
  });
  return {
    url,
    async stop() {
      child.kill('SIGTERM');
      const code = await ended;
      if (code !== 0) throw new Error(`puna serve ended with ${code}`);
    },
  };
}

// A server that wants a key and takes 16 answers at a time: for the tests of refusals.
export const startGuarded = () => startServer(['--max-in-flight', '16'], { PUNA_API_KEY: key });

// Holds all of the guarded server's places until the function that it gives is called.
export async function occupy(url) {
  const abort = new AbortController();
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ messages: [{ role: 'user', content: 'x' }], stream: true, max_tokens: 900, ignore_eos: true, n: 16 }),
    signal: abort.signal,
  });
  if (response.status !== 200) throw new Error(`the places could not be taken: ${response.status}`);
  return () => abort.abort();
}

// Waits until the server has nothing more to answer.
export async function idle(url, headers = {}) {
  for (let i = 0; i < 250; ++i) {
    const text = await (await fetch(`${url}/metrics`, { headers })).text();
    if (/^puna_requests_in_flight 0$/m.test(text)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('the server still has something to answer');
}
