// SPDX-License-Identifier: Apache-2.0
// What the page does with what a server may send: Markdown, tools, a stop, and everything that goes wrong.
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { answerWith, events, refusal, textEvents, toolCallEvents } from './canned_answers';
import { answers, ask, button, composer, finished, openPage, send, useBrowser } from './page_under_test';

useBrowser();

const kMarkdown = `## Head

| a | b |
|---|--:|
| 1 | 2 |

\`\`\`python
def f():
    return "x"
\`\`\`

[link](https://example.org/) and ![a mountain](https://example.org/a.png)
`;

test('Markdown: tables, coloured code with a copy button, safe links, images as addresses', async () => {
  const page = await openPage('', { permissions: ['clipboard-read', 'clipboard-write'] });
  await answerWith(page, () => textEvents(kMarkdown));
  await ask(page, 'Go');
  expect(await answers(page).locator('td').allInnerTexts()).toEqual(['1', '2']);
  expect(
    await answers(page)
      .locator('td')
      .nth(1)
      .evaluate((cell) => getComputedStyle(cell).textAlign),
  ).toBe('right');
  expect(await answers(page).locator('.hljs-keyword').allInnerTexts()).toEqual(['def', 'return']);
  const link = answers(page).getByRole('link', { name: 'link' });
  expect(await link.getAttribute('rel')).toContain('noopener');
  expect(await link.getAttribute('target')).toBe('_blank');
  expect(await answers(page).locator('img').count()).toBe(0);
  expect(await answers(page).innerText()).toContain('a mountain https://example.org/a.png');
  await answers(page).locator('.copy-code').click();
  await page.locator('.toast', { hasText: 'Copied.' }).waitFor();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('def f():\n    return "x"');
});

test('figures come from the server', async () => {
  const page = await openPage();
  await answerWith(page, () => textEvents('Yes.'));
  await ask(page, 'Go');
  expect(await page.locator('.figures').innerText()).toContain('123.4 tokens/s');
  expect(await page.locator('meter').getAttribute('value')).toBe('800');
});

/** Streams that never end: made in the page, since a canned body is always whole. A full stop comes each 100 ms. */
async function answerWithoutEnd(page: Page, begin: string) {
  const [first, dot] = [begin, '.'].map((content) => events({ choices: [{ delta: { content } }] }));
  await page.evaluate(
    ([first, dot]) => {
      const real = window.fetch;
      window.fetch = (input, options) => {
        if (!String(input).endsWith('/v1/chat/completions')) return real(input, options);
        const stream = new ReadableStream({
          start(controller) {
            const put = (text: string) => controller.enqueue(new TextEncoder().encode(text));
            put(first!);
            const timer = setInterval(() => put(dot!), 100);
            options?.signal?.addEventListener('abort', () => {
              clearInterval(timer);
              controller.error(new DOMException('stopped', 'AbortError'));
            });
          },
        });
        return Promise.resolve(new Response(stream, { headers: { 'Content-Type': 'text/event-stream' } }));
      };
    },
    [first, dot],
  );
}

test('an answer that the closing of the page interrupts is kept', async () => {
  const page = await openPage();
  await answerWithoutEnd(page, 'Half an answ');
  await send(page, 'Go');
  await answers(page)
    .getByText(/Half an answ\.{30}/)
    .waitFor();
  await page.reload();
  await answers(page)
    .getByText(/Half an answ\.{10}/)
    .waitFor();
  await page.locator('.figures', { hasText: 'interrupted' }).waitFor();
});

test('a stopped answer keeps what it had', async () => {
  const page = await openPage();
  await answerWithoutEnd(page, 'Half an answ');
  await send(page, 'Go');
  await answers(page).getByText('Half an answ').waitFor();
  await button(page, 'Stop').click();
  await page.locator('.figures', { hasText: 'stopped' }).waitFor();
  expect(await answers(page).locator('.markdown').innerText()).toMatch(/^Half an answ\.*$/);
  expect(await answers(page).locator('.failure').count()).toBe(0);

  await send(page, 'Again');
  await answers(page).nth(1).getByText('Half an answ').waitFor();
  await composer(page).press('Escape');
  await expect.poll(() => page.locator('.figures', { hasText: 'stopped' }).count()).toBe(2);
});

test('no question goes out while an answer is written', async () => {
  const page = await openPage();
  await answerWithoutEnd(page, 'Half an answ');
  await send(page, 'Go');
  await answers(page).getByText('Half an answ').waitFor();
  await composer(page).press('ArrowUp');
  await page.keyboard.type('Again');
  expect(await composer(page).inputValue()).toBe('Again');
  const editor = page.getByLabel('Text of the message');
  expect(await editor.count()).toBe(0);

  await composer(page).fill('');
  await button(page, 'Stop').click();
  await finished(page);
  await composer(page).press('ArrowUp');
  await editor.fill('Went');
  await send(page, 'Again');
  await answers(page).nth(1).getByText('Half an answ').waitFor();
  await editor.press('Control+Enter');
  expect(await button(page, 'Send as a new version').isDisabled()).toBe(true);
  await button(page, 'Stop').click();
  await button(page, 'Send as a new version').click();
  await answers(page).getByText('Half an answ').waitFor();
  expect(await page.locator('.said').allInnerTexts()).toEqual(['Went']);
});

