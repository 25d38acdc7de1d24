// SPDX-License-Identifier: Apache-2.0
// The runs to choose from: each can be laid over the others.
import { formatNumber, t } from '../text/language';
import { colourOf, runs, shownRuns, toggleRun } from './run_state';

export const RunList = () => (
  <fieldset class="run-list">
    <legend>{t('train.runs')}</legend>
    {(runs.value ?? []).map(({ name, objective, state = 'stopped', step = 0, steps }) => (
      <label class="run" key={name}>
        <input type="checkbox" checked={shownRuns.value.includes(name)} onChange={() => toggleRun(name)} />
        <span class={`swatch run-${colourOf(name)}`} aria-hidden="true" />
        <span class="run-name">{name}</span>
        <span class="run-facts">
          {[objective, t(`run.${state}`)].filter(Boolean).join(' · ')}
          <br />
          {steps
            ? t('train.progress', { step: formatNumber(step), steps: formatNumber(steps) })
            : t('train.atStep', { step: formatNumber(step) })}
        </span>
        {steps && state === 'running' ? <progress max={steps} value={step} aria-label={t('train.progressOf', { name })} /> : null}
      </label>
    ))}
  </fieldset>
);
