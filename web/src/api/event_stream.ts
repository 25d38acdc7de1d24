// SPDX-License-Identifier: Apache-2.0
// Server-sent events as far as chat streams use them: `data:` lines, joined until the blank line; comments keep the line alive and
// mean nothing. Cuts between chunks may fall anywhere, inside a character too.

export class EventStreamReader {
  private rest = '';
  private data: string[] = [];
  private readonly decoder = new TextDecoder();

  /** The events that are complete after these bytes. */
  feed(bytes: Uint8Array): string[] {
    const events: string[] = [];
    // A carriage return at the end stays: the line feed of the pair may come with the next bytes.
    const text = this.rest + this.decoder.decode(bytes, { stream: true });
    const end = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.rest = (lines.pop() ?? '') + text.slice(end);
    for (const line of lines) this.takeLine(line, events);
    return events;
  }

  private takeLine(line: string, events: string[]) {
    if (line === '') {
      if (this.data.length > 0) events.push(this.data.join('\n'));
      this.data = [];
    } else if (line.startsWith('data:')) {
      this.data.push(line.slice(line[5] === ' ' ? 6 : 5));
    }
  }
}

export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const events = new EventStreamReader();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* events.feed(value);
    }
  } finally {
    reader.releaseLock();
  }
}