test('a chat deleted while it is answered comes back with what the answer had', async () => {
  const page = await openPage();
  await answerWithoutEnd(page, 'Half an answ');
  await send(page, 'Go');
  await answers(page).getByText('Half an answ').waitFor();
  await page.getByRole('link', { name: 'Go' }).hover();
  await button(page, 'Delete “Go”').click();
  await button(page, 'Undo').click();
  await page.getByRole('link', { name: 'Go' }).click();
  await page.locator('.figures', { hasText: 'stopped' }).waitFor();
  await page.reload();
  await page.locator('.figures', { hasText: 'stopped' }).waitFor();
  expect(await answers(page).locator('.markdown').innerText()).toMatch(/^Half an answ\.*$/);
});

async function deleteInOtherTab(page: Page, title: string) {
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.getByRole('link', { name: title }).hover();
  await button(other, `Delete “${title}”`).click();
  await page.getByRole('link', { name: title }).waitFor({ state: 'detached' });
  await other.close();
}

test('a chat that another tab deleted is stored whole again with what is written next', async () => {
  const page = await openPage();
  await answerWith(page, () => textEvents('Yes.'));
  await ask(page, 'First');
  await deleteInOtherTab(page, 'First');
  await ask(page, 'Second');
  await page.getByRole('link', { name: 'First' }).waitFor();
  await page.reload();
  await expect.poll(() => page.locator('.said').allInnerTexts()).toEqual(['First', 'Second']);
});

test('a chat that another tab deletes while it is answered is stored whole at the end of the answer', async () => {
  const page = await openPage();
  await answerWithoutEnd(page, 'Half an answ');
  await send(page, 'Go');
  await answers(page).getByText('Half an answ').waitFor();
  await deleteInOtherTab(page, 'Go');
  await button(page, 'Stop').click();
  await page.getByRole('link', { name: 'Go' }).waitFor();
  await page.reload();
  await page.locator('.figures', { hasText: 'stopped' }).waitFor();
  expect(await page.locator('.said').allInnerTexts()).toEqual(['Go']);
});

test('what another tab names a chat while it is answered stays', async () => {
  const page = await openPage();
  await answerWithoutEnd(page, 'Half an answ');
  await send(page, 'Go');
  await answers(page).getByText('Half an answ').waitFor();
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.getByRole('link', { name: 'Go' }).hover();
  await button(other, 'Rename “Go”').click();
  await other.getByLabel('New name').fill('Wool');
  await other.getByLabel('New name').press('Enter');
  await page.getByRole('link', { name: 'Wool' }).waitFor();
  await other.close();
  await button(page, 'Stop').click();
  await page.getByRole('heading', { name: 'Wool', level: 1 }).waitFor();
  expect(await answers(page).locator('.markdown').innerText()).toMatch(/^Half an answ\.*$/);
});

test('tools: defined, called, answered by hand', async () => {
  const page = await openPage();
  const requests = await answerWith(page, ({ messages }) =>
    messages.at(-1)!.role === 'tool' ? textEvents('It is cold.') : toolCallEvents('get_weather', '{"place":"Puno"}'),
  );
  await button(page, 'Settings of this chat').click();
  await page.getByLabel('Definitions as JSON').fill('[{"nonsense"');
  await page.getByText('This is not JSON').waitFor();
  await page.getByLabel('Definitions as JSON').fill('[{"description": "x"}]');
  await page.getByText('Tool 1 has no name').waitFor();
  await button(page, 'Put in an example').click();
  await page.getByText('Tools defined: 1').waitFor();
  await page.keyboard.press('Escape');
  await ask(page, 'How is the weather?');
  expect(requests[0]!.tools).toMatchObject([{ type: 'function', function: { name: 'get_weather' } }]);
  const call = page.getByRole('region', { name: 'Calls get_weather' });
  expect(await call.locator('pre').innerText()).toBe('{\n  "place": "Puno"\n}');
  await call.getByLabel('Result', { exact: true }).fill('-3 °C');
  await button(page, 'Send 1 result(s)').click();
  await answers(page).getByText('It is cold.').waitFor();
  expect(requests[1]!.messages.slice(-2)).toMatchObject([
    { role: 'assistant', tool_calls: [{ id: 'call_x', function: { name: 'get_weather', arguments: '{"place":"Puno"}' } }] },
    { role: 'tool', tool_call_id: 'call_x', content: '-3 °C' },
  ]);
  expect(await page.getByLabel('Result', { exact: true }).count()).toBe(0);
});

