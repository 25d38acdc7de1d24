# SPDX-License-Identifier: Apache-2.0
"""The losses of the objectives, from their papers, over separate sequences. Each function takes a Run and returns a scalar tensor.

next_token, sft   sum w[t] (-log p(target[t])) / sum w
reward            mean over groups of the mean over pairs (better, worse) of -log sigma(r_better - r_worse), r = head . hidden[last]
                  (Ouyang et al. 2022, eq. 1; Touvron et al. 2023 without the margin)
dpo               mean over groups of the mean over pairs of -log sigma(beta (d_chosen - d_rejected)) + nll_weight NLL(chosen),
                  d = sum over counted tokens of log p, minus the reference's (Rafailov et al. 2023, eq. 7); length_normalised:
                  d divided by the number of counted tokens. NLL is the mean of -log p over the chosen answer's counted tokens, or
                  over all its tokens (nll_all_rows)
distillation      sum w (ratio t^2 KL + (1 - ratio) (-log p(target))) / sum w, softmaxes in the KL at temperature t
                  (Hinton et al. 2015); forward KL(teacher || student), reverse KL(student || teacher), symmetric their mean"""
import torch
import torch.nn.functional as F

import llama


class Run:
    """One batch under one set of weights: what the objectives read of the network."""

    def __init__(self, config, weights, batch, options, adapters=None, scale=0.0):
        self.batch, self.options, self.weights = batch, options, weights
        self.hidden = [llama.hidden_states(config, weights, tokens, adapters, scale) for tokens, _, _, _ in batch.sequences]
        self.logits = [llama.logits(config, weights, hidden) for hidden in self.hidden]

    def log_probs(self, index):  # [T] 0 where nothing is predicted
        targets = torch.tensor(self.batch.sequences[index][1])
        log_p = self.logits[index].log_softmax(-1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
        return torch.where(targets >= 0, log_p, torch.zeros_like(log_p))

    def row_weights(self, index):  # [T]
        return torch.tensor(self.batch.sequences[index][2], dtype=self.logits[index].dtype)


def next_token(run):
    indices = range(len(run.batch.sequences))
    total = sum((run.row_weights(i) * -run.log_probs(i)).sum() for i in indices)
    return total / sum(run.row_weights(i).sum() for i in indices)


def _mean_over_pairs(run, pair_loss):
    groups = {}
    for index, answer in enumerate(run.batch.answers):
        groups.setdefault(answer["group"], []).append((answer["rank"], index))
    means = []
    for ranked in groups.values():
        losses = [pair_loss(a, b) for rank_a, a in ranked for rank_b, b in ranked if rank_a < rank_b]
        means.append(torch.stack(losses).mean())
    return torch.stack(means).mean()


def rewards(run):  # [answers]
    return torch.stack([hidden[-1] @ run.weights["score.weight"] for hidden in run.hidden])


def reward(run):
    scores = rewards(run)
    return _mean_over_pairs(run, lambda better, worse: -F.logsigmoid(scores[better] - scores[worse]))


def answer_log_probs(run):  # [answers] sums over counted tokens
    return torch.stack([(run.row_weights(i) * run.log_probs(i)).sum() for i in range(len(run.batch.sequences))])


def dpo(run):
    options = run.options
    counted = torch.stack([run.row_weights(i).sum() for i in range(len(run.batch.sequences))])
    reference = torch.tensor([a["reference_log_prob"] for a in run.batch.answers], dtype=counted.dtype)
    delta = answer_log_probs(run) - reference
    if options["length_normalised"]:
        delta = delta / counted

    def nll(index):
        if options["nll_all_rows"]:
            return -run.log_probs(index).sum() / run.batch.answers[index]["rows"]
        return -(run.row_weights(index) * run.log_probs(index)).sum() / counted[index]

    def pair(chosen, rejected):
        return -F.logsigmoid(options["beta"] * (delta[chosen] - delta[rejected])) + options["nll_weight"] * nll(chosen)

    return _mean_over_pairs(run, pair)


def distillation(run):
    """options["teacher"](tokens) -> [T, V] logits without gradient."""
    t, ratio, direction = run.options["temperature"], run.options["ratio"], run.options["direction"]
    total, weight = 0, 0
    for i, (tokens, _, _, _) in enumerate(run.batch.sequences):
        p = (run.options["teacher"](tokens).to(run.logits[i].dtype) / t).log_softmax(-1)
        q = (run.logits[i] / t).log_softmax(-1)
        forward, reverse = (p.exp() * (p - q)).sum(-1), (q.exp() * (q - p)).sum(-1)
        kl = {"forward": forward, "reverse": reverse, "symmetric": (forward + reverse) / 2}[direction]
        w = run.row_weights(i)
        total = total + (w * (ratio * t * t * kl - (1 - ratio) * run.log_probs(i))).sum()
        weight = weight + w.sum()
    return total / weight
