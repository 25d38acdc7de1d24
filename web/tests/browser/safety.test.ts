// SPDX-License-Identifier: Apache-2.0
// Nothing that comes from a model, a tool, a file or the server's own lists acts in the page or reaches out of it.
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { answerJson, answerWith, events, kDone, refusal, textEvents, toolCallEvents } from './canned_answers';
import { kPayloads } from './payloads';
import { answers, ask, button, composer, finished, openPage, send, useBrowser } from './page_under_test';

useBrowser();

/** Whatever the payloads wanted to become. The page's own icons and mark are the only drawings. */
async function expectHarmless(page: Page) {
  const found = await page.evaluate(() => {
    const bad: string[] = [];
    const elements = document.querySelectorAll('body *');
    for (const element of elements) {
      const { tagName } = element;
      if (/^(IFRAME|OBJECT|EMBED|FORM|BASE|META|LINK|STYLE|IMG|VIDEO|AUDIO|MATH|TEMPLATE)$/i.test(tagName))
        bad.push(element.outerHTML);
      if (tagName === 'SCRIPT' && element !== document.body.lastElementChild) bad.push(element.outerHTML);
      if (element.closest('svg') && !element.closest('svg.icon, .brand svg')) bad.push(element.outerHTML);
      for (const { name, value } of element.attributes) {
        if (/^on|^formaction$|^srcdoc$/i.test(name)) bad.push(element.outerHTML);
        if (/^(href|xlink:href)$/i.test(name) && !/^(https?:\/\/|mailto:|#)/i.test(value)) bad.push(element.outerHTML);
        if (name === 'src') bad.push(element.outerHTML);
      }
    }
    if (document.querySelectorAll('#app').length !== 1 || document.querySelectorAll('#main').length !== 1) bad.push('ids');
    return bad;
  });
  expect(found).toEqual([]);
  await page.waitForTimeout(200);
}

test('there are enough payloads', () => expect(kPayloads.length).toBeGreaterThanOrEqual(80));

test('as a streamed answer, each alone', async () => {
  const page = await openPage();
  await answerWith(page, (_, count) => {
    // Cut into small pieces, so that half of each is parsed too.
    const pieces = kPayloads[count - 1]!.match(/[\s\S]{1,6}/g)!;
    return events(...pieces.map((content) => ({ choices: [{ delta: { content, reasoning_content: content } }] }))) + kDone;
  });
  // A new chat in time: a long one shows its end only.
  const kInOne = 20;
  for (let index = 0; index < kPayloads.length; ++index) {
    if (index % kInOne === 0) {
      await expectHarmless(page);
      await button(page, 'New chat').click();
      await expect.poll(() => answers(page).count()).toBe(0);
    }
    await send(page, 'x');
    await expect.poll(() => answers(page).count(), { interval: 20 }).toBe((index % kInOne) + 1);
    await finished(page);
  }
  await expectHarmless(page);
}, 180_000);

test('as one long answer, and as questions', async () => {
  const page = await openPage();
  await answerWith(page, () => textEvents(kPayloads.join('\n\n')));
  await ask(page, kPayloads.join('\n'));
  await expectHarmless(page);
});

test('as stored messages, titles and file names, out of an imported file', async () => {
  const page = await openPage();
  const conversations = kPayloads.map((payload, index) => ({
    title: payload,
    titleIsOwn: true,
    model: payload,
    system: payload,
    messages: {
      [`u${index}`]: { role: 'user', parent: '', text: payload, attachments: [{ name: payload, text: payload }] },
      [`a${index}`]: {
        role: 'assistant',
        parent: `u${index}`,
        text: payload,
        model: payload,
        finish: payload,
        toolCalls: [{ id: payload, function: { name: payload, arguments: payload } }],
      },
      [`t${index}`]: { role: 'tool', parent: `a${index}`, text: payload, toolCallId: payload },
    },
  }));
  await button(page, 'Settings').click();
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), button(page, 'Import').click()]);
  await chooser.setFiles({
    name: `${kPayloads[2]}.json`.replaceAll('/', ''),
    mimeType: 'application/json',
    buffer: Buffer.from(JSON.stringify({ format: 'puna-conversations', version: 1, conversations })),
  });
  await page.getByText(`Imported: ${kPayloads.length}`).first().waitFor();
  await page.keyboard.press('Escape');
  const links = page.getByRole('navigation', { name: 'Conversations' }).getByRole('link');
  await expect.poll(() => links.count()).toBe(kPayloads.length);
  for (let index = 0; index < kPayloads.length; ++index) {
    const title = kPayloads[index]!;
    await links.nth(index).click();
    await expect.poll(() => page.locator('article').count(), { message: title }).toBe(3);
  }
  await expectHarmless(page);
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: 'Words in' }).fill('alert');
  await page.locator('#search-results li').first().waitFor();
  await expectHarmless(page);
}, 120_000);

