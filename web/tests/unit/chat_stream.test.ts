// SPDX-License-Identifier: Apache-2.0
import { expect, test, vi } from 'vitest';

vi.stubGlobal('localStorage', { getItem: () => null });
vi.stubGlobal('sessionStorage', { getItem: () => null });
const { addChunk, emptyAnswer, tokensPerSecond } = await import('../../src/api/chat_stream');

const delta = (delta: object, finish_reason: string | null = null) => ({ choices: [{ delta, finish_reason }] });

test('gathers text, finish, usage and the time of the first token', () => {
  const answer = emptyAnswer();
  addChunk(answer, delta({ role: 'assistant' }), 10);
  addChunk(answer, delta({ content: 'Hel' }), 20);
  addChunk(answer, delta({ content: 'lo', reasoning_content: 'why' }), 30);
  addChunk(answer, delta({}, 'stop'), 40);
  addChunk(answer, { choices: [], usage: { total_tokens: 9 }, timings: { predicted_per_second: 50 } }, 50);
  expect(answer).toMatchObject({ text: 'Hello', reasoning: 'why', finish: 'stop', firstTokenMs: 20, usage: { total_tokens: 9 } });
  expect(tokensPerSecond(answer)).toBe(50);
});

test('puts tool calls together by index', () => {
  const answer = emptyAnswer();
  addChunk(answer, delta({ tool_calls: [{ index: 0, id: 'x', function: { name: 'f', arguments: '' } }] }), 1);
  addChunk(answer, delta({ tool_calls: [{ index: 1, id: 'y', function: { name: 'g', arguments: '{' } }] }), 2);
  addChunk(
    answer,
    delta({
      tool_calls: [
        { index: 0, function: { arguments: '{"a"' } },
        { index: 1, function: { arguments: '}' } },
      ],
    }),
    3,
  );
  addChunk(answer, delta({ tool_calls: [{ index: 0, function: { arguments: ':1}' } }] }), 4);
  expect(answer.toolCalls).toEqual([
    { id: 'x', type: 'function', function: { name: 'f', arguments: '{"a":1}' } },
    { id: 'y', type: 'function', function: { name: 'g', arguments: '{}' } },
  ]);
});

test('puts tool calls together without index', () => {
  const answer = emptyAnswer();
  addChunk(answer, delta({ tool_calls: [{ id: 'x', function: { name: 'f' } }] }), 1);
  addChunk(answer, delta({ tool_calls: [{ function: { arguments: '{}' } }] }), 2);
  addChunk(answer, delta({ tool_calls: [{ id: 'y', function: { name: 'g' } }] }), 3);
  expect(answer.toolCalls.map((call) => call.function)).toEqual([
    { name: 'f', arguments: '{}' },
    { name: 'g', arguments: '' },
  ]);
});

test('throws the error a chunk carries', () => {
  expect(() => addChunk(emptyAnswer(), { error: { message: 'out of room', code: 'full' } }, 1)).toThrow('out of room');
});

test('counts tokens per second itself where the server does not say', () => {
  const answer = { ...emptyAnswer(), firstTokenMs: 1000, totalMs: 3000, pieces: 41 };
  expect(tokensPerSecond(answer)).toBe(20);
  expect(tokensPerSecond(emptyAnswer())).toBeUndefined();
});
