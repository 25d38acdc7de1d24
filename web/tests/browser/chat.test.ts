// SPDX-License-Identifier: Apache-2.0
// The chat as a person uses it, against whatever model the server has: nothing is asserted on its words.
import { expect, test } from 'vitest';
import { answers, ask, button, composer, finished, openPage, send, useBrowser } from './page_under_test';

useBrowser();

test('an answer streams in, with figures and the context bar', async () => {
  const page = await openPage();
  await ask(page, 'What is 17 + 25?');
  await expect.poll(() => answers(page).count()).toBe(1);
  expect(await answers(page).locator('.markdown').innerText()).not.toBe('');
  const figures = await answers(page).locator('.figures').innerText();
  expect(figures).toMatch(/tokens\/s/);
  expect(figures).toMatch(/first token [\d.]+ s/);
  expect(figures).toMatch(/\d+ of [\d,]+ tokens/);
  expect(await page.locator('meter').getAttribute('value')).toMatch(/^[1-9]/);
});

test('Enter sends, Shift+Enter breaks the line, and nothing empty is sent', async () => {
  const page = await openPage();
  await composer(page).press('Enter');
  expect(await page.locator('article').count()).toBe(0);
  expect(await button(page, 'Send').isDisabled()).toBe(true);
  await composer(page).fill('one');
  await composer(page).press('Shift+Enter');
  await composer(page).pressSequentially('two');
  await composer(page).press('Enter');
  await expect.poll(() => page.locator('.message.user .said').innerText()).toBe('one\ntwo');
  await finished(page);
});

test('a new answer is a version beside the old one', async () => {
  const page = await openPage();
  await ask(page, 'Name a colour.');
  await button(page, 'Answer again').click();
  await page.getByRole('group', { name: 'Version 2 of 2' }).waitFor({ state: 'attached' });
  await finished(page);
  await button(page, 'Previous version').click();
  await page.getByRole('group', { name: 'Version 1 of 2' }).waitFor();
  await button(page, 'Next version').click();
  await page.getByRole('group', { name: 'Version 2 of 2' }).waitFor();
});

test('an edited question is a branch, and both branches stay', async () => {
  const page = await openPage();
  await ask(page, 'First wording');
  await page.locator('.message.user').hover();
  await button(page, 'Edit as a new version').click();
  await page.getByLabel('Text of the message').fill('Second wording');
  await button(page, 'Send as a new version').click();
  await finished(page);
  expect(await page.locator('.said').innerText()).toBe('Second wording');
  await page.locator('.message.user').getByRole('button', { name: 'Previous version' }).click();
  await expect.poll(() => page.locator('.said').innerText()).toBe('First wording');
  expect(await answers(page).count()).toBe(1);
});

test('the text of an answer can be edited, and cancelled', async () => {
  const page = await openPage();
  await ask(page, 'Hello');
  await button(page, 'Edit the answer').click();
  await page.getByLabel('Text of the message').press('Escape');
  await button(page, 'Edit the answer').click();
  await page.getByLabel('Text of the message').fill('My **own** words');
  await button(page, 'Save').click();
  expect(await answers(page).locator('.markdown strong').innerText()).toBe('own');
  expect(await answers(page).locator('.edited').innerText()).toBe('edited');
  await page.reload();
  expect(await answers(page).locator('.markdown').innerText()).toBe('My own words');
});

test('a message is deleted, and comes back', async () => {
  const page = await openPage();
  await ask(page, 'Hello');
  await answers(page).getByRole('button', { name: 'Delete' }).click();
  await expect.poll(() => answers(page).count()).toBe(0);
  await button(page, 'Undo').click();
  await expect.poll(() => answers(page).count()).toBe(1);
});

