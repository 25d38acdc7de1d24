// SPDX-License-Identifier: Apache-2.0
// A run's metrics as they grow, and the lines to draw from them.
import type { MetricsRow } from '../api/types';

export interface RunMetrics {
  /** Rows of metrics.jsonl read so far. */
  next: number;
  train: MetricsRow[];
  heldOut: MetricsRow[];
  samples: MetricsRow[];
  faults: MetricsRow[];
}

export interface Line {
  steps: number[];
  values: (number | null)[];
}

export const noMetrics = (): RunMetrics => ({ next: 0, train: [], heldOut: [], samples: [], faults: [] });

/** A run that went back to a checkpoint writes its steps again: what it had written behind that step is void. */
function appended(rows: MetricsRow[], row: MetricsRow, mayRepeat: boolean): MetricsRow[] {
  let end = rows.length;
  while (end > 0 && (mayRepeat ? rows[end - 1]!.step > row.step : rows[end - 1]!.step >= row.step)) end -= 1;
  if (end < rows.length) rows.length = end;
  rows.push(row);
  return rows;
}

/** Adds what the server sent. Where the file got shorter (`next` lies before what is known) it has to be read again from its start. */
export function grown(metrics: RunMetrics, rows: MetricsRow[], next: number): RunMetrics {
  if (next < metrics.next) return noMetrics();
  const result = { ...metrics, next };
  for (const row of rows) {
    if (typeof row?.step !== 'number') continue;
    if (row.kind === 'train') appended(result.train, row, false);
    else if (row.kind === 'held_out') appended(result.heldOut, row, false);
    else if (row.kind === 'sample') appended(result.samples, row, true);
    else if (row.kind === 'fault') result.faults.push(row);
  }
  return result;
}

/** `figure` over steps. Exponential smoothing with weight 0 … 1 on the past: y ← w·y + (1 − w)·value, begun at the first value. */
export function lineOf(rows: MetricsRow[], figure: string, smoothing: number): Line {
  const steps: number[] = [];
  const values: (number | null)[] = [];
  let smooth: number | undefined;
  for (const row of rows) {
    const value = row[figure];
    if (value === undefined) continue;
    steps.push(row.step);
    if (typeof value !== 'number') {
      values.push(null);
      continue;
    }
    smooth = smooth === undefined ? value : smoothing * smooth + (1 - smoothing) * value;
    values.push(smooth);
  }
  return { steps, values };
}

/** At most about `limit` points: of each stretch its mean, at its last step. */
export function thinned({ steps, values }: Line, limit: number): Line {
  if (steps.length <= limit) return { steps, values };
  const stretch = Math.ceil(steps.length / limit);
  const thin: Line = { steps: [], values: [] };
  for (let from = 0; from < steps.length; from += stretch) {
    const part = values.slice(from, from + stretch).filter((value) => value !== null);
    thin.steps.push(steps[Math.min(from + stretch, steps.length) - 1]!);
    thin.values.push(part.length ? part.reduce((sum, value) => sum + value, 0) / part.length : null);
  }
  return thin;
}

/** Lines over one axis, as uPlot wants them: [steps, values, values, …], null where a line has no point. */
export function overOneAxis(lines: Line[]): [number[], ...(number | null)[][]] {
  const steps = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  const columns = lines.map((line) => {
    const column: (number | null)[] = new Array(steps.length).fill(null);
    line.steps.forEach((step, index) => (column[place.get(step)!] = line.values[index]!));
    return column;
  });
  return [steps, ...columns];
}

const kNotFigures = new Set(['step', 'kind', 'name', 'text', 'tokens', 'epochs']);

/** All figures the rows have, in the order of their first appearance. */
export function figuresOf(rows: MetricsRow[]): string[] {
  const found = new Set<string>();
  for (const row of rows.slice(0, 1)) for (const name of Object.keys(row)) if (!kNotFigures.has(name)) found.add(name);
  return [...found];
}

export const lastFigure = (rows: MetricsRow[], figure: string): number | undefined => {
  const value = rows.at(-1)?.[figure];
  return typeof value === 'number' ? value : undefined;
};
