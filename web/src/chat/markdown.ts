// SPDX-License-Identifier: Apache-2.0
// Markdown of a model to HTML that can do no harm: raw HTML is shown as text, images as their address, links lead to http(s) and mail
// only; then DOMPurify lets a short list of elements through.
import DOMPurify from 'dompurify';
import { Marked, type Token, type Tokens } from 'marked';
import { t } from '../text/language';
import { highlighted } from './highlight';

export const escaped = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const safeAddress = (address: string) => /^(https?:\/\/|mailto:)/i.test(address.trim());

const marked = new Marked({ gfm: true });
marked.use({
  renderer: {
    html: ({ text }) => escaped(text),
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    link({ href, title, tokens }) {
      const inside = this.parser.parseInline(tokens);
      if (!safeAddress(href)) return `${inside} <code>${escaped(href)}</code>`;
      const hint = title ? ` title="${escaped(title)}"` : '';
      return `<a href="${escaped(href.trim())}"${hint} target="_blank" rel="noopener noreferrer">${inside}</a>`;
    },
    image: ({ href, text }) =>
      `<span class="image-address">${escaped(t('markdown.image'))} ${escaped(text)} <code>${escaped(href)}</code></span>`,
    code({ text, lang }) {
      const language = /^[\w+#.-]{1,20}/.exec(lang ?? '')?.[0] ?? '';
      return (
        `<div class="code-block"><div class="code-head"><span>${escaped(language)}</span>` +
        `<button type="button" class="copy-code">${escaped(t('action.copy'))}</button></div>` +
        `<pre tabindex="0" role="region" aria-label="${escaped(t('markdown.code', { language }))}">` +
        `<code>${highlighted(text, language)}</code></pre></div>\n`
      );
    },
    table(token: Tokens.Table) {
      const cell = (tag: string, { tokens, align }: Tokens.TableCell) =>
        `<${tag}${align ? ` align="${align}"` : ''}>${this.parser.parseInline(tokens)}</${tag}>`;
      const head = token.header.map((entry) => cell('th', entry)).join('');
      const rows = token.rows.map((row) => `<tr>${row.map((entry) => cell('td', entry)).join('')}</tr>`).join('');
      return (
        `<div class="table-scroll" tabindex="0" role="region" aria-label="${escaped(t('markdown.table'))}">` +
        `<table><thead><tr>${head}</tr></thead><tbody>${rows}</tbody></table></div>\n`
      );
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

// prettier-ignore
const kTags = ['a', 'b', 'blockquote', 'br', 'button', 'code', 'del', 'div', 'em', 'h3', 'h4', 'h5', 'h6', 'hr', 'li', 'ol', 'p', 'pre',
  'span', 'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul'];
const kAttributes = ['align', 'aria-label', 'class', 'href', 'rel', 'role', 'start', 'tabindex', 'target', 'title', 'type'];

const purified = (html: string) =>
  DOMPurify.sanitize(html, {
    ALLOWED_TAGS: kTags,
    ALLOWED_ATTR: kAttributes,
    ALLOWED_URI_REGEXP: /^(https?:|mailto:)/i,
    ADD_URI_SAFE_ATTR: kAttributes.filter((name) => name !== 'href'),
    ALLOW_DATA_ATTR: false,
  });

// DOMPurify drops target to be safe of window.opener; our links carry rel=noopener.
DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer');
  }
});

export interface Block {
  source: string;
  html: string;
}

const htmlOf = (tokens: Token[]) => purified(marked.parser(tokens as Parameters<typeof marked.parser>[0]));

/** Whole text to blocks, one per top-level token. */
export function renderMarkdown(text: string): Block[] {
  const tokens = marked.lexer(text);
  return tokens.filter(({ type }) => type !== 'space').map((token) => ({ source: token.raw, html: htmlOf([token]) }));
}

/** A text that grows at its end. Only the last two blocks are parsed again: a list may go on after a blank line, all before is done. */
export class GrowingMarkdown {
  private done: Block[] = [];
  private doneLength = 0;
  private text = '';

  render(grown: string): Block[] {
    const text = grown.replace(/\r\n?/g, '\n');
    if (!text.startsWith(this.text)) {
      this.done = [];
      this.doneLength = 0;
    }
    this.text = text;
    const tokens = marked.lexer(text.slice(this.doneLength));
    const open = tokens.filter(({ type }) => type !== 'space').slice(-2);
    const tail: Block[] = [];
    for (const token of tokens) {
      const settled = tail.length === 0 && !open.includes(token);
      if (settled) this.doneLength += token.raw.length;
      if (token.type === 'space') continue;
      (settled ? this.done : tail).push({ source: token.raw, html: htmlOf([token]) });
    }
    return [...this.done, ...tail];
  }
}
