// SPDX-License-Identifier: Apache-2.0
// The views Train and Compare.
import { readFile } from 'node:fs/promises';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { answerJson, answerWith, refusal, textEvents } from './canned_answers';
import { button, openPage, useBrowser } from './page_under_test';

useBrowser();

const kRuns = [
  { name: 'new', objective: 'sft', state: 'running', step: 20, steps: 100, updated: 200 },
  { name: 'old', objective: 'dpo', state: 'finished', step: 10, steps: 10, updated: 100 },
];

const row = (step: number, more = {}) => ({
  step,
  kind: 'train',
  loss: 3 / step,
  gradient_norm: 1,
  learning_rate: 1e-4,
  tokens_per_second: 5000,
  tokens: 9,
  epochs: 0.1,
  ...more,
});

/** Two runs; the first has `known()` steps. Returns what was asked of its metrics. */
async function cannedRuns(page: Page, known: () => number): Promise<number[]> {
  const asked: number[] = [];
  await answerJson(page, /\/puna\/runs$/, () => ({ runs: kRuns }));
  await page.route(/\/puna\/runs\/(new|old)\/metrics/, (route) => {
    const url = new URL(route.request().url());
    const after = Number(url.searchParams.get('after'));
    const isNew = url.pathname.includes('new');
    if (isNew) asked.push(after);
    const rows: object[] = Array.from({ length: isNew ? known() : 10 }, (_, i) => row(i + 1, isNew ? {} : { accuracy: 0.5 }));
    if (isNew)
      rows.splice(5, 0, { step: 5, kind: 'held_out', loss: 0.61 }, { step: 5, kind: 'sample', name: 'Once', text: ' upon a time' });
    return route.fulfill({ contentType: 'application/json', body: JSON.stringify({ rows: rows.slice(after), next: rows.length }) });
  });
  await page.route(/\/recipe$/, (route) => route.fulfill({ contentType: 'text/yaml', body: 'objective: "sft"\nsteps: 100\n' }));
  return asked;
}

test('Train draws the newest run, live, with samples and recipe', async () => {
  const page = await openPage();
  let known = 20;
  const asked = await cannedRuns(page, () => known);
  await page.getByRole('link', { name: 'Train' }).click();
  await expect.poll(() => page.locator('.chart canvas').count()).toBe(4);
  expect(await page.locator('.chart h3').allInnerTexts()).toEqual(['Loss', 'Learning rate', 'Gradient norm', 'Tokens per second']);
  const cells = () => page.locator('.figures-table tbody tr').first().locator('td').allInnerTexts();
  expect(await cells()).toEqual(['20', '0.15', '1.00e-4', '1', '5,000', '0.61']);
  known = 30;
  await expect.poll(async () => (await cells())[0], { timeout: 6000 }).toBe('30');
  expect(asked.slice(0, 2)).toEqual([0, 22]);
  await page.getByText('upon a time').waitFor();
  await page.locator('summary', { hasText: 'Recipe' }).click();
  await expect.poll(() => page.locator('.run-details code').innerText()).toContain('objective: "sft"');
});

test('Train lays runs over one another, with figures of their own, smoothing and a logarithmic axis', async () => {
  const page = await openPage();
  await cannedRuns(page, () => 20);
  await page.getByRole('link', { name: 'Train' }).click();
  await page.locator('.run', { hasText: 'old' }).getByRole('checkbox').check();
  await expect.poll(() => page.locator('.figures-table tbody tr').count()).toBe(2);
  await expect.poll(() => page.locator('.reading').first().innerText()).toMatch(/new\s+0\.15\s+old\s+0\.3/);
  await page.getByLabel('accuracy').check();
  await expect.poll(() => page.locator('.chart canvas').count()).toBe(5);
  await page.getByLabel('Logarithmic').check();
  await page.getByLabel('Smoothing').fill('0.9');
  await expect.poll(() => page.locator('.reading').first().innerText()).not.toMatch(/new\s+0\.15\s/);
  await page.locator('.plot').first().press('ArrowRight');
  await expect.poll(() => page.locator('.reading').first().innerText()).toMatch(/^step 1\s+new\s+3\s+old\s+3/);
  await page.locator('.run', { hasText: 'new' }).getByRole('checkbox').uncheck();
  await expect.poll(() => page.locator('.figures-table tbody tr').count()).toBe(1);
});

test('Train says when there is nothing, and when the server fails', async () => {
  const page = await openPage();
  await answerJson(page, /\/puna\/runs$/, () => ({ runs: [] }));
  await page.getByRole('link', { name: 'Train' }).click();
  await page.getByText('No training runs yet').waitFor();
  await page.getByText(/Begin one|started without a folder/).waitFor();
  await page.unroute(/\/puna\/runs$/);
  await page.route(/\/puna\/runs$/, (route) => route.fulfill(refusal(403, 'Not with this key.')));
  await page.getByText('403 · Not with this key.').waitFor({ timeout: 6000 });
});

test('Train opens on the server there is', async () => {
  const page = await openPage('#/train');
  await page.locator('.run, .train .empty').first().waitFor();
  expect(await page.locator('.failure').count()).toBe(0);
});

