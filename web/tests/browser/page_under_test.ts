// SPDX-License-Identifier: Apache-2.0
// Opens the page in Chromium. PAGE_URL names the server; without it the stand-in serves dist/. CHROMIUM names the browser.
// Every page is watched: a violation of the policy, an error in the console or a request to another host fails the test.
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';

let browser: Browser;
let standIn: ChildProcess | undefined;
let address = process.env.PAGE_URL?.replace(/\/$/, '') ?? '';

const kDesktop = { width: 1280, height: 800 };
export const kPhone = { width: 390, height: 844 };

interface Watched {
  page: Page;
  faults: string[];
}
let watched: Watched[] = [];

async function startStandIn(): Promise<string> {
  standIn = spawn(process.execPath, [fileURLToPath(new URL('../../dev/stand_in.mjs', import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface(standIn.stdout!)) return line;
  throw new Error('the stand-in server did not start: run npm run build first');
}

/** In each test file, once. */
export function useBrowser() {
  beforeAll(async () => {
    address ||= await startStandIn();
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  });
  afterEach(async () => {
    const faults = watched.flatMap((entry) => entry.faults);
    await Promise.all(watched.map(({ page }) => page.context().close()));
    watched = [];
    expect(faults).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    standIn?.kill();
  });
}

/** Lines of the console that a test expects: the browser logs each answer of 400 and above. */
const kLogged = /Failed to load resource: (the server responded with a status of|net::ERR_(FAILED|CONNECTION|ABORTED|INCOMPLETE))/;

export async function openPage(hash = '', options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: kDesktop, locale: 'en', ...options });
  const page = await context.newPage();
  const faults: string[] = [];
  watched.push({ page, faults });
  page.on('console', (message) => {
    if (message.type() === 'error' && !kLogged.test(message.text())) faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`thrown: ${error.message}`));
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !/^(data|blob|about):/.test(url)) faults.push(`request: ${url}`);
  });
  await page.exposeFunction('reportViolation', (what: string) => faults.push(`policy: ${what}`));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sample }) =>
      (window as unknown as { reportViolation: (what: string) => void }).reportViolation(
        `${violatedDirective} ${blockedURI} ${sample}`,
      ),
    );
  });
  await page.goto(`${address}/${hash}`);
  await page.locator('main h1').waitFor({ state: 'attached' });
  return page;
}

export const composer = (page: Page) => page.locator('#composer');
export const answers = (page: Page) => page.locator('article.message.assistant');

export async function send(page: Page, text: string) {
  await composer(page).fill(text);
  await composer(page).press('Enter');
}

/** Sends and waits for the end of the answer. */
export async function ask(page: Page, text: string) {
  await send(page, text);
  await finished(page);
}

export async function finished(page: Page) {
  await answers(page).last().waitFor();
  await page.locator('article[aria-busy="true"]').waitFor({ state: 'detached' });
}

export const button = (page: Page, name: string | RegExp) => page.getByRole('button', { name, exact: typeof name === 'string' });