test('conversations are kept, renamed, searched, deleted and brought back', async () => {
  const page = await openPage();
  await ask(page, 'About llamas');
  await page.keyboard.press('Control+Shift+o');
  await expect.poll(() => page.locator('article').count()).toBe(0);
  await ask(page, 'About mountains');
  const list = page.getByRole('navigation', { name: 'Conversations' });
  await expect.poll(() => list.getByRole('link').allInnerTexts()).toEqual(['About mountains', 'About llamas']);

  await list.getByRole('link', { name: 'About llamas' }).hover();
  await button(page, 'Rename “About llamas”').click();
  await page.getByLabel('New name').fill('Wool');
  await page.getByLabel('New name').press('Enter');
  await list.getByRole('link', { name: 'Wool' }).waitFor();

  await page.reload();
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: 'Words in titles and messages' }).fill('llamas');
  await expect.poll(() => page.locator('#search-results li').allInnerTexts()).toEqual([expect.stringContaining('Wool')]);
  await page.keyboard.press('Enter');
  await expect.poll(() => page.locator('.said').innerText()).toBe('About llamas');

  await list.getByRole('link', { name: 'Wool' }).hover();
  await button(page, 'Delete “Wool”').click();
  await expect.poll(() => list.getByRole('link').count()).toBe(1);
  await button(page, 'Undo').click();
  await list.getByRole('link', { name: 'Wool' }).waitFor();
});

test('conversations are exported and imported', async () => {
  const page = await openPage();
  await ask(page, 'Keep me');
  await button(page, 'Settings').click();
  const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Export all').click()]);
  const path = await download.path();
  await button(page, 'Delete all').click();
  await button(page, /for good/).click();
  await page.getByText('Your chats will be listed here.').waitFor();
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), button(page, 'Import').click()]);
  await chooser.setFiles(path);
  await page.getByText('Imported: 1').first().waitFor();
  const [wrong] = await Promise.all([page.waitForEvent('filechooser'), button(page, 'Import').click()]);
  await wrong.setFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('{"a":1}') });
  await page.getByText('x.json is not a file of conversations').first().waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'Keep me' }).click();
  await expect.poll(() => page.locator('article').count()).toBe(2);
});

test('the model is picked from a list that tells its state', async () => {
  const page = await openPage();
  const picker = page.getByRole('combobox', { name: 'Model' });
  await expect.poll(() => picker.locator('option').count()).toBeGreaterThan(0);
  expect(await picker.locator('option').first().innerText()).toMatch(/\((loaded|not loaded|loading)\)$/);
  await picker.selectOption({ index: (await picker.locator('option').count()) - 1 });
  const chosen = await picker.inputValue();
  const [request] = await Promise.all([page.waitForRequest('**/v1/chat/completions'), send(page, 'Hi')]);
  expect(request.postDataJSON().model).toBe(chosen);
});

test('system prompt and sampling of the chat go with the request, and stay with the chat', async () => {
  const page = await openPage();
  await button(page, 'Settings of this chat').click();
  await page.getByLabel('System prompt').fill('Answer in one word.');
  expect(await page.getByLabel('Temperature').getAttribute('placeholder')).toMatch(/default [\d.]+/);
  for (const [label, value] of [
    ['Temperature', '0.5'],
    ['Top-p', '0.9'],
    ['Top-k', '7'],
    ['Min-p', '0.05'],
    ['Max tokens', '12'],
    ['Seed', '3'],
  ])
    await page.getByLabel(label!, { exact: true }).fill(value!);
  await page.getByLabel('Stop at').fill('###\nEND');
  await page.getByLabel('Temperature').fill('9');
  await page.getByText('From 0 to 2').waitFor();
  await page.getByLabel('Temperature').fill('0.5');
  await page.keyboard.press('Escape');
  const [request] = await Promise.all([page.waitForRequest('**/v1/chat/completions'), send(page, 'Hi')]);
  expect(request.postDataJSON()).toMatchObject({
    messages: [
      { role: 'system', content: 'Answer in one word.' },
      { role: 'user', content: 'Hi' },
    ],
    temperature: 0.5,
    top_p: 0.9,
    top_k: 7,
    min_p: 0.05,
    max_tokens: 12,
    seed: 3,
    stop: ['###', 'END'],
    stream: true,
    stream_options: { include_usage: true },
  });
  await finished(page);
  expect(await page.locator('.failure').count()).toBe(0);
  await page.reload();
  await button(page, 'Settings of this chat').click();
  expect(await page.getByLabel('Top-k').inputValue()).toBe('7');
  await button(page, "Back to the server's defaults").click();
  expect(await page.getByLabel('Top-k').inputValue()).toBe('');
});

