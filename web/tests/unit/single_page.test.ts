// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { contentSecurityPolicy, inlineAssets, scriptSafe } from '../../build/single_page';

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
