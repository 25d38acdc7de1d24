// SPDX-License-Identifier: Apache-2.0
// Puts Vite's script and style into the one page, and writes it gzipped beside the Content-Security-Policy that allows exactly these
// two and nothing else. The same sources give the same bytes.
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const sha256 = (text: string) => `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`;

/** What must not stand inside a script element as HTML reads it: `</script` closes it, `<!--` may swallow its end. */
export function scriptSafe(code: string): string {
  return code.replace(/<(?=\/script|!--|script)/gi, '\\x3C').trim();
}

export function contentSecurityPolicy(script: string, style: string): string {
  return [
    "default-src 'none'",
    `script-src ${sha256(script)}`,
    `style-src ${sha256(style)}`,
    "img-src 'self' data:",
    "connect-src 'self'",
    "font-src 'none'",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

/** Replaces the tags that load the assets by their text. Functions as replacements: `$` in code means nothing here. */
export function inlineAssets(html: string, script: string, style: string): string {
  const bare = html.replace(/\s*<script type="module"[^>]*src=[^>]*><\/script>/, '').replace(/\s*<link rel="stylesheet"[^>]*>/, '');
  if (bare.includes('src="') || bare.includes('rel="stylesheet"')) throw new Error('[page] an asset is still loaded by address');
  return bare
    .replace('</head>', () => `<style>${style}</style></head>`)
    .replace('</body>', () => `<script type="module">${script}</script></body>`);
}

export function singlePage({ limit }: { limit: number }): Plugin {
  return {
    name: 'single-page',
    apply: 'build',
    enforce: 'post',
    generateBundle(_options, bundle) {
      let html = '';
      let script = '';
      let style = '';
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type === 'chunk') script += file.code;
        else if (name.endsWith('.css')) style += String(file.source);
        else if (name.endsWith('.html')) html = String(file.source);
        else this.error(`[page] ${name}: only script and style can be put into the page`);
        delete bundle[name];
      }
      script = scriptSafe(script);
      style = style.trim();
      const page = gzipSync(Buffer.from(inlineAssets(html, script, style), 'utf8'), { level: 9 });
      if (page.length > limit) this.error(`[page] page.html.gz has ${page.length} bytes, more than ${limit}: take something out`);
      this.emitFile({ type: 'asset', fileName: 'page.html.gz', source: page });
      this.emitFile({ type: 'asset', fileName: 'page.csp', source: contentSecurityPolicy(script, style) + '\n' });
      this.info(`page.html.gz: ${page.length} of at most ${limit} bytes`);
    },
  };
}
