// SPDX-License-Identifier: Apache-2.0
// Answers put in place of the server's, so that a test knows what the page is given. They work against any server.
import type { Page } from 'playwright-core';

export interface Request {
  model: string;
  messages: { role: string; content: string | null; tool_call_id?: string; tool_calls?: unknown[] }[];
  stream: boolean;
  [field: string]: unknown;
}

const chunk = (delta: object, finish_reason: string | null = null) => ({
  id: 'c',
  object: 'chat.completion.chunk',
  choices: [{ index: 0, delta, finish_reason }],
});

export const events = (...chunks: object[]) => chunks.map((entry) => `data: ${JSON.stringify(entry)}\n\n`).join('');
export const kDone = 'data: [DONE]\n\n';

export const textEvents = (text: string) =>
  events(
    chunk({ role: 'assistant' }),
    ...(text.match(/[\s\S]{1,200}/g) ?? []).map((content) => chunk({ content })),
    chunk({}, 'stop'),
    {
      choices: [],
      usage: { prompt_tokens: 700, completion_tokens: 100, total_tokens: 800 },
      timings: { prompt_n: 700, predicted_n: 100, predicted_per_second: 123.4 },
    },
  ) + kDone;

export const toolCallEvents = (name: string, args: string) =>
  events(
    chunk({ role: 'assistant' }),
    chunk({ tool_calls: [{ index: 0, id: 'call_x', type: 'function', function: { name, arguments: '' } }] }),
    ...(args.match(/[\s\S]{1,7}/g) ?? []).map((part) => chunk({ tool_calls: [{ index: 0, function: { arguments: part } }] })),
    chunk({}, 'tool_calls'),
  ) + kDone;

export interface Canned {
  status?: number;
  headers?: Record<string, string>;
  body: string;
}

/** Each request gets what `answer` says, and is remembered. */
export async function answerWith(page: Page, answer: (request: Request, count: number) => Canned | string): Promise<Request[]> {
  const requests: Request[] = [];
  await page.route('**/v1/chat/completions', async (route) => {
    const request = route.request().postDataJSON() as Request;
    requests.push(request);
    const canned = answer(request, requests.length);
    const { status = 200, headers = {}, body } = typeof canned === 'string' ? { body: canned } : canned;
    const contentType = status === 200 ? 'text/event-stream' : 'application/json';
    await route.fulfill({ status, headers, contentType, body });
  });
  return requests;
}

export const refusal = (status: number, message: string, code: string | null = null, headers = {}): Canned => ({
  status,
  headers,
  body: JSON.stringify({ error: { message, type: 'error', param: null, code } }),
});

/** Answers GET of a path with JSON. */
export async function answerJson(page: Page, path: string | RegExp, value: () => unknown) {
  await page.route(path, (route) => route.fulfill({ contentType: 'application/json', body: JSON.stringify(value()) }));
}
