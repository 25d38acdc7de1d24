// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { decodeText, fenced, kMaxFileBytes, readAttachment } from '../../src/chat/attachments';

const bytes = (...values: number[]) => new Uint8Array(values);

test('reads UTF-8 and marked UTF-16', () => {
  expect(decodeText(new TextEncoder().encode('a\r\nb 山'))).toBe('a\nb 山');
  expect(decodeText(bytes(0xff, 0xfe, 0x61, 0))).toBe('a');
  expect(decodeText(bytes(0xfe, 0xff, 0, 0x61))).toBe('a');
});

test('takes nothing else for text', () => {
  expect(decodeText(bytes(0x89, 0x50, 0x4e, 0x47))).toBeUndefined();
  expect(decodeText(bytes(0x61, 0, 0x62))).toBeUndefined();
  expect(decodeText(bytes(0xc3, 0x28))).toBeUndefined();
  expect(decodeText(bytes(0x25, 0x50, 0x44, 0x46, 1))).toBeUndefined();
});

test('refuses with the reason', async () => {
  const file = (content: BlobPart, name: string) => new File([content], name);
  expect(await readAttachment(file(new Uint8Array(kMaxFileBytes + 1), 'big.txt'))).toEqual({ reason: 'large', name: 'big.txt' });
  expect(await readAttachment(file('', 'no.txt'))).toEqual({ reason: 'empty', name: 'no.txt' });
  expect(await readAttachment(file(bytes(0, 1), 'b.bin'))).toEqual({ reason: 'binary', name: 'b.bin' });
  expect(await readAttachment(file('x', 'a.txt'))).toEqual({ name: 'a.txt', text: 'x' });
});

test('no file can close its fence, and no name can open another', () => {
  expect(fenced('', [{ name: 'a`\nb.md', text: '```\n`````\n' }])).toBe('a  b.md:\n``````md\n```\n`````\n``````');
});
