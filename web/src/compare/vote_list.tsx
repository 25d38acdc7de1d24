// SPDX-License-Identifier: Apache-2.0
// The votes the server keeps: a score per model, the latest rounds, and the pairs as a file for training.
import { useState } from 'preact/hooks';
import { saveFile } from '../interface/files';
import { t } from '../text/language';
import { jsonLines, scores } from './preference_pairs';
import { votes } from './round';

const kShown = 20;

export function VoteList() {
  const [all, setAll] = useState(false);
  const kept = votes.value;
  const latest = [...kept].reverse().slice(0, all ? kept.length : kShown);
  if (kept.length === 0) return <p class="note">{t('votes.none')}</p>;
  return (
    <section class="votes" aria-labelledby="votes-title">
      <div class="row">
        <h2 id="votes-title">{t('votes.title', { count: kept.length })}</h2>
        <button type="button" class="button" onClick={() => saveFile('preferences.jsonl', jsonLines(kept), 'application/jsonl')}>
          {t('votes.export')}
        </button>
      </div>
      <Scores />
      <div class="table-scroll" tabIndex={0} role="region" aria-label={t('votes.latest')}>
        <table>
          <caption>{t('votes.latest')}</caption>
          <thead>
            <tr>
              <th scope="col">{t('votes.prompt')}</th>
              <th scope="col">{t('votes.outcome')}</th>
              <th scope="col">{t('votes.models')}</th>
            </tr>
          </thead>
          <tbody>
            {latest.map(({ prompt, winner, chosen_model, rejected_model }, index) => (
              <tr key={kept.length - index}>
                <td class="prompt">{String(prompt?.at(-1)?.content ?? '')}</td>
                <td>
                  {winner === 'a' || winner === 'b'
                    ? t('votes.won', { model: chosen_model })
                    : t(winner === 'tie' ? 'compare.tie' : 'compare.bad')}
                </td>
                <td>{`${chosen_model} · ${rejected_model}`}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {kept.length > kShown && !all && (
        <button type="button" class="button" onClick={() => setAll(true)}>
          {t('votes.all', { count: kept.length })}
        </button>
      )}
    </section>
  );
}

const Scores = () => (
  <div class="table-scroll" tabIndex={0} role="region" aria-label={t('votes.scores')}>
    <table>
      <caption>{t('votes.scores')}</caption>
      <thead>
        <tr>
          <th scope="col">{t('votes.model')}</th>
          <th scope="col">{t('votes.wins')}</th>
          <th scope="col">{t('votes.losses')}</th>
          <th scope="col">{t('votes.draws')}</th>
        </tr>
      </thead>
      <tbody>
        {scores(votes.value).map(({ model, wins, losses, draws }) => (
          <tr key={model}>
            <th scope="row">{model}</th>
            <td>{wins}</td>
            <td>{losses}</td>
            <td>{draws}</td>
          </tr>
        ))}
      </tbody>
    </table>
  </div>
);
