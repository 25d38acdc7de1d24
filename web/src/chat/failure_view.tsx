// SPDX-License-Identifier: Apache-2.0
// What went wrong, in the server's words, and what to do about it.
import { useEffect, useState } from 'preact/hooks';
import { keyWanted } from '../api/client';
import { t, type Key } from '../text/language';
import type { Failure } from './conversation';

function adviceFor({ status, code }: Failure): Key {
  if (/context_length|context_window/.test(code)) return 'advice.context';
  if (status === 0) return code === 'connection_lost' ? 'advice.lost' : 'advice.unreachable';
  if (status === 401) return 'advice.key';
  if (status === 403) return 'advice.role';
  if (code === 'votes_not_kept') return 'advice.votes';
  if (code === 'model_does_not_fit') return 'advice.memory';
  if (code === 'model_not_loadable') return 'advice.model';
  if (status === 404) return 'advice.model';
  if (status === 429 || status === 503) return 'advice.busy';
  if (status === 400 || status === 422) return 'advice.request';
  return 'advice.other';
}

/** Seconds left of what the server asked to wait. */
function useCountdown(seconds: number): number {
  const [left, setLeft] = useState(seconds);
  useEffect(() => {
    if (left <= 0) return;
    const timer = setTimeout(() => setLeft(left - 1), 1000);
    return () => clearTimeout(timer);
  }, [left]);
  return left;
}

export function FailureView({ failure, onRetry }: { failure: Failure; onRetry?: () => void }) {
  const left = useCountdown(failure.status === 429 || failure.status === 503 ? failure.retryAfter || 5 : 0);
  const said = failure.message || t('error.lost');
  return (
    <div class="failure" role="alert">
      <p class="failure-said">{failure.status >= 400 ? `${failure.status} · ${said}` : said}</p>
      <p>{t(adviceFor(failure))}</p>
      <div class="row">
        {failure.status === 401 && (
          <button type="button" class="button" onClick={() => (keyWanted.value = true)}>
            {t('key.enter')}
          </button>
        )}
        {onRetry && (
          <button type="button" class="button" onClick={onRetry} disabled={left > 0}>
            {left > 0 ? t('action.retryIn', { seconds: left }) : t('action.retry')}
          </button>
        )}
      </div>
    </div>
  );
}
