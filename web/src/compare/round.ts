// SPDX-License-Identifier: Apache-2.0
// One round: two models, one prompt, sides drawn at random and hidden until the vote.
import { computed, signal, type Signal } from '@preact/signals';
import { emptyAnswer, streamChat, type Answer } from '../api/chat_stream';
import { ApiError, fetchVotes, postVote } from '../api/client';
import { props, refreshServer } from '../api/server_state';
import type { Vote, Winner, WireMessage } from '../api/types';
import type { Failure } from '../chat/conversation';
import { failureOf } from '../chat/session';
import { announce } from '../interface/announcer';
import { t } from '../text/language';
import { voteOf } from './preference_pairs';

const kRenderMs = 50;

export interface Side {
  model: string;
  answer: Signal<Answer>;
  state: Signal<'writing' | 'done' | 'failed'>;
  failure: Signal<Failure | null>;
}

export interface Round {
  prompt: WireMessage[];
  a: Side;
  b: Side;
  stop: AbortController;
}

export const round = signal<Round | null>(null);
export const winner = signal<Winner | null>(null);
export const voteFailure = signal<Failure | null>(null);
export const votes = signal<Vote[]>([]);

export const roundState = computed<'none' | 'writing' | 'failed' | 'vote' | 'voted'>(() => {
  const current = round.value;
  if (!current) return 'none';
  const states = [current.a.state.value, current.b.state.value];
  if (states.includes('writing')) return 'writing';
  if (states.includes('failed')) return 'failed';
  return winner.value ? 'voted' : 'vote';
});

const newSide = (model: string): Side => ({
  model,
  answer: signal(emptyAnswer()),
  state: signal('writing'),
  failure: signal(null),
});

export function startRound(first: string, second: string, system: string, question: string, chance = Math.random()) {
  round.value?.stop.abort();
  const [a, b] = chance < 0.5 ? [first, second] : [second, first];
  const prompt: WireMessage[] = [{ role: 'user', content: question }];
  if (system.trim()) prompt.unshift({ role: 'system', content: system });
  const next: Round = { prompt, a: newSide(a), b: newSide(b), stop: new AbortController() };
  winner.value = null;
  voteFailure.value = null;
  round.value = next;
  void Promise.all([write(next, next.a), write(next, next.b)]).then(() => {
    if (round.value === next && roundState.value === 'vote') announce(t('compare.ready'));
    void refreshServer();
  });
}

async function write({ prompt, stop }: Round, side: Side) {
  const gathered = emptyAnswer();
  let timer = 0;
  const show = () => {
    timer = 0;
    side.answer.value = { ...gathered };
  };
  try {
    await streamChat(
      { model: side.model, messages: prompt },
      gathered,
      stop.signal,
      () => (timer ||= window.setTimeout(show, kRenderMs)),
    );
    side.state.value = 'done';
  } catch (cause) {
    // Stopped by the person: what there is can be judged.
    const said = gathered.text !== '' && stop.signal.aborted;
    if (!said)
      side.failure.value = stop.signal.aborted
        ? { ...failureOf(new ApiError(t('finish.stopped'), 0, 'stopped')) }
        : failureOf(cause);
    side.state.value = said ? 'done' : 'failed';
  }
  clearTimeout(timer);
  show();
}

export async function vote(choice: Winner): Promise<void> {
  const current = round.value;
  if (!current || roundState.value !== 'vote') return;
  const contestant = ({ model, answer }: Side) => ({ model, text: answer.value.text });
  winner.value = choice;
  await keepVote(voteOf(current.prompt, contestant(current.a), contestant(current.b), choice));
}

let unkept: Vote | undefined;

async function keepVote(made: Vote) {
  unkept = made;
  if (props.value.votes === false) {
    votes.value = [...votes.value, made];
    announce(t('compare.keptHere'));
    return;
  }
  try {
    await postVote(made);
    unkept = undefined;
    voteFailure.value = null;
    announce(t('compare.kept'));
    await readVotes();
  } catch (cause) {
    voteFailure.value = failureOf(cause);
  }
}

export const keepVoteAgain = () => unkept && keepVote(unkept);

/** Where the server keeps none, those of this visit stay in the page. */
export async function readVotes(): Promise<void> {
  if (props.value.votes === false) return;
  try {
    votes.value = await fetchVotes();
  } catch {
    // The list stays as it was; a vote that cannot be kept says so itself.
  }
}
