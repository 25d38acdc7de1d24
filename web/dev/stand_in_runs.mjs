// SPDX-License-Identifier: Apache-2.0
// Training runs that never were: curves with the shape of real ones; the first goes on while the server runs.

const begun = Date.now();

export const kRuns = [
  { name: 'sft', objective: 'sft', steps: 900, from: 400, start: 2.2, floor: 0.9, rate: 1e-3, seed: 3 },
  { name: 'pretrain', objective: 'pretrain', steps: 1700, from: 1700, start: 12.6, floor: 2.4, rate: 3e-3, seed: 7 },
  { name: 'dpo', objective: 'dpo', steps: 180, from: 180, start: 0.69, floor: 0.34, rate: 1e-5, seed: 11 },
];

const stepOf = (run) => Math.min(run.steps, run.from + Math.floor((Date.now() - begun) / 500));
const noise = (seed, step) => ((Math.sin(seed * 12.9898 + step * 78.233) * 43758.5453) % 1) - 0.5;

export const runEntry = (run) => ({
  name: run.name,
  objective: run.objective,
  state: stepOf(run) < run.steps ? 'running' : 'finished',
  step: stepOf(run),
  steps: run.steps,
  updated: Math.floor(begun / 1000) - kRuns.indexOf(run) * 3600,
});

function rowsAt(run, step) {
  const part = step / run.steps;
  const loss = run.floor + (run.start - run.floor) * Math.exp(-7 * part);
  const rows = [
    {
      step,
      kind: 'train',
      loss: loss * (1 + 0.12 * noise(run.seed, step)),
      gradient_norm: 0.6 + 3 * Math.exp(-9 * part) + 0.3 * noise(run.seed + 1, step),
      learning_rate: run.rate * (part < 0.03 ? part / 0.03 : 0.5 * (1 + Math.cos(Math.PI * part))),
      tokens: step * 8192,
      tokens_per_second: 5600 + 500 * noise(run.seed + 2, step),
      epochs: part,
      ...(run.objective === 'dpo' ? { accuracy: 1 - 0.5 * Math.exp(-6 * part), margin: 5 * part } : {}),
    },
  ];
  if (step % Math.round(run.steps / 9) === 0) {
    rows.push({ step, kind: 'held_out', loss: loss * 1.04 });
    rows.push({ step, kind: 'sample', name: 'The mountain', text: ` was quiet at step ${step}, and the grass moved in the wind.` });
  }
  return rows;
}

const kept = new Map();

export function metricsOf(run, after) {
  const rows = kept.get(run) ?? [];
  kept.set(run, rows);
  for (let step = (rows.at(-1)?.step ?? 0) + 1; step <= stepOf(run); ++step) rows.push(...rowsAt(run, step));
  return { rows: rows.slice(after), next: rows.length };
}

export const recipeOf = (run) => `# ${run.name}
objective: "${run.objective}"
out: "runs/${run.name}"
seed: 1
steps: ${run.steps}
optimizer:
  learning_rate: ${run.rate}
  schedule: "cosine"
  warmup: 0.03
`;
