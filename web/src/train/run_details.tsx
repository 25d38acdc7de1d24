// SPDX-License-Identifier: Apache-2.0
// What a run generated while it learned, what went wrong, and its recipe, read when it is unfolded.
import { useState } from 'preact/hooks';
import { fetchRecipe } from '../api/client';
import type { MetricsRow } from '../api/types';
import { highlighted } from '../chat/highlight';
import { copyText } from '../interface/files';
import { formatNumber, t } from '../text/language';
import type { RunMetrics } from './run_metrics';

const kSamples = 30;

export const RunDetails = ({ name, metrics }: { name: string; metrics: RunMetrics }) => (
  <section class="run-details" aria-label={t('train.detailsOf', { name })}>
    <h2>{name}</h2>
    {metrics.faults.length > 0 && <Texts title={t('train.faults')} rows={metrics.faults} open />}
    {metrics.samples.length > 0 && <Texts title={t('train.samples')} rows={metrics.samples} open />}
    {metrics.samples.length === 0 && <p class="note">{t('train.noSamples')}</p>}
    <Recipe name={name} />
  </section>
);

function Texts({ title, rows, open }: { title: string; rows: MetricsRow[]; open: boolean }) {
  const newest = rows.slice(-kSamples).reverse();
  return (
    <details open={open}>
      <summary>{`${title} (${formatNumber(rows.length)})`}</summary>
      <ul class="samples">
        {newest.map(({ step, name, text }, index) => (
          <li key={`${step}-${index}`}>
            <span class="note">{t('train.atStep', { step: formatNumber(step) })}</span>
            <p>
              <b>{name}</b>
              {text}
            </p>
          </li>
        ))}
      </ul>
    </details>
  );
}

function Recipe({ name }: { name: string }) {
  const [text, setText] = useState<string>();
  const [problem, setProblem] = useState('');
  const read = async () => {
    if (text !== undefined) return;
    try {
      setText(await fetchRecipe(name));
      setProblem('');
    } catch (cause) {
      setProblem(cause instanceof Error ? cause.message : String(cause));
    }
  };
  return (
    <details onToggle={({ currentTarget }) => currentTarget.open && void read()}>
      <summary>{t('train.recipe')}</summary>
      {problem && <p class="wrong">{problem}</p>}
      {text !== undefined && (
        <div class="code-block">
          <div class="code-head">
            <span>recipe.yaml</span>
            <button type="button" class="copy-code" onClick={() => void copyText(text)}>
              {t('action.copy')}
            </button>
          </div>
          <pre tabIndex={0} role="region" aria-label={t('train.recipe')}>
            <code dangerouslySetInnerHTML={{ __html: highlighted(text, 'yaml') }} />
          </pre>
        </div>
      )}
    </details>
  );
}
