// SPDX-License-Identifier: Apache-2.0
// The figures every run has, and what a figure is called.
import { t, type Key } from '../text/language';

export const kMainFigures = ['loss', 'learning_rate', 'gradient_norm', 'tokens_per_second'];

const kTitles: Record<string, Key> = {
  loss: 'figure.loss',
  learning_rate: 'figure.learning_rate',
  gradient_norm: 'figure.gradient_norm',
  tokens_per_second: 'figure.tokens_per_second',
};

/** Figures of one objective alone keep the name they have in metrics.jsonl. */
export const figureTitle = (figure: string) => (kTitles[figure] ? t(kTitles[figure]) : figure.replaceAll('_', ' '));
