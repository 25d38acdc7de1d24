// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { EventStreamReader } from '../../src/api/event_stream';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('EventStreamReader', () => {
  test('joins data lines, skips comments and other fields', () => {
    const reader = new EventStreamReader();
    expect(reader.feed(bytes(': alive\n\ndata: a\ndata:b\nevent: x\nid: 1\n\ndata: [DONE]\n\n'))).toEqual(['a\nb', '[DONE]']);
  });

  test('gives the same events wherever the bytes are cut', () => {
    const whole = bytes('data: {"t":"山 🌈"}\r\n\r\ndata: two\n\n: c\n\ndata: three\r\n\r\n');
    for (let cut = 0; cut <= whole.length; ++cut) {
      const reader = new EventStreamReader();
      const events = [...reader.feed(whole.slice(0, cut)), ...reader.feed(whole.slice(cut))];
      expect(events, `cut at ${cut}`).toEqual(['{"t":"山 🌈"}', 'two', 'three']);
    }
    const reader = new EventStreamReader();
    expect([...whole].flatMap((byte) => reader.feed(new Uint8Array([byte])))).toEqual(['{"t":"山 🌈"}', 'two', 'three']);
  });

  test('keeps an event back until its blank line', () => {
    const reader = new EventStreamReader();
    expect(reader.feed(bytes('data: a\n'))).toEqual([]);
    expect(reader.feed(bytes('\n'))).toEqual(['a']);
  });
});
