# SPDX-License-Identifier: Apache-2.0
"""Small packed batches in the layout of src/train/batch.h, and the separate sequences they stand for. The network of llama.py sees
only the sequences, Puna only the packed rows: what both agree on does not depend on the packing."""
import random


class Batch:
    """Rows are appended; `sequences` lists (tokens, targets, weights, rows) with one entry per token: the whole unpacked sequence,
    what each token predicts (-1: nothing), its weight, and the packed row of each (prompt rows are shared between answers)."""

    def __init__(self):
        self.tokens, self.positions, self.targets, self.weights = [], [], [], []
        self.segments, self.answers, self.sequences = [], [], []

    def _segment(self, tokens, first_position, prefix, targets, weights):
        first = len(self.tokens)
        self.segments.append([first, len(tokens), *prefix])
        self.tokens += tokens
        self.positions += range(first_position, first_position + len(tokens))
        self.targets += [max(target, 0) for target in targets]
        self.weights += weights
        return first

    def document(self, tokens, weights):
        """weights[t] counts the prediction of tokens[t + 1]; the last token predicts nothing."""
        weights = list(weights) + [0.0]
        targets = tokens[1:] + [-1]
        first = self._segment(tokens, 0, (0, 0), targets, weights)
        self.sequences.append((tokens, targets, weights, list(range(first, first + len(tokens)))))

    def group(self, number, prompt, answers):
        """answers: (rank, tokens, format flags, reference log-probability). The prompt's last token predicts every answer's first,
        so it is repeated at the head of each answer's segment; the prefix is the prompt without it."""
        shared = prompt[:-1]
        prefix_row = self._segment(shared, 0, (0, 0), [-1] * len(shared), [0.0] * len(shared))
        for rank, tokens, is_format, reference in answers:
            weights = [0.0 if flag else 1.0 for flag in is_format] + [0.0]
            targets = tokens + [-1]
            first = self._segment([prompt[-1]] + tokens, len(shared), (prefix_row, len(shared)), targets, weights)
            self.answers.append({"first_row": first, "rows": len(tokens), "end_row": first + len(tokens), "group": number,
                                 "rank": rank, "reference_log_prob": reference})
            rows = list(range(prefix_row, prefix_row + len(shared))) + list(range(first, first + len(tokens) + 1))
            self.sequences.append((prompt + tokens, [-1] * len(shared) + targets, [0.0] * len(shared) + weights, rows))

    def one_row(self, number, prompt, answers):
        """The same answers behind each other in one row (Llama 3, 4.1.2): the sequence of an answer is the row up to its end."""
        tokens, weights = list(prompt), [0.0] * (len(prompt) - 1)
        for _, own, is_format, _ in answers:
            tokens += own
            weights += [0.0 if flag else 1.0 for flag in is_format]
        first, end = self._segment(tokens, 0, (0, 0), tokens[1:] + [-1], weights + [0.0]), len(prompt)
        for rank, own, _, reference in answers:
            before, end = end - 1, end + len(own)
            self.answers.append({"first_row": first + before, "rows": len(own), "end_row": first + end - 1, "group": number,
                                 "rank": rank, "reference_log_prob": reference})
            self.sequences.append((tokens[:end], [-1] * before + own + [-1], [0.0] * before + weights[before:end - 1] + [0.0],
                                   list(range(first, first + end))))

    def json(self):
        return {"tokens": self.tokens, "positions": self.positions, "segments": self.segments, "targets": self.targets,
                "weights": self.weights, "answers": self.answers}


def _words(source, count, vocabulary):
    return [source.randrange(3, vocabulary) for _ in range(count)]


def next_token_batch(vocabulary):
    source = random.Random(11)
    batch = Batch()
    for length in (19, 12):
        batch.document([1] + _words(source, length - 2, vocabulary) + [2], [1.0] * (length - 1))
    return batch


def sft_batch(vocabulary):
    """Two turns trained in the first conversation, one in the second, and weights other than 0 and 1."""
    source = random.Random(12)
    batch = Batch()
    batch.document([1] + _words(source, 19, vocabulary), [0.0] * 6 + [1.0] * 4 + [0.0] * 3 + [1.0] * 6)
    batch.document([1] + _words(source, 9, vocabulary), [0.0] * 4 + [0.5] * 2 + [2.0] * 3)
    return batch


def _group(lay, source, number, prompt, lengths, ranks, vocabulary):
    """`lay` is Batch.group or Batch.one_row of a batch. Every answer ends in the end token, a format token; the first of each group also begins with one."""
    answers = []
    for i, (length, rank) in enumerate(zip(lengths, ranks)):
        flags = [i == 0] + [False] * (length - 2) + [True]
        counted = length - sum(flags)
        reference = round(-3.9 * counted + source.uniform(-4, 4), 3)
        answers.append((rank, _words(source, length - 1, vocabulary) + [2], flags, reference))
    lay(number, [1] + _words(source, prompt - 1, vocabulary), answers)


def reward_batch(vocabulary):
    source = random.Random(13)
    batch = Batch()
    _group(batch.group, source, 7, 6, (5, 8, 3), (1, 0, 2), vocabulary)
    return batch


def reward_groups_batch(vocabulary):
    """Different numbers of pairs, and two answers of equal rank."""
    source = random.Random(14)
    batch = Batch()
    _group(batch.group, source, 0, 5, (4, 6), (0, 1), vocabulary)
    _group(batch.group, source, 1, 4, (3, 7, 4), (1, 0, 1), vocabulary)
    _group(batch.group, source, 2, 7, (5, 2, 4, 3), (3, 1, 0, 2), vocabulary)
    return batch


def reward_one_row_batch(vocabulary):
    source = random.Random(16)
    batch = Batch()
    _group(batch.one_row, source, 0, 5, (4, 6, 3), (2, 0, 1), vocabulary)
    _group(batch.one_row, source, 1, 6, (5, 4), (1, 0), vocabulary)
    return batch


def dpo_batch(vocabulary):
    source = random.Random(15)
    batch = Batch()
    _group(batch.group, source, 3, 6, (7, 4), (0, 1), vocabulary)
    _group(batch.group, source, 4, 5, (4, 6), (1, 0), vocabulary)
    return batch
