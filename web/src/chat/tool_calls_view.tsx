// SPDX-License-Identifier: Apache-2.0
// The tools a model wants called, with a box for each result; nothing is run by the page.
import { useState } from 'preact/hooks';
import type { ToolCall } from '../api/types';
import { Icon } from '../interface/icons';
import { t } from '../text/language';
import { highlighted } from './highlight';
import { readableArguments } from './tools';

interface ToolCallsProps {
  calls: ToolCall[];
  /** The calls that wait for a result; none while an answer is being written. */
  waiting: ToolCall[];
  onResults: (results: { callId: string; text: string }[]) => void;
}

export function ToolCallsView({ calls, waiting, onResults }: ToolCallsProps) {
  const [results, setResults] = useState<Record<string, string>>({});
  return (
    <div class="tool-calls">
      {calls.map((call, index) => (
        <section class="tool-call" key={call.id || index} aria-label={t('tool.call', { name: call.function.name })}>
          <h4>
            <Icon name="tool" />
            {t('tool.call', { name: call.function.name })}
          </h4>
          <pre tabIndex={0} role="region" aria-label={t('tool.arguments')}>
            <code dangerouslySetInnerHTML={{ __html: highlighted(readableArguments(call.function.arguments), 'json') }} />
          </pre>
          {waiting.includes(call) && (
            <label class="field">
              <span>{t('tool.result')}</span>
              <textarea
                rows={3}
                value={results[call.id] ?? ''}
                placeholder={t('tool.resultHint')}
                onInput={({ currentTarget }) => setResults({ ...results, [call.id]: currentTarget.value })}
              />
            </label>
          )}
        </section>
      ))}
      {waiting.length > 0 && (
        <button
          type="button"
          class="button primary"
          onClick={() => onResults(waiting.map(({ id }) => ({ callId: id, text: results[id] ?? '' })))}
        >
          {t('tool.send', { count: waiting.length })}
        </button>
      )}
    </div>
  );
}
