// SPDX-License-Identifier: Apache-2.0
// An answer's figures: tokens per second, time to the first token, and how full the context is.
import { modelEntry } from '../api/server_state';
import { formatNumber, t } from '../text/language';
import type { Figures } from './conversation';

interface FiguresProps {
  figures: Figures;
  model?: string;
  finish?: string;
}

export function FiguresView({ figures, model = '', finish }: FiguresProps) {
  const { tokensPerSecond, firstTokenMs, usage } = figures;
  // A model that was loaded for this answer told its context only afterwards.
  const context = figures.context ?? modelEntry(model)?.puna?.context;
  const used = usage && (usage.total_tokens ?? (usage.prompt_tokens ?? 0) + (usage.completion_tokens ?? 0));
  const parts = [
    finish === 'length' && t('finish.length'),
    finish === 'stopped' && t('finish.stopped'),
    finish === undefined && t('finish.interrupted'),
    tokensPerSecond && t('figures.speed', { value: formatNumber(tokensPerSecond, { maximumFractionDigits: 1 }) }),
    firstTokenMs !== undefined && t('figures.first', { value: formatNumber(firstTokenMs / 1000) }),
  ].filter(Boolean);
  return (
    <div class="figures">
      {parts.map((part) => (
        <span key={part}>{part}</span>
      ))}
      {used !== undefined && used > 0 && <ContextBar used={used} total={context} />}
    </div>
  );
}

function ContextBar({ used, total }: { used: number; total?: number }) {
  if (!total) return <span>{t('figures.tokens', { used: formatNumber(used) })}</span>;
  const words = t('figures.context', { used: formatNumber(used), total: formatNumber(total) });
  return (
    <span class="context">
      <meter
        class="context-bar"
        min={0}
        max={total}
        low={total * 0.75}
        high={total * 0.9}
        optimum={0}
        value={used}
        aria-label={words}
      />
      {words}
    </span>
  );
}
