// SPDX-License-Identifier: Apache-2.0
// The built page with the headers of puna serve, and the stand-in API: node dev/stand_in.mjs [port]
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { answerApi } from './stand_in_api.mjs';

const dist = new URL('../dist/', import.meta.url);
const page = readFileSync(new URL('page.html.gz', dist));
const policy = readFileSync(new URL('page.csp', dist), 'utf8').trim();

export const server = createServer((request, response) => {
  if (answerApi(request, response)) return;
  if (request.url.split('?')[0] !== '/') {
    response.writeHead(404, { 'Content-Type': 'application/json' });
    response.end(
      JSON.stringify({ error: { message: `${request.url}: there is nothing`, type: 'invalid_request_error', code: null } }),
    );
    return;
  }
  response.writeHead(200, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Encoding': 'gzip',
    'Content-Security-Policy': policy,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  });
  response.end(page);
});

server.listen(Number(process.argv[2] ?? process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
