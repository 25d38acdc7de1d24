// SPDX-License-Identifier: Apache-2.0
// Training runs: their curves over one another, live, then latest figures, samples and recipes.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { props } from '../api/server_state';
import { FailureView } from '../chat/failure_view';
import { failureOf } from '../chat/session';
import { route } from '../interface/route';
import { t } from '../text/language';
import { Chart, type ChartLine } from './chart';
import { figureTitle, kMainFigures } from './figures';
import { figuresOf, lineOf, type RunMetrics } from './run_metrics';
import { RunDetails } from './run_details';
import { RunList } from './run_list';
import { colourOf, followRuns, metricsOf, pollRuns, runs, runsError, shownRuns } from './run_state';
import { RunTable } from './run_table';

export function TrainView() {
  const { id } = route.value;
  useEffect(() => {
    if (id && !shownRuns.value.includes(id)) shownRuns.value = [...shownRuns.value, id];
  }, [id]);
  useEffect(followRuns, []);
  const failure = runsError.value;
  return (
    <div class="view train">
      <header class="view-head">
        <h1 class="title" tabIndex={-1}>
          {t('view.train')}
        </h1>
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('view.train')}>
        {failure && <FailureView failure={failureOf(failure)} onRetry={() => void pollRuns()} />}
        {runs.value === null && !failure && <p class="note">{t('train.reading')}</p>}
        {runs.value?.length === 0 && (
          <div class="empty">
            <h2>{t('train.emptyTitle')}</h2>
            <p>{t(props.value.runs === false ? 'train.noFolder' : 'train.emptyText')}</p>
            <pre>{props.value.runs === false ? 'puna serve --runs runs' : 'puna train recipe.yaml'}</pre>
          </div>
        )}
        {runs.value !== null && runs.value.length > 0 && <Runs />}
      </div>
    </div>
  );
}

function Runs() {
  const shown = shownRuns.value.filter((name) => metricsOf.value.has(name));
  return (
    <div class="train-columns">
      <RunList />
      <div class="train-main">
        {shown.length === 0 ? <p class="note">{t('train.chooseRun')}</p> : <Curves names={shown} />}
        <RunTable names={shown} />
        {shown.map((name) => (
          <RunDetails key={name} name={name} metrics={metricsOf.value.get(name)!} />
        ))}
      </div>
    </div>
  );
}

function linesFor(figure: string, metrics: [string, RunMetrics][], smoothing: number): ChartLine[] {
  return metrics.flatMap(([name, { train, heldOut }]) => {
    const lines = [{ label: name, colour: colourOf(name), dashed: false, line: lineOf(train, figure, smoothing) }];
    const held = lineOf(heldOut, figure, 0);
    if (held.steps.length > 0)
      lines.push({ label: t('train.heldOutOf', { name }), colour: colourOf(name), dashed: true, line: held });
    return lines;
  });
}

function Curves({ names }: { names: string[] }) {
  const [smoothing, setSmoothing] = useState(0);
  const [logarithmic, setLogarithmic] = useState(false);
  const [more, setMore] = useState<string[]>([]);
  const metrics = metricsOf.value;
  const chosen = useMemo(() => names.map((name): [string, RunMetrics] => [name, metrics.get(name)!]), [names.join('\n'), metrics]);
  const others = [...new Set(chosen.flatMap(([, { train }]) => figuresOf(train)))].filter(
    (figure) => !kMainFigures.includes(figure),
  );
  return (
    <section aria-label={t('train.curves')}>
      <div class="curve-tools">
        <label class="slider">
          <span>{t('train.smoothing')}</span>
          <input
            type="range"
            min={0}
            max={0.99}
            step={0.01}
            value={smoothing}
            onInput={({ currentTarget }) => setSmoothing(Number(currentTarget.value))}
          />
        </label>
        <label class="check">
          <input type="checkbox" checked={logarithmic} onChange={({ currentTarget }) => setLogarithmic(currentTarget.checked)} />
          {t('train.logarithmic')}
        </label>
        {others.map((figure) => (
          <label class="check" key={figure}>
            <input
              type="checkbox"
              checked={more.includes(figure)}
              onChange={() => setMore(more.includes(figure) ? more.filter((name) => name !== figure) : [...more, figure])}
            />
            {figureTitle(figure)}
          </label>
        ))}
      </div>
      <p class="note">{t('train.legend')}</p>
      <div class="charts">
        {[...kMainFigures, ...others.filter((figure) => more.includes(figure))].map((figure) => (
          <FigureChart key={figure} figure={figure} chosen={chosen} smoothing={smoothing} logarithmic={logarithmic} />
        ))}
      </div>
    </section>
  );
}

interface FigureChartProps {
  figure: string;
  chosen: [string, RunMetrics][];
  smoothing: number;
  logarithmic: boolean;
}

function FigureChart({ figure, chosen, smoothing, logarithmic }: FigureChartProps) {
  const lines = useMemo(() => linesFor(figure, chosen, smoothing), [figure, chosen, smoothing]);
  return <Chart title={figureTitle(figure)} lines={lines} logarithmic={logarithmic} />;
}
