// SPDX-License-Identifier: Apache-2.0
// Two models side by side, blind: the names show after the vote.
import { signal } from '@preact/signals';
import { useLayoutEffect } from 'preact/hooks';
import { tokensPerSecond } from '../api/chat_stream';
import { defaultModel, models, props } from '../api/server_state';
import type { Winner } from '../api/types';
import { FailureView } from '../chat/failure_view';
import { FiguresView } from '../chat/figures_view';
import { MarkdownView } from '../chat/markdown_view';
import { ModelPicker } from '../chat/model_picker';
import { IconButton } from '../interface/icons';
import { offerShortcuts } from '../interface/shortcuts';
import { t } from '../text/language';
import { keepVoteAgain, readVotes, round, roundState, startRound, vote, voteFailure, winner, type Side } from './round';
import { VoteList } from './vote_list';

const first = signal('');
const second = signal('');
const system = signal('');
const question = signal('');

const kChoices: { winner: Winner; key: string }[] = [
  { winner: 'a', key: '1' },
  { winner: 'b', key: '2' },
  { winner: 'tie', key: '3' },
  { winner: 'bad', key: '4' },
];

const firstModel = () => first.value || defaultModel.value;
const secondModel = () => second.value || (models.value.find(({ id }) => id !== firstModel())?.id ?? defaultModel.value);

function ask() {
  if (question.value.trim() && firstModel()) startRound(firstModel(), secondModel(), system.value, question.value);
}

export function CompareView() {
  useLayoutEffect(() => {
    void readVotes();
    return offerShortcuts(
      kChoices.map(({ winner: choice, key }) => ({ keys: key, text: `compare.${choice}`, act: () => void vote(choice) })),
    );
  }, []);
  return (
    <div class="view compare">
      <header class="view-head">
        <h1 class="title" tabIndex={-1}>
          {t('view.compare')}
        </h1>
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('view.compare')}>
        <div class="compare-column">
          <Ask />
          {round.value && (
            <div class="sides">
              <SideView side={round.value.a} name="A" />
              <SideView side={round.value.b} name="B" />
            </div>
          )}
          <VoteBar />
          <VoteList />
        </div>
      </div>
    </div>
  );
}

function Ask() {
  const writing = roundState.value === 'writing';
  return (
    <section class="ask" aria-label={t('compare.ask')}>
      <p class="note">{t('compare.text')}</p>
      <div class="pickers">
        <ModelPicker label={t('compare.first')} value={firstModel()} onChange={(id) => (first.value = id)} disabled={writing} />
        <ModelPicker label={t('compare.second')} value={secondModel()} onChange={(id) => (second.value = id)} disabled={writing} />
      </div>
      <details>
        <summary>{t('settings.system')}</summary>
        <textarea
          rows={2}
          aria-label={t('settings.system')}
          value={system.value}
          onInput={({ currentTarget }) => (system.value = currentTarget.value)}
        />
      </details>
      <div class="composer">
        <div class="composer-row">
          <textarea
            class="growing"
            rows={2}
            aria-label={t('compare.prompt')}
            placeholder={t('compare.prompt')}
            value={question.value}
            onInput={({ currentTarget }) => (question.value = currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
              event.preventDefault();
              if (!writing) ask();
            }}
          />
          {writing ? (
            <IconButton icon="stop" class="send" label={t('action.stop')} onClick={() => round.value?.stop.abort()} />
          ) : (
            <IconButton
              icon="send"
              class="send"
              label={t('compare.go')}
              onClick={ask}
              disabled={!question.value.trim() || !firstModel()}
            />
          )}
        </div>
      </div>
    </section>
  );
}

function SideView({ side, name }: { side: Side; name: string }) {
  const voted = roundState.value === 'voted';
  const writing = side.state.value === 'writing';
  const answer = side.answer.value;
  const failure = side.failure.value;
  const won = winner.value === name.toLowerCase();
  return (
    <article class={`answer-side ${voted && won ? 'won' : ''}`} aria-label={t('compare.side', { name })} aria-busy={writing}>
      <header class="speaker">
        {name}
        {voted && <span class="revealed">{side.model}</span>}
      </header>
      {answer.text ? (
        <MarkdownView key={writing ? 'growing' : 'whole'} text={answer.text} growing={writing} />
      ) : (
        !failure && <p class="waiting">{t(writing ? 'chat.waiting' : 'chat.empty')}</p>
      )}
      {failure && <FailureView failure={failure} onRetry={ask} />}
      {voted && (
        <FiguresView
          figures={{ tokensPerSecond: tokensPerSecond(answer), firstTokenMs: answer.firstTokenMs, usage: answer.usage }}
          finish={answer.finish}
        />
      )}
    </article>
  );
}

function VoteBar() {
  const state = roundState.value;
  if (state === 'none' || state === 'failed') return null;
  return (
    <section class="vote-bar" aria-label={t('compare.vote')}>
      {kChoices.map(({ winner: choice, key }) => (
        <button
          key={choice}
          type="button"
          class={`button ${winner.value === choice ? 'primary' : ''}`}
          disabled={state !== 'vote'}
          aria-pressed={winner.value === choice}
          onClick={() => void vote(choice)}
        >
          {t(`compare.${choice}`)}
          <kbd aria-hidden="true">{key}</kbd>
        </button>
      ))}
      {props.value.votes === false && <p class="note">{t('compare.notKept')}</p>}
      {voteFailure.value && <FailureView failure={voteFailure.value} onRetry={() => void keepVoteAgain()} />}
    </section>
  );
}