test('401 asks for the key, keeps it for the tab, and goes on', async () => {
  const page = await openPage();
  const headers: (string | null)[] = [];
  page.on('request', (request) => {
    if (request.url().endsWith('/v1/chat/completions')) headers.push(request.headers().authorization ?? null);
  });
  await answerWith(page, (_, count) =>
    count === 1 ? refusal(401, 'A key is wanted.', 'invalid_api_key') : textEvents('Welcome.'),
  );
  await send(page, 'Go');
  await page.getByRole('dialog', { name: 'API key' }).waitFor();
  await page.getByRole('textbox', { name: 'API key' }).fill('secret');
  await button(page, 'Save').click();
  await page.getByText('401 · A key is wanted.').waitFor();
  await button(page, 'Try again').click();
  await answers(page).getByText('Welcome.').waitFor();
  expect(headers).toEqual([null, 'Bearer secret']);
  expect(await page.evaluate(() => [sessionStorage['puna.key'], localStorage['puna.key']])).toEqual(['secret', undefined]);

  await button(page, 'Settings').click();
  await button(page, 'Enter the API key').click();
  await page.getByLabel('Remember it in this browser').check();
  await button(page, 'Save').click();
  expect(await page.evaluate(() => [sessionStorage['puna.key'], localStorage['puna.key']])).toEqual([undefined, 'secret']);
});

test('429 says to wait, counts down, and tries again', async () => {
  const page = await openPage();
  const requests = await answerWith(page, (_, count) =>
    count === 1 ? refusal(429, 'The queue is full.', 'rate_limit', { 'Retry-After': '2' }) : textEvents('Now.'),
  );
  await send(page, 'Go');
  await page.getByText('429 · The queue is full.').waitFor();
  await page.getByText('The server is busy.').waitFor();
  expect(await button(page, /Try again in \d s/).isDisabled()).toBe(true);
  await button(page, 'Try again').click();
  await answers(page).getByText('Now.').waitFor();
  expect(requests.length).toBe(2);
  expect(await answers(page).count()).toBe(1);
  expect(requests[1]!.messages).toEqual([{ role: 'user', content: 'Go' }]);
});

test('a connection that breaks leaves the partial answer and a way to go on', async () => {
  const page = await openPage();
  await answerWith(page, (_, count) =>
    count === 1 ? events({ choices: [{ delta: { content: 'The first half' } }] }) : textEvents('Whole.'),
  );
  await send(page, 'Go');
  await page.getByText('The connection broke').waitFor();
  expect(await answers(page).locator('.markdown').innerText()).toBe('The first half');
  await page.reload();
  expect(await answers(page).locator('.markdown').innerText()).toBe('The first half');
  await button(page, 'Try again').click();
  await answers(page).getByText('Whole.').waitFor();
  await page.getByRole('group', { name: 'Version 2 of 2' }).waitFor({ state: 'attached' });
});

test.each([
  [
    'an error in mid-stream',
    events(
      { choices: [{ delta: { content: 'Begun' } }] },
      { error: { message: 'Out of memory.', type: 'server_error', code: null } },
    ),
    /Out of memory\./,
    /log says more/,
  ],
  ['a full context', refusal(400, 'Too long.', 'context_length_exceeded'), /400 · Too long\./, /no longer fits/],
  ['an unknown model', refusal(404, 'No such model.', 'model_not_found'), /404 · No such model\./, /Choose another model/],
  ['a wrong request', refusal(400, 'stop: too many.', null), /400 · stop: too many\./, /did not accept/],
  ['a forbidden request', refusal(403, 'Not yours.', null), /403 · Not yours\./, /may not do this/],
  ['an answer that is not JSON', { status: 500, body: '<h1>Oops</h1>' }, /500/, /log says more/],
  ['a chunk that is not JSON', 'data: {"choices"\n\n', /JSON/, /connection broke/],
])('%s is shown with what to do', async (_, canned, said, advice) => {
  const page = await openPage();
  await answerWith(page, () => canned);
  await send(page, 'Go');
  await page.getByRole('alert').filter({ hasText: said }).filter({ hasText: advice }).waitFor();
});

test('a server that is not there is told, in the chat and before it', async () => {
  const page = await openPage();
  await page.route(/\/(v1|puna)\//, (route) => route.abort('connectionfailed'));
  await page.reload();
  await page.getByText('The server cannot be reached.').waitFor();
  await page.unroute(/\/(v1|puna)\//);
  await button(page, 'Try again').click();
  await page.getByText('You are talking to').waitFor();
});

test('an answer goes on while the person looks elsewhere', async () => {
  const page = await openPage();
  await answerWith(page, () => textEvents('Done meanwhile.'));
  await send(page, 'Go');
  await page.getByRole('link', { name: 'Train' }).click();
  await page.getByRole('heading', { name: 'Train', level: 1 }).waitFor();
  await page.getByRole('link', { name: 'Go' }).click();
  await answers(page).getByText('Done meanwhile.').waitFor();
  await finished(page);
});

test('reasoning is folded away', async () => {
  const page = await openPage();
  await answerWith(page, () => events({ choices: [{ delta: { reasoning_content: 'Hmm.' } }] }) + textEvents('So.'));
  await ask(page, 'Go');
  expect(await page.getByText('Hmm.').isVisible()).toBe(false);
  await page.getByText('Reasoning').click();
  await page.getByText('Hmm.').waitFor();
});
