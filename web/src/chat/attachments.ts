// SPDX-License-Identifier: Apache-2.0
// Files go to the model as fenced text. What is not text, or too much of it, is refused with the reason.

export interface Attachment {
  name: string;
  text: string;
}

export const kMaxFileBytes = 256 * 1024;
export const kMaxFiles = 8;

export type Refusal = { reason: 'binary' | 'large' | 'many' | 'empty'; name: string };

/** UTF-8, or UTF-16 with its mark; undefined for anything else. Control characters that no text has count as binary. */
export function decodeText(bytes: Uint8Array): string | undefined {
  const encoding =
    bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : 'utf-8';
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    return /[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? undefined : text.replace(/\r\n?/g, '\n');
  } catch {
    return undefined;
  }
}

export async function readAttachment(file: File): Promise<Attachment | Refusal> {
  if (file.size > kMaxFileBytes) return { reason: 'large', name: file.name };
  if (file.size === 0) return { reason: 'empty', name: file.name };
  const text = decodeText(new Uint8Array(await file.arrayBuffer()));
  return text === undefined ? { reason: 'binary', name: file.name } : { name: file.name, text };
}

const languageOf = (name: string) => /\.([a-z0-9]{1,8})$/i.exec(name)?.[1]?.toLowerCase() ?? '';

/** The fence is longer than any run of backticks inside, so that no file can close it. */
export function fenced(text: string, attachments: Attachment[]): string {
  const blocks = attachments.map(({ name, text: inside }) => {
    const longest = Math.max(2, ...[...inside.matchAll(/`+/g)].map(([run]) => run.length));
    const fence = '`'.repeat(longest + 1);
    return `${name.replace(/[\r\n`]/g, ' ')}:\n${fence}${languageOf(name)}\n${inside.replace(/\n?$/, '\n')}${fence}`;
  });
  return [text, ...blocks].filter((part) => part !== '').join('\n\n');
}
