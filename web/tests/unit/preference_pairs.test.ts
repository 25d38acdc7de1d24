// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { jsonLines, scores, voteOf } from '../../src/compare/preference_pairs';

const prompt = [{ role: 'user' as const, content: 'Q' }];
const a = { model: 'm', text: 'A' };
const b = { model: 'n', text: 'B' };

test('the better side is chosen', () => {
  expect(voteOf(prompt, a, b, 'b')).toEqual({
    prompt,
    chosen: [{ role: 'assistant', content: 'B' }],
    rejected: [{ role: 'assistant', content: 'A' }],
    chosen_model: 'n',
    rejected_model: 'm',
    winner: 'b',
  });
  expect(voteOf(prompt, a, b, 'a').chosen_model).toBe('m');
});

test('only decided votes are exported, one JSON object a line, with the fields of a pair', () => {
  const lines = jsonLines([
    voteOf(prompt, a, b, 'a'),
    voteOf(prompt, a, b, 'tie'),
    voteOf(prompt, a, b, 'bad'),
    voteOf(prompt, a, b, 'b'),
  ]);
  const read = lines
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.endsWith('\n')).toBe(true);
  expect(read.map((pair) => pair.chosen_model)).toEqual(['m', 'n']);
  expect(Object.keys(read[0])).toEqual(['prompt', 'chosen', 'rejected', 'chosen_model', 'rejected_model']);
});

test('scores count wins, losses and draws', () => {
  const votes = [voteOf(prompt, a, b, 'b'), voteOf(prompt, a, b, 'b'), voteOf(prompt, a, b, 'tie')];
  expect(scores(votes)).toEqual([
    { model: 'n', wins: 2, losses: 0, draws: 1 },
    { model: 'm', wins: 0, losses: 2, draws: 1 },
  ]);
});
