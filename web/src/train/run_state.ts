// SPDX-License-Identifier: Apache-2.0
// The runs of the server and the metrics of those that are shown, read again every two seconds while the view is open.
import { signal } from '@preact/signals';
import { ApiError, fetchMetrics, fetchRuns } from '../api/client';
import type { RunEntry } from '../api/types';
import { grown, noMetrics, type RunMetrics } from './run_metrics';

const kPollMs = 2000;

export const runs = signal<RunEntry[] | null>(null);
export const shownRuns = signal<string[]>([]);
export const metricsOf = signal<ReadonlyMap<string, RunMetrics>>(new Map());
export const runsError = signal<ApiError | null>(null);

async function readMetrics(name: string) {
  const before = metricsOf.value.get(name);
  const known = before ?? noMetrics();
  const { rows, next } = await fetchMetrics(name, known.next);
  // Another poll was faster and has brought the same rows.
  if (metricsOf.value.get(name) !== before) return;
  if (before && rows.length === 0 && next === known.next) return;
  metricsOf.value = new Map(metricsOf.value).set(name, grown(known, rows, next));
}

export async function pollRuns(): Promise<void> {
  try {
    const found = (await fetchRuns()).sort((a, b) => (b.updated ?? 0) - (a.updated ?? 0));
    if (runs.value === null && shownRuns.value.length === 0 && found[0]) shownRuns.value = [found[0].name];
    runs.value = found;
    const names = shownRuns.value.filter((name) => found.some((run) => run.name === name));
    await Promise.all(names.map(readMetrics));
    runsError.value = null;
  } catch (cause) {
    runsError.value = cause instanceof ApiError ? cause : new ApiError(String(cause), 0);
  }
}

/** Polls until the returned function is called; pauses while the page is hidden. */
export function followRuns(): () => void {
  let timer = 0;
  let here = true;
  const next = async () => {
    if (!document.hidden) await pollRuns();
    if (here) timer = window.setTimeout(next, kPollMs);
  };
  void next();
  return () => {
    here = false;
    clearTimeout(timer);
  };
}

export function toggleRun(name: string) {
  const others = shownRuns.value.filter((shown) => shown !== name);
  shownRuns.value = others.length < shownRuns.value.length ? others : [...others, name];
  void pollRuns();
}

const colours = new Map<string, number>();
/** A run keeps its colour, 1 … 8, as long as the page is open. */
export function colourOf(name: string): number {
  if (!colours.has(name)) colours.set(name, (colours.size % 8) + 1);
  return colours.get(name)!;
}
