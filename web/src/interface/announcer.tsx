// SPDX-License-Identifier: Apache-2.0
// What a screen reader says: short notices at once, a stream in whole sentences, at most one utterance each few seconds.
import { signal } from '@preact/signals';

const kStreamPauseMs = 3000;

const spoken = signal('');
export const announce = (text: string) => (spoken.value = text);

/** The part of `text` after `from` that ends with a sentence or line; its end. */
export function wholeSentences(text: string, from: number): { say: string; end: number } {
  const fresh = text.slice(from);
  const ends = [...fresh.matchAll(/[.!?。!?]["')”]?\s|[。!?]|\n/g)];
  const last = ends.at(-1);
  const end = last ? from + last.index + last[0].length : from;
  return {
    say: text
      .slice(from, end)
      .replace(/[*_`#>|]/g, '')
      .replace(/\s+/g, ' ')
      .trim(),
    end,
  };
}

/** Speaks a growing text; `finish` says the rest. */
export class StreamAnnouncer {
  private end = 0;
  private last = performance.now();

  grow(text: string) {
    if (performance.now() - this.last < kStreamPauseMs) return;
    const { say, end } = wholeSentences(text, this.end);
    if (!say) return;
    this.end = end;
    this.last = performance.now();
    announce(say);
  }

  finish(text: string, notice: string) {
    const rest = wholeSentences(text + '\n', this.end).say;
    announce([rest, notice].filter(Boolean).join(' — '));
  }
}

export const Announcer = () => (
  <div class="sr-only" aria-live="polite" aria-atomic="true" role="status">
    {spoken.value}
  </div>
);
