// SPDX-License-Identifier: Apache-2.0
// Blocks and their HTML before DOMPurify, which needs a browser; what it lets through is tested there.
import { expect, test, vi } from 'vitest';

vi.mock('dompurify', () => ({ default: { sanitize: (html: string) => html, addHook: () => {} } }));
vi.stubGlobal('localStorage', { getItem: () => null });
vi.stubGlobal('navigator', { languages: ['en'] });
const { GrowingMarkdown, renderMarkdown } = await import('../../src/chat/markdown');

const html = (text: string) =>
  renderMarkdown(text)
    .map((block) => block.html)
    .join('');

const kText = `# Title

Some *text* with \`code\`.
Second line.

1. one

2. two

   inside two
3. three

- [ ] open
- [x] done

| a | b |
|---|--:|
| 1 | 2 |

> quote
> goes on

\`\`\`python
def f():

    return 1
\`\`\`

Last [link](https://example.org) and <b>raw</b>.
`;

test('a text that grows ends as the whole text does, however it is cut', () => {
  const whole = renderMarkdown(kText).map((block) => block.html);
  for (const size of [1, 2, 3, 7, 16, 64, 1000]) {
    const growing = new GrowingMarkdown();
    let blocks = growing.render('');
    for (let end = size; end < kText.length + size; end += size) blocks = growing.render(kText.slice(0, end));
    expect(
      blocks.map((block) => block.html),
      `pieces of ${size}`,
    ).toEqual(whole);
  }
});

test('only the end is parsed again', () => {
  const growing = new GrowingMarkdown();
  const paragraphs = Array.from({ length: 50 }, (_, i) => `Paragraph ${i}.\n\n`).join('');
  const before = growing.render(paragraphs);
  const after = growing.render(paragraphs + 'More');
  expect(after.slice(0, 40).every((block, index) => block === before[index])).toBe(true);
});

test('begins anew for another text', () => {
  const growing = new GrowingMarkdown();
  growing.render('one\n\ntwo\n\nthree\n\nfour');
  expect(growing.render('other').map((block) => block.source)).toEqual(['other']);
});

test('raw HTML is text, images are addresses, and links lead to the web or to mail only', () => {
  expect(html('<img src=x onerror=alert(1)>')).not.toContain('<img');
  expect(html('a <script>x</script>')).not.toContain('<script');
  expect(html('![alt text](https://example.org/a.png)')).toContain('alt text <code>https://example.org/a.png</code>');
  expect(html('![alt text](https://example.org/a.png)')).not.toContain('<img');
  expect(html('[x](javascript:alert(1))')).not.toContain('href');
  expect(html('[x](data:text/html,y)')).not.toContain('href');
  expect(html('[x](https://example.org)')).toContain('rel="noopener noreferrer"');
});

test('code is coloured where the language is known, and escaped always', () => {
  expect(html('```python\ndef f(): pass\n```')).toContain('hljs-keyword');
  expect(html('```nonsense"><b>\n<b>&\n```')).toContain('&lt;b&gt;&amp;');
  expect(html('```nonsense"><b>\n<b>&\n```')).not.toContain('<b>');
});
