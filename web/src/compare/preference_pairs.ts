// SPDX-License-Identifier: Apache-2.0
// Votes as preference pairs: what the server keeps, and the JSONL that `puna train` reads for DPO.
import type { PreferencePair, Vote, Winner, WireMessage } from '../api/types';

export interface Contestant {
  model: string;
  text: string;
}

/** "a" and "b" name the sides as shown; for a tie, or where both are bad, the order of the two means nothing. */
export function voteOf(prompt: WireMessage[], a: Contestant, b: Contestant, winner: Winner): Vote {
  const [better, worse] = winner === 'b' ? [b, a] : [a, b];
  return {
    prompt,
    chosen: [{ role: 'assistant', content: better.text }],
    rejected: [{ role: 'assistant', content: worse.text }],
    chosen_model: better.model,
    rejected_model: worse.model,
    winner,
  };
}

/** Only votes with a winner teach a preference. */
export function jsonLines(votes: Vote[]): string {
  return votes
    .filter(({ winner }) => winner === 'a' || winner === 'b')
    .map(({ prompt, chosen, rejected, chosen_model, rejected_model }): PreferencePair => ({
      prompt,
      chosen,
      rejected,
      chosen_model,
      rejected_model,
    }))
    .map((pair) => JSON.stringify(pair) + '\n')
    .join('');
}

export interface Score {
  model: string;
  wins: number;
  losses: number;
  draws: number;
}

export function scores(votes: Vote[]): Score[] {
  const table = new Map<string, Score>();
  const row = (model: string) => {
    if (!table.has(model)) table.set(model, { model, wins: 0, losses: 0, draws: 0 });
    return table.get(model)!;
  };
  for (const { winner, chosen_model, rejected_model } of votes) {
    const decided = winner === 'a' || winner === 'b';
    row(chosen_model)[decided ? 'wins' : 'draws'] += 1;
    row(rejected_model)[decided ? 'losses' : 'draws'] += 1;
  }
  return [...table.values()].sort((a, b) => b.wins - b.losses - (a.wins - a.losses));
}
