// SPDX-License-Identifier: Apache-2.0
// The API of puna serve with canned answers, for work on the page without a model. Not part of the program.
import { kRuns, metricsOf, recipeOf, runEntry } from './stand_in_runs.mjs';

const models = [
  {
    id: 'nano',
    object: 'model',
    created: 1,
    owned_by: 'puna',
    puna: { state: 'loaded', context: 1024, parameters: 4600000, format: 'Q8_0' },
  },
  { id: 'llama-3.2-1b', object: 'model', created: 1, owned_by: 'puna', puna: { state: 'available', bytes: 807694464 } },
];
const votes = [];

const kAnswer = `A rainbow is sunlight, sorted.

1. Light **enters** a drop and bends.
2. It *reflects* at the back.
3. It leaves, each colour at its own angle:

| colour | angle | wavelength |
|:-------|------:|-----------:|
| red    | 42.4° |     700 nm |
| violet | 40.6° |     400 nm |

\`\`\`python
def angle(n: float, b: float) -> float:
    """Deflection for refractive index n at offset b."""
    return 2 * (math.asin(b) - 2 * math.asin(b / n)) + math.pi  # one reflection
\`\`\`

> The bow stands opposite the sun, so nobody sees the same one.

More at [Wikipedia](https://en.wikipedia.org/wiki/Rainbow).
`;

function answerFor({ messages, tools }) {
  const last = messages.at(-1);
  if (tools?.length && last.role === 'user') return { calls: [{ name: tools[0].function.name, arguments: '{"place": "Puno"}' }] };
  if (last.role === 'tool') return { text: `The tool says: ${last.content}\n` };
  if (/17 \+ 25/.test(last.content)) return { text: '17 + 25 = 42.' };
  return { text: kAnswer };
}

async function streamAnswer(response, asked, isGone) {
  const base = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: asked.model };
  const send = (rest) => response.write(`data: ${JSON.stringify({ ...base, ...rest })}\n\n`);
  const choice = (delta, finish_reason = null) => send({ choices: [{ index: 0, delta, finish_reason }] });
  const { text = '', calls = [] } = answerFor(asked);
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  response.write(': keep-alive\n\n');
  choice({ role: 'assistant' });
  const pieces = text.match(/[\s\S]{1,4}/g) ?? [];
  const begun = Date.now();
  for (const piece of pieces) {
    await new Promise((resolve) => setTimeout(resolve, 8));
    if (isGone()) return;
    choice({ content: piece });
  }
  calls.forEach((call, index) => {
    choice({ tool_calls: [{ index, id: `call_${index}`, type: 'function', function: { name: call.name, arguments: '' } }] });
    for (const part of call.arguments.match(/.{1,5}/g)) choice({ tool_calls: [{ index, function: { arguments: part } }] });
  });
  choice({}, calls.length ? 'tool_calls' : 'stop');
  const prompt = Math.ceil(JSON.stringify(asked.messages).length / 4);
  const seconds = (Date.now() - begun) / 1000 || 0.001;
  send({
    choices: [],
    usage: { prompt_tokens: prompt, completion_tokens: pieces.length, total_tokens: prompt + pieces.length },
    timings: {
      prompt_n: prompt,
      cache_n: 0,
      prompt_ms: 12,
      predicted_n: pieces.length,
      predicted_ms: seconds * 1000,
      prompt_per_second: prompt / 0.012,
      predicted_per_second: pieces.length / seconds,
    },
  });
  response.end('data: [DONE]\n\n');
}

async function bodyOf(request) {
  let body = '';
  for await (const part of request) body += part;
  return JSON.parse(body);
}

const routes = {
  'GET /v1/models': (send) => send({ object: 'list', data: models }),
  'GET /puna/props': (send) =>
    send({
      version: '0.0.0 stand-in',
      default_model: 'nano',
      defaults: { temperature: 0.7, top_p: 0.95, top_k: 40, min_p: 0 },
      roles: ['infer', 'manage'],
      runs: true,
      votes: true,
    }),
  'GET /puna/runs': (send) => send({ runs: kRuns.map(runEntry) }),
  'GET /puna/votes': (send) => send({ votes }),
  'POST /puna/votes': async (send, request) => send({ votes: votes.push(await bodyOf(request)) }),
};

/** Answers where the address is one of the API's; false where it is not. */
export function answerApi(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const send = (value) => {
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(value));
  };
  const route = routes[`${request.method} ${pathname}`];
  if (route) {
    void route(send, request);
    return true;
  }
  if (request.method === 'POST' && pathname === '/v1/chat/completions') {
    let gone = false;
    response.on('close', () => (gone = true));
    void bodyOf(request).then((asked) => streamAnswer(response, asked, () => gone));
    return true;
  }
  const [, name, what] = /^\/puna\/runs\/([^/]+)\/(metrics|recipe)$/.exec(pathname) ?? [];
  const run = kRuns.find((entry) => entry.name === name);
  if (!run) return false;
  if (what === 'metrics') send(metricsOf(run, Number(searchParams.get('after')) || 0));
  else response.writeHead(200, { 'Content-Type': 'text/yaml' }).end(recipeOf(run));
  return true;
}
