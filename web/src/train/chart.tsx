// SPDX-License-Identifier: Apache-2.0
// One figure over steps, several runs in one frame. Arrow keys move the cursor as the mouse does, and its values are spoken.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { announce } from '../interface/announcer';
import { isDark } from '../interface/preferences';
import { formatFigure, formatNumber, language, t } from '../text/language';
import { overOneAxis, thinned, type Line } from './run_metrics';

const kHeight = 220;
const kPoints = 1500;

export interface ChartLine {
  label: string;
  colour: number;
  dashed: boolean;
  line: Line;
}

interface ChartProps {
  title: string;
  lines: ChartLine[];
  logarithmic: boolean;
}

const variable = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function optionsFor(
  lines: ChartLine[],
  logarithmic: boolean,
  width: number,
  onCursor: (index: number | null) => void,
): uPlot.Options {
  const axis = {
    stroke: variable('--ink-soft'),
    grid: { stroke: variable('--line'), width: 1 },
    ticks: { stroke: variable('--line'), width: 1 },
    font: '12px system-ui, sans-serif',
  };
  return {
    width,
    height: kHeight,
    legend: { show: false },
    cursor: { sync: { key: 'train' }, points: { size: 7 }, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: logarithmic ? { distr: 3 } : {} },
    axes: [
      { ...axis, size: 34, values: (_, ticks) => ticks.map((tick) => formatNumber(tick, { notation: 'compact' })) },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : formatFigure(tick))) },
    ],
    series: [
      { label: t('train.step') },
      ...lines.map(({ label, colour, dashed }) => ({
        label,
        stroke: variable(`--run-${colour}`),
        width: dashed ? 2 : 1.5,
        dash: dashed ? [6, 4] : undefined,
        points: { show: dashed, fill: variable('--raised') },
        spanGaps: true,
      })),
    ],
    hooks: { setCursor: [({ cursor }) => onCursor(cursor.idx ?? null)] },
  };
}

export function Chart({ title, lines, logarithmic }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [index, setIndex] = useState<number | null>(null);
  const data = useMemo(() => {
    const [steps, ...columns] = overOneAxis(lines.map(({ line }) => thinned(line, kPoints)));
    const drawn = logarithmic
      ? columns.map((column) => column.map((value) => (value !== null && value > 0 ? value : null)))
      : columns;
    return [steps, ...drawn] as uPlot.AlignedData;
  }, [lines, logarithmic]);
  const shape =
    lines.map(({ label, colour, dashed }) => `${label}:${colour}:${dashed}`).join() + logarithmic + isDark() + language.value;

  useEffect(() => {
    const element = place.current!;
    const made = new uPlot(optionsFor(lines, logarithmic, element.clientWidth, setIndex), data, element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: kHeight }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data), [data]);

  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    const made = plot.current;
    const count = data[0].length;
    if (step === 0 || !made || count === 0) return;
    event.preventDefault();
    const by = step * (event.shiftKey ? Math.max(1, Math.round(count / 20)) : 1);
    const next = Math.min(count - 1, Math.max(0, (index ?? (step > 0 ? -1 : count)) + by));
    const value = data
      .slice(1)
      .map((column) => column[next])
      .find((found) => typeof found === 'number');
    made.setCursor({ left: made.valToPos(data[0][next]!, 'x'), top: made.valToPos(value ?? 0, 'y') });
    announce(inWords(readingAt(data, lines, next)));
  };
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <Reading {...readingAt(data, lines, index)} />
      </figcaption>
      <div ref={place} class="plot" tabIndex={0} role="group" aria-label={t('train.chart', { title })} onKeyDown={onKeyDown} />
    </figure>
  );
}

interface ReadingProps {
  step?: number;
  values: { label: string; colour: number; dashed: boolean; value: string }[];
}

/** The values under the cursor; without one, the last value of each run. */
function readingAt(data: uPlot.AlignedData, lines: ChartLine[], index: number | null): ReadingProps {
  const values = lines.flatMap(({ label, colour, dashed }, line) => {
    const column = data[line + 1] as (number | null)[] | undefined;
    const value = index === null ? !dashed && column?.findLast((found) => typeof found === 'number') : column?.[index];
    return typeof value === 'number' ? [{ label, colour, dashed, value: formatFigure(value) }] : [];
  });
  return { step: index === null ? undefined : data[0][index], values };
}

const stepInWords = (step?: number) => (step === undefined ? [] : [t('train.atStep', { step: formatNumber(step) })]);
const inWords = ({ step, values }: ReadingProps) =>
  [...stepInWords(step), ...values.map(({ label, value }) => `${label} ${value}`)].join(' · ');

const Reading = ({ step, values }: ReadingProps) => (
  <span class="reading">
    {stepInWords(step)}
    {values.map(({ label, colour, dashed, value }) => (
      <span key={label} title={label}>
        <span class={`swatch run-${colour} ${dashed ? 'held-out' : ''}`} aria-hidden="true" />
        <span class="sr-only">{label} </span>
        {value}
      </span>
    ))}
  </span>
);