test('text files are attached, by choice and by drop; others are refused with the reason', async () => {
  const page = await openPage();
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), button(page, 'Attach text files').click()]);
  await chooser.setFiles([
    { name: 'notes.py', mimeType: 'text/plain', buffer: Buffer.from('print("```")\n') },
    { name: 'photo.png', mimeType: 'image/png', buffer: Buffer.from([0x89, 0x50, 0x4e, 0x47, 0]) },
    { name: 'huge.txt', mimeType: 'text/plain', buffer: Buffer.alloc(300 * 1024, 'a') },
  ]);
  await page.locator('.toast', { hasText: 'photo.png is not a text file' }).waitFor();
  await page.locator('.toast', { hasText: 'huge.txt is larger than 256 KB' }).waitFor();
  const transfer = await page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.items.add(new File(['dropped'], 'drop.txt', { type: 'text/plain' }));
    return data;
  });
  await page.dispatchEvent('.view.chat', 'dragover', { dataTransfer: transfer });
  await page.getByText('Drop text files here').waitFor();
  await page.dispatchEvent('.view.chat', 'drop', { dataTransfer: transfer });
  await expect.poll(() => page.locator('.chip').allInnerTexts()).toEqual(['notes.py', 'drop.txt']);
  const [request] = await Promise.all([page.waitForRequest('**/v1/chat/completions'), send(page, 'Read')]);
  expect(request.postDataJSON().messages.at(-1).content).toBe(
    'Read\n\nnotes.py:\n````py\nprint("```")\n````\n\ndrop.txt:\n```txt\ndropped\n```',
  );
  await page.locator('.attached summary', { hasText: 'notes.py' }).click();
  await page.locator('.attached pre', { hasText: 'print' }).waitFor();
});

test('a conversation that is not there leads to a new one', async () => {
  const page = await openPage('#/chat/nothing');
  await page.locator('.toast', { hasText: 'That conversation is not in this browser.' }).waitFor();
  await composer(page).waitFor();
  expect(page.url()).toMatch(/#\/chat$/);
});

test('what was begun stays with its chat', async () => {
  const page = await openPage();
  await ask(page, 'One');
  await composer(page).fill('half a thought');
  await button(page, 'New chat').click();
  await expect.poll(() => composer(page).inputValue()).toBe('');
  await page.getByRole('link', { name: 'One' }).click();
  await expect.poll(() => composer(page).inputValue()).toBe('half a thought');
});

test('what was begun in a new chat is there after a look elsewhere, until it is sent', async () => {
  const page = await openPage();
  await button(page, 'Settings of this chat').click();
  await page.getByLabel('System prompt').fill('Answer in one word.');
  await page.keyboard.press('Escape');
  await composer(page).fill('half a thought');
  await page.getByRole('link', { name: 'Train' }).click();
  await page.getByRole('heading', { name: 'Train', level: 1 }).waitFor();
  await page.getByRole('link', { name: 'Chat', exact: true }).click();
  await expect.poll(() => composer(page).inputValue()).toBe('half a thought');
  await composer(page).press('Enter');
  await finished(page);
  await button(page, 'Settings of this chat').click();
  expect(await page.getByLabel('System prompt').inputValue()).toBe('Answer in one word.');
  await page.keyboard.press('Escape');
  await button(page, 'New chat').click();
  await expect.poll(() => page.locator('article').count()).toBe(0);
  await button(page, 'Settings of this chat').click();
  expect(await page.getByLabel('System prompt').inputValue()).toBe('');
});
