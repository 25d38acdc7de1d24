// SPDX-License-Identifier: Apache-2.0
// Keyboard, screen reader, themes, languages, small screens. axe-core finds nothing serious in any view, theme and language.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { answerWith, textEvents, toolCallEvents } from './canned_answers';
import { answers, ask, button, composer, finished, kPhone, openPage, send, useBrowser } from './page_under_test';

useBrowser();

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

async function seriousFindings(page: Page): Promise<string[]> {
  await page.waitForTimeout(250);
  await page.evaluate(axeSource);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${String(target)} ${failureSummary}`));
  });
}

const kRich = `## Head

Some *text*, \`code\`, a [link](https://example.org) and ![alt](https://example.org/a.png).

| a | b |
|---|---|
| 1 | 2 |

- [x] done

> quoted

\`\`\`python
# comment
@cached
def f(x: int = 1) -> str:
    """Doc."""
    return "x" + str(1.5) if x else None
\`\`\`

\`\`\`html
<a href="x">y</a> <!-- z -->
\`\`\`

\`\`\`yaml
steps: 100 # why
flag: true
\`\`\`
`;

const kWords = {
  en: { settings: 'Settings of this chat', preferences: 'Settings', search: 'Search', sheet: 'Keyboard shortcuts' },
  'zh-CN': { settings: '此对话的设置', preferences: '设置', search: '搜索', sheet: '键盘快捷键' },
};

const kCases = (['light', 'dark'] as const).flatMap((theme) =>
  (['en', 'zh-CN'] as const).map((locale) => [theme, locale] as const),
);

test.each(kCases)('axe: chat and dialogs, %s, %s', async (colorScheme, locale) => {
  const page = await openPage('', { colorScheme, locale });
  const words = kWords[locale];
  expect(await seriousFindings(page), 'empty').toEqual([]);
  await answerWith(page, (_, count) => (count === 1 ? textEvents(kRich) : count === 2 ? toolCallEvents('f', '{"a":1}') : ''));
  await ask(page, 'One');
  await ask(page, 'Two');
  expect(await seriousFindings(page), 'chat').toEqual([]);
  await page.locator('.message.user').first().hover();
  await send(page, 'Three');
  await page.locator('.failure').waitFor();
  expect(await seriousFindings(page), 'failure').toEqual([]);
  await button(page, words.settings).click();
  await page.locator('dialog textarea.mono').fill('[');
  expect(await seriousFindings(page), 'chat settings').toEqual([]);
  await page.keyboard.press('Escape');
  for (const name of [words.preferences, words.sheet]) {
    await button(page, name).click();
    expect(await seriousFindings(page), name).toEqual([]);
    await page.keyboard.press('Escape');
  }
  await page.keyboard.press('Control+k');
  await page.locator('dialog.palette').waitFor();
  await page.getByRole('combobox').last().fill('o');
  expect(await seriousFindings(page), 'search').toEqual([]);
});

test.each(kCases)('axe: train and compare, %s, %s', async (colorScheme, locale) => {
  const page = await openPage('#/train', { colorScheme, locale });
  await page.locator('.run, .train .empty').first().waitFor();
  expect(await seriousFindings(page), 'train').toEqual([]);
  await answerWith(page, () => textEvents(kRich));
  await page.goto(page.url().replace('#/train', '#/compare'));
  await page.locator('.compare textarea.growing').fill('Q');
  await page.locator('.compare textarea.growing').press('Enter');
  await expect.poll(() => page.locator('.answer-side[aria-busy="false"]').count()).toBe(2);
  expect(await seriousFindings(page), 'compare').toEqual([]);
  await page.locator('.vote-bar button').first().click();
  await page.locator('.revealed').first().waitFor();
  expect(await seriousFindings(page), 'voted').toEqual([]);
});

test.each(['light', 'dark'] as const)('axe: on a phone, %s', async (colorScheme) => {
  const page = await openPage('', { colorScheme, viewport: kPhone, hasTouch: true });
  await answerWith(page, () => textEvents(kRich));
  await ask(page, 'One');
  expect(await seriousFindings(page), 'chat').toEqual([]);
  await button(page, 'Open the side bar').click();
  expect(await seriousFindings(page), 'drawer').toEqual([]);
});

test('by keyboard alone: skip, ask, settings, branch, search, leave', async () => {
  const page = await openPage('#/train');
  await answerWith(page, (_, count) => textEvents(`Answer ${count}`));
  await page.keyboard.press('Tab');
  expect(await page.evaluate(() => document.activeElement?.className)).toBe('skip');
  await page.keyboard.press('Enter');
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
  await page.keyboard.press('Alt+1');
  await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('composer');
  await page.keyboard.type('First');
  await page.keyboard.press('Enter');
  await finished(page);
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('composer');
  await page.keyboard.press('ArrowUp');
  await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Text of the message');
  await page.keyboard.type(' again');
  await page.keyboard.press('Control+Enter');
  await answers(page).getByText('Answer 2').waitFor();
  await finished(page);
  expect(await page.locator('.said').innerText()).toBe('First again');
  await page.keyboard.press('Control+,');
  await page.getByRole('dialog', { name: 'Settings of this chat' }).waitFor();
  await page.keyboard.press('Escape');
  await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('composer');
  await page.keyboard.press('Alt+3');
  await page.getByRole('heading', { name: 'Train', level: 1 }).waitFor();
  await page.keyboard.press('Control+k');
  await page.keyboard.type('first');
  await page.locator('#search-results li').waitFor();
  await page.keyboard.press('Enter');
  await answers(page).getByText('Answer 2').waitFor();
});

test('a dialog takes the keys from the moment it is on the page', async () => {
  const page = await openPage();
  const opened = page.evaluate(
    () =>
      new Promise<boolean>((resolve) => {
        new MutationObserver(() => {
          const dialog = document.querySelector('dialog');
          if (dialog) resolve(dialog.matches(':modal'));
        }).observe(document.body, { childList: true, subtree: true });
      }),
  );
  await button(page, 'Settings of this chat').click();
  expect(await opened).toBe(true);
});

test('the sheet of shortcuts opens with ? and can turn single keys off', async () => {
  const page = await openPage();
  await composer(page).pressSequentially('?');
  expect(await page.getByRole('dialog').count()).toBe(0);
  await page.locator('#main').focus();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await page.getByLabel('Shortcuts of a single key').uncheck();
  await page.keyboard.press('Escape');
  await page.locator('#main').focus();
  await page.keyboard.press('?');
  expect(await page.getByRole('dialog').count()).toBe(0);
});

test('a screen reader hears the answer in few, whole pieces', async () => {
  const page = await openPage();
  await page.evaluate(() => {
    const heard: string[] = [];
    Object.assign(window, { heard });
    const region = document.querySelector('[role="status"].sr-only')!;
    new MutationObserver(() => heard.push(region.textContent ?? '')).observe(region, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  });
  await answerWith(page, () => textEvents('The **first** sentence. '.repeat(50)));
  await ask(page, 'Go');
  const heard = await page.evaluate(() => (window as unknown as { heard: string[] }).heard);
  expect(heard.length).toBeLessThanOrEqual(3);
  expect(heard.at(-1)).toContain('The first sentence.');
  expect(heard.at(-1)).toContain('End of the answer.');
});

test('the language follows the browser, can be chosen, and stays', async () => {
  const page = await openPage('', { locale: 'zh-CN' });
  expect(await page.evaluate(() => document.documentElement.lang)).toBe('zh-Hans');
  await button(page, '设置').click();
  await page.getByLabel('语言').selectOption('en');
  await page.getByRole('dialog', { name: 'Settings' }).waitFor();
  await page.reload();
  await button(page, 'New chat').waitFor();
  expect(await page.evaluate(() => document.documentElement.lang)).toBe('en');
});

test('the theme follows the system, can be chosen, and stays', async () => {
  const page = await openPage('', { colorScheme: 'dark' });
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  expect(await theme()).toBe('dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await expect.poll(theme).toBe('light');
  await button(page, 'Settings').click();
  await page.getByLabel('Theme').selectOption('dark');
  expect(await theme()).toBe('dark');
  await page.reload();
  expect(await theme()).toBe('dark');
});

test.each([360, 390, 768])('nothing runs over the edge at %i pixels', async (width) => {
  const page = await openPage('', { viewport: { width, height: 740 }, hasTouch: true });
  await answerWith(page, () => textEvents(`${kRich}\n\n${'long'.repeat(100)}\n\n\`${'x'.repeat(200)}\``));
  await ask(page, 'word'.repeat(60));
  const overflow = () =>
    page.evaluate(
      () =>
        document.documentElement.scrollWidth -
        innerWidth +
        [...document.querySelectorAll('.messages, .scroll')].reduce(
          (sum, element) => sum + Math.max(0, element.scrollWidth - element.clientWidth),
          0,
        ),
    );
  expect(await overflow()).toBe(0);
  await button(page, 'Open the side bar').click();
  await page.getByRole('link', { name: 'Train' }).click();
  await page.locator('.run, .train .empty').first().waitFor();
  await expect.poll(overflow).toBe(0);
  await page.keyboard.press('Alt+2');
  await page.locator('.compare textarea.growing').waitFor();
  expect(await overflow()).toBe(0);
});

test('motion is left out where the person wants none', async () => {
  const page = await openPage('', { reducedMotion: 'reduce' });
  await button(page, 'Settings').click();
  const duration = await page.locator('dialog').evaluate((element) => parseFloat(getComputedStyle(element).animationDuration));
  expect(duration).toBeLessThan(0.001);
});

test('a chat of 5,000 messages opens quickly and shows earlier messages when asked', async () => {
  const page = await openPage();
  const messages: Record<string, object> = {};
  for (let i = 0; i < 5000; ++i)
    messages[`m${i}`] = {
      role: i % 2 ? 'assistant' : 'user',
      parent: i ? `m${i - 1}` : '',
      text: i % 2 ? kRich : `Question ${i}`,
      created: i + 1,
    };
  await button(page, 'Settings').click();
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), button(page, 'Import').click()]);
  await chooser.setFiles({
    name: 'long.json',
    mimeType: 'application/json',
    buffer: Buffer.from(JSON.stringify({ format: 'puna-conversations', version: 1, conversations: [{ title: 'Long', messages }] })),
  });
  await page.getByText('Imported: 1').first().waitFor();
  await page.keyboard.press('Escape');
  const begun = Date.now();
  await page.getByRole('link', { name: 'Long' }).click();
  await page.getByText('Question 4998').waitFor();
  expect(Date.now() - begun).toBeLessThan(5000);
  expect(await page.locator('article').count()).toBe(60);
  await button(page, /Show earlier messages/).click();
  await expect.poll(() => page.locator('article').count()).toBe(120);
  await answerWith(page, () => textEvents(kRich.repeat(5)));
  await ask(page, 'On');
  expect(await answers(page).last().locator('h4').count()).toBe(5);
});
