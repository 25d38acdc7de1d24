// SPDX-License-Identifier: Apache-2.0
// A message's Markdown. Blocks that did not change keep their elements, so that a selection in them survives the stream.
import { useMemo, useRef } from 'preact/hooks';
import { copyText } from '../interface/files';
import { language } from '../text/language';
import { GrowingMarkdown, renderMarkdown } from './markdown';

function onClick(event: MouseEvent) {
  const button = event.target instanceof Element && event.target.closest('button.copy-code');
  const code = button && button.closest('.code-block')?.querySelector('code');
  if (code) void copyText(code.textContent ?? '');
}

export function MarkdownView({ text, growing = false }: { text: string; growing?: boolean }) {
  const grown = useRef<GrowingMarkdown | undefined>(undefined);
  const words = language.value;
  const blocks = useMemo(
    () => (growing ? (grown.current ??= new GrowingMarkdown()).render(text) : renderMarkdown(text)),
    [text, growing, words],
  );
  return (
    <div class="markdown" onClick={onClick}>
      {blocks.map(({ html }, index) => (
        <div key={index} dangerouslySetInnerHTML={{ __html: html }} />
      ))}
    </div>
  );
}
