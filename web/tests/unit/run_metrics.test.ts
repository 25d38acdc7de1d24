// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import type { MetricsRow } from '../../src/api/types';
import { figuresOf, grown, lineOf, noMetrics, overOneAxis, thinned } from '../../src/train/run_metrics';

const train = (step: number, loss: number | null = step) => ({ step, kind: 'train', loss }) as MetricsRow;

test('sorts rows by kind', () => {
  const metrics = grown(
    noMetrics(),
    [
      train(1),
      { step: 1, kind: 'held_out', loss: 2 },
      { step: 1, kind: 'sample', name: 'p', text: 't' },
      { step: 1, kind: 'fault', text: 'NaN' },
    ],
    4,
  );
  expect([metrics.train.length, metrics.heldOut.length, metrics.samples.length, metrics.faults.length, metrics.next]).toEqual([
    1, 1, 1, 1, 4,
  ]);
});

test('a run that went back replaces its later steps', () => {
  let metrics = grown(noMetrics(), [train(1), train(2), train(3)], 3);
  metrics = grown(metrics, [train(2, 9)], 4);
  expect(metrics.train.map(({ step, loss }) => [step, loss])).toEqual([
    [1, 1],
    [2, 9],
  ]);
});

test('several samples of one step stay', () => {
  const sample = (step: number, text: string) => ({ step, kind: 'sample', name: 'p', text }) as MetricsRow;
  expect(grown(noMetrics(), [sample(1, 'a'), sample(1, 'b'), sample(2, 'c')], 3).samples.length).toBe(3);
});

test('a file that got shorter is read again', () => {
  expect(grown(grown(noMetrics(), [train(1), train(2)], 2), [], 1)).toEqual(noMetrics());
});

test('smooths exponentially and keeps gaps', () => {
  expect(lineOf([train(1, 4), train(2, null), train(3, 0)], 'loss', 0.5)).toEqual({ steps: [1, 2, 3], values: [4, null, 2] });
  expect(lineOf([train(1, 4), train(2, 8)], 'loss', 0)).toEqual({ steps: [1, 2], values: [4, 8] });
  expect(lineOf([train(1, 4)], 'accuracy', 0)).toEqual({ steps: [], values: [] });
});

test('thins by means of stretches', () => {
  expect(thinned({ steps: [1, 2, 3, 4, 5], values: [1, 3, null, 5, 7] }, 3)).toEqual({ steps: [2, 4, 5], values: [2, 5, 7] });
  const short = { steps: [1], values: [1] };
  expect(thinned(short, 3)).toEqual(short);
});

test('lays lines over one axis', () => {
  expect(
    overOneAxis([
      { steps: [1, 3], values: [10, 30] },
      { steps: [2, 3], values: [5, null] },
    ]),
  ).toEqual([
    [1, 2, 3],
    [10, null, 30],
    [null, 5, null],
  ]);
});

test('names the figures of an objective', () => {
  expect(figuresOf([{ step: 1, kind: 'train', loss: 1, tokens: 2, epochs: 1, margin: 3 }])).toEqual(['loss', 'margin']);
});
