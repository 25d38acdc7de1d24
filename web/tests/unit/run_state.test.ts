// SPDX-License-Identifier: Apache-2.0
import { expect, test, vi } from 'vitest';

vi.stubGlobal('localStorage', { getItem: () => null });
vi.stubGlobal('sessionStorage', { getItem: () => null });

test('two polls at once bring each row once', async () => {
  const rows = [
    { step: 1, kind: 'sample', name: 'p', text: 't' },
    { step: 1, kind: 'fault', text: 'NaN' },
  ];
  let known = 0;
  vi.stubGlobal('fetch', async (path: string) =>
    Response.json(path === '/puna/runs' ? { runs: [{ name: 'a' }] } : { rows: rows.slice(0, known), next: known }),
  );
  const { metricsOf, pollRuns, runsError } = await import('../../src/train/run_state');
  await pollRuns();
  known = 2;
  await Promise.all([pollRuns(), pollRuns()]);
  expect(runsError.value).toBe(null);
  expect(metricsOf.value.get('a')).toMatchObject({ next: 2, samples: [rows[0]], faults: [rows[1]] });
});