async function cannedModels(page: Page) {
  await answerJson(page, '**/v1/models', () => ({ object: 'list', data: [{ id: 'left-model' }, { id: 'right-model' }] }));
  const votes: Record<string, unknown>[] = [];
  await page.route('**/puna/votes', (route) => {
    if (route.request().method() === 'POST') votes.push(route.request().postDataJSON());
    return route.fulfill({ contentType: 'application/json', body: JSON.stringify({ votes }) });
  });
  await page.reload();
  await page.getByRole('link', { name: 'Compare' }).click();
  return votes;
}

async function askBoth(page: Page, text: string) {
  await page.getByLabel('Ask both models the same').fill(text);
  await page.getByLabel('Ask both models the same').press('Enter');
  await expect.poll(() => page.locator('.answer-side[aria-busy="false"]').count()).toBe(2);
}

test('Compare hides the names until the vote, keeps the vote, and exports pairs', async () => {
  const page = await openPage();
  const votes = await cannedModels(page);
  await answerWith(page, ({ model }) => textEvents(`words of number ${model === 'left-model' ? 1 : 2}`));
  await askBoth(page, 'Which?');
  const sides = page.locator('.answer-side');
  expect(await page.locator('.sides').evaluate((element) => element.outerHTML)).not.toMatch(/(left|right)-model/);
  const [a, b] = await sides.locator('.markdown').allInnerTexts();
  await button(page, /A is better/).click();
  const nameOf = (text: string) => (text.endsWith('1') ? 'left-model' : 'right-model');
  await expect.poll(() => sides.locator('.revealed').allInnerTexts()).toEqual([nameOf(a!), nameOf(b!)]);
  expect(votes).toEqual([
    {
      prompt: [{ role: 'user', content: 'Which?' }],
      chosen: [{ role: 'assistant', content: a }],
      rejected: [{ role: 'assistant', content: b }],
      chosen_model: nameOf(a!),
      rejected_model: nameOf(b!),
      winner: 'a',
    },
  ]);
  expect(await button(page, /B is better/).isDisabled()).toBe(true);
  await page.getByRole('heading', { name: 'Votes (1)' }).waitFor();
  const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Export pairs as JSONL').click()]);
  const { winner, ...pair } = votes[0]!;
  expect(winner).toBe('a');
  expect(JSON.parse(await readFile(await download.path(), 'utf8'))).toEqual(pair);
});

test('Compare draws the sides by chance', async () => {
  const page = await openPage();
  await cannedModels(page);
  await answerWith(page, ({ model }) => textEvents(model === 'left-model' ? '1' : '2'));
  const seen = new Set<string>();
  for (let round = 0; round < 20 && seen.size < 2; ++round) {
    await askBoth(page, `Round ${round}`);
    seen.add((await page.locator('.answer-side .markdown').allInnerTexts()).join());
  }
  expect([...seen].sort()).toEqual(['1,2', '2,1']);
});

test('Compare takes votes by key, with a system prompt, and offers a failed vote again', async () => {
  const page = await openPage();
  const votes = await cannedModels(page);
  const requests = await answerWith(page, () => textEvents('same'));
  await page.locator('.ask summary').click();
  await page.locator('.ask details textarea').fill('Be brief.');
  await askBoth(page, 'Q');
  expect(requests[0]!.messages[0]).toEqual({ role: 'system', content: 'Be brief.' });
  await page.route('**/puna/votes', (route) => route.fulfill(refusal(500, 'Disk full.')), { times: 1 });
  await page.getByRole('heading', { name: 'Compare', level: 1 }).focus();
  await page.keyboard.press('3');
  await page.getByText('500 · Disk full.').waitFor();
  await button(page, 'Try again').click();
  await expect.poll(() => votes.length).toBe(1);
  expect(votes[0]).toMatchObject({ winner: 'tie' });
});

test('Compare keeps votes in the page where the server keeps none', async () => {
  const page = await openPage();
  const votes = await cannedModels(page);
  await answerJson(page, '**/puna/props', () => ({ votes: false }));
  await page.reload();
  await answerWith(page, () => textEvents('same'));
  await askBoth(page, 'Q');
  await page.getByText('This server keeps no votes.').waitFor();
  await button(page, /B is better/).click();
  await page.getByRole('heading', { name: 'Votes (1)' }).waitFor();
  expect(votes).toEqual([]);
});

test('Compare works on the server there is', async () => {
  const page = await openPage('#/compare');
  await expect.poll(() => page.locator('.pickers option').count()).toBeGreaterThan(0);
  await askBoth(page, 'What is 17 + 25?');
  await button(page, /Both bad/).click();
  await expect.poll(() => page.locator('.revealed').count()).toBe(2);
  await expect.poll(() => page.getByRole('heading', { name: /^Votes \(\d+\)/ }).count()).toBe(1);
});

test('Compare shows a failure on its side and lets no vote pass', async () => {
  const page = await openPage();
  await cannedModels(page);
  await answerWith(page, ({ model }) => (model === 'left-model' ? refusal(503, 'Loading.') : textEvents('fine')));
  await askBoth(page, 'Q');
  await page.getByText('503 · Loading.').waitFor();
  expect(await page.locator('.vote-bar').count()).toBe(0);
});
