// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { gunzipSync } from 'node:zlib';
import { contentSecurityPolicy, inlineAssets, scriptSafe, singlePage } from '../../build/single_page';

const kPage =
  '<head>\n<script type="module" crossorigin src="/assets/a.js"></script>\n<link rel="stylesheet" crossorigin href="/assets/a.css">\n</head><body></body>';

test('puts both assets in, and lets no dollar sign act', () => {
  expect(inlineAssets(kPage, 'f("$&$`")', 'a{}')).toBe(
    '<head>\n<style>a{}</style></head><body><script type="module">f("$&$`")</script></body>',
  );
});

test('refuses a page that still loads something', () => {
  expect(() => inlineAssets(kPage.replace('<body>', '<body><img src="/x.png">'), '', '')).toThrow('[page]');
});

test('code cannot end its element', () => {
  expect(scriptSafe('a="</SCRIPT><!--<script"')).toBe('a="\\x3C/SCRIPT>\\x3C!--\\x3Cscript"');
});

test('the policy names the hash of what is inlined', () => {
  // printf %s 'alert(1)' | openssl dgst -sha256 -binary | base64
  expect(contentSecurityPolicy('alert(1)', '')).toContain("script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI=';");
  expect(contentSecurityPolicy('', '')).toMatch(/^default-src 'none';/);
  expect(contentSecurityPolicy('', '')).not.toContain('unsafe');
});

/** What the plugin emits for a bundle of one script, one style and the page; throws as the build does. */
function built(limit: number, more = {}) {
  const emitted: Record<string, Buffer | string> = {};
  const context = {
    emitFile: ({ fileName, source }: { fileName: string; source: Buffer | string }) => (emitted[fileName] = source),
    info: () => {},
    error: (message: string) => {
      throw new Error(message);
    },
  };
  const bundle = {
    'a.js': { type: 'chunk', code: 'run()' },
    'a.css': { type: 'asset', source: 'a{}' },
    'index.html': { type: 'asset', source: kPage },
    ...more,
  };
  const { generateBundle } = singlePage({ limit }) as unknown as {
    generateBundle: (this: object, options: object, bundle: object) => void;
  };
  generateBundle.call(context, {}, bundle);
  return { emitted, left: Object.keys(bundle) };
}

test('the build leaves the page and its policy, the same bytes each time', () => {
  const { emitted, left } = built(1000);
  expect(left).toEqual([]);
  expect(Object.keys(emitted)).toEqual(['page.html.gz', 'page.csp']);
  expect(gunzipSync(emitted['page.html.gz'] as Buffer).toString()).toContain('<script type="module">run()</script>');
  expect(built(1000).emitted).toEqual(emitted);
  // Bytes 4 to 7 of a gzip file are its time.
  expect([...(emitted['page.html.gz'] as Buffer).subarray(4, 8)]).toEqual([0, 0, 0, 0]);
});

test('the build fails where the page is too large, or something cannot be put into it', () => {
  expect(() => built(50)).toThrow(/bytes, more than 50/);
  expect(() => built(1000, { 'x.woff2': { type: 'asset', source: '' } })).toThrow(/x\.woff2: only script and style/);
});