test('as model names, tool calls, results and errors', async () => {
  const page = await openPage();
  await answerJson(page, '**/v1/models', () => ({
    object: 'list',
    data: kPayloads.map((id) => ({ id, puna: { state: 'loaded', format: id, context: 10 } })),
  }));
  await answerJson(page, '**/puna/props', () => ({
    version: kPayloads[0],
    default_model: kPayloads[2],
    defaults: { temperature: kPayloads[2] },
  }));
  await page.reload();
  const all = kPayloads.join(' ');
  await answerWith(page, ({ messages }, count) =>
    count === 2
      ? refusal(400, all, all)
      : messages.at(-1)!.role === 'tool'
        ? textEvents('ok')
        : toolCallEvents(all, JSON.stringify({ all })),
  );
  await ask(page, 'Go');
  await page.getByLabel('Result', { exact: true }).fill(all);
  await button(page, 'Send 1 result(s)').click();
  await page.locator('.failure').waitFor();
  await expectHarmless(page);
  await button(page, 'Try again').click();
  await answers(page).getByText('ok', { exact: true }).waitFor();
  await button(page, 'Settings of this chat').click();
  await expectHarmless(page);
});

test('as runs, samples, recipes and votes', async () => {
  const page = await openPage();
  const all = kPayloads.join('\n');
  await answerJson(page, /\/puna\/runs$/, () => ({
    runs: kPayloads.map((name) => ({ name, objective: name, state: 'running', step: 1, steps: 2, updated: 1 })),
  }));
  await answerJson(page, /\/metrics/, () => ({
    rows: [
      { step: 1, kind: 'train', loss: 1, [all]: 2 },
      { step: 1, kind: 'sample', name: all, text: all },
      { step: 1, kind: 'fault', name: all, text: all },
    ],
    next: 3,
  }));
  await page.route(/\/recipe$/, (route) => route.fulfill({ contentType: 'text/yaml', body: all }));
  await answerJson(page, '**/puna/votes', () => ({
    votes: [
      { prompt: [{ role: 'user', content: all }], chosen: [], rejected: [], chosen_model: all, rejected_model: all, winner: 'a' },
    ],
  }));
  await page.getByRole('link', { name: 'Train' }).click();
  await page.locator('.samples').first().waitFor();
  await page.locator('summary', { hasText: 'Recipe' }).click();
  await page.locator('.run-details .code-block').waitFor();
  await expectHarmless(page);
  await page.getByRole('link', { name: 'Compare' }).click();
  await page.getByRole('heading', { name: 'Votes' }).waitFor();
  await expectHarmless(page);
});

test('the page is served with its policy, and keeps it', async () => {
  const page = await openPage();
  const response = await page.reload();
  const policy = response!.headers()['content-security-policy'] ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).toMatch(/script-src 'sha256-[^']+'/);
  expect(policy).not.toContain('unsafe');
  expect(response!.headers()['x-content-type-options']).toBe('nosniff');
  await composer(page).waitFor();
  expect(await page.locator('[style]:not(.plot *)').count()).toBe(0);
});
