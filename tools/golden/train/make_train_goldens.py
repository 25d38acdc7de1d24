#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/train: two tiny models, a teacher, an adapter, and for every objective a packed batch with its loss, gradients
and 20 steps of AdamW. What the files hold is told in tests/golden/train/README.md.
Usage: make_train_goldens.py OUTPUT_FOLDER. Needs PyTorch (1.13 is enough); takes about ten seconds on one core."""
import json
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import batches
import llama
import objectives
from model_files import write_hugging_face, write_safetensors

torch.set_num_threads(1)
OUT = Path(sys.argv[1])
STEPS = 20
OPTIMIZER = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}

# Heads wider in sum than the model (4 x 8 > 16), its own output matrix.
UNTIED = llama.Config(layers=2, width=16, heads=4, kv_heads=2, head_width=8, feed_forward=24, vocabulary=48, tied=False)
TIED = llama.Config(layers=1, width=32, heads=4, kv_heads=2, head_width=8, feed_forward=40, vocabulary=64, tied=True)
TEACHER = llama.Config(layers=1, width=24, heads=3, kv_heads=1, head_width=8, feed_forward=32, vocabulary=48, tied=True)
LORA = {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "gate_proj", "down_proj"]}
DPO = {"beta": 0.1, "nll_weight": 0.2, "length_normalised": False, "nll_all_rows": False}


class Case:
    """A model, a batch and an objective; which weights are trained."""

    def __init__(self, name, model, batch, objective, options=None, extra=None, adapters=None):
        self.name, self.model, self.batch, self.objective = name, model, batch, objective
        self.options, self.adapters = options or {}, adapters
        self.config, weights = MODELS[model]
        if adapters:
            self.frozen, self.start = weights, adapters
        else:
            self.frozen, self.start = {}, {**weights, **(extra or {})}

    def run(self, trained):
        dtype = next(iter(trained.values())).dtype
        if not self.adapters:
            return objectives.Run(self.config, trained, self.batch, self.options)
        frozen = {name: value.to(dtype) for name, value in self.frozen.items()}
        pairs = {}
        for name, value in trained.items():
            role = name[len("base_model.model."):].rsplit(".lora_", 1)[0]
            pairs.setdefault(role, [None, None])["AB".index(name[-len("A.weight")])] = value
        return objectives.Run(self.config, frozen, self.batch, self.options, pairs, LORA["alpha"] / LORA["rank"])

    def loss(self, trained):
        return getattr(objectives, self.objective)(self.run(trained))

    def leaves(self, dtype=torch.float64):
        return {name: value.detach().to(dtype, copy=True).requires_grad_() for name, value in self.start.items()}


def gradients(case):
    leaves = case.leaves()
    loss = case.loss(leaves)
    loss.backward()
    # The vocabulary's matrix has no part in a reward: its gradient is zero.
    return loss.item(), {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in leaves.items()}


def descend(case, clip, dtype=torch.float64):
    """Loshchilov & Hutter's algorithm 2 by hand: -> losses before each step and after the last, gradient norms, weights."""
    leaves, moments, losses, norms = case.leaves(dtype), {}, [], []
    b1, b2, rate = OPTIMIZER["beta1"], OPTIMIZER["beta2"], OPTIMIZER["learning_rate"]
    for step in range(1, STEPS + 1):
        for leaf in leaves.values():
            leaf.grad = None
        loss = case.loss(leaves)
        loss.backward()
        losses.append(loss.item())
        grads = {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in leaves.items()}
        norms.append(math.sqrt(sum(g.pow(2).sum().item() for g in grads.values())))
        scale = min(1.0, clip / norms[-1]) if clip else 1.0
        with torch.no_grad():
            for name, leaf in leaves.items():
                m, v = moments.get(name, (torch.zeros_like(leaf), torch.zeros_like(leaf)))
                g = scale * grads[name]
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
                moments[name] = (m, v)
                decay = OPTIMIZER["weight_decay"] if leaf.dim() == 2 else 0.0
                leaf -= rate * (m / (1 - b1**step) / ((v / (1 - b2**step)).sqrt() + OPTIMIZER["eps"]) + decay * leaf)
    losses.append(case.loss(leaves).item())
    return losses, norms, {name: leaf.detach() for name, leaf in leaves.items()}


def save(path, tensors):
    write_safetensors(path, {name: value.float() for name, value in tensors.items()})


def figures(case):
    """What lies between the batch and the loss, for finding where a difference begins."""
    run = case.run(case.leaves())
    rows = [0.0] * len(case.batch.tokens)
    for i, (_, _, weights, at) in enumerate(case.batch.sequences):
        for row, weight, value in zip(at, weights, run.log_probs(i).tolist()):
            if weight:
                rows[row] = value
    result = {"row_log_probs": rows}
    if case.batch.answers:
        result["answer_log_probs"] = objectives.answer_log_probs(run).tolist()
    if "score.weight" in case.start:
        result["rewards"] = objectives.rewards(run).tolist()
    return result


def write_case(case, final_weights):
    print(case.name, flush=True)
    loss, grads = gradients(case)
    save(OUT / f"{case.name}.gradients.safetensors", grads)
    with torch.no_grad():
        loss_f32 = case.loss(case.leaves(torch.float32)).item()
    steps = {}
    for run, clip in (("unclipped", 0.0), ("clipped", 1.0)):
        losses, norms, weights = descend(case, clip)
        losses_f32, _, weights_f32 = descend(case, clip, torch.float32)
        steps[run] = {"clip": clip, "losses": losses, "gradient_norms": norms,
                      "f32_loss_error": max(abs(a - b) for a, b in zip(losses, losses_f32)),
                      "f32_weight_error": max((weights[n] - weights_f32[n]).abs().max().item() for n in weights)}
        if final_weights:
            save(OUT / f"{case.name}.{run}.safetensors", weights)
    assert max(steps["clipped"]["gradient_norms"]) > 1 or case.objective != "next_token", "the clip never acts"
    options = {key: value for key, value in case.options.items() if key != "teacher"}
    text = {"model": case.model, "objective": case.objective, "options": options, "optimizer": OPTIMIZER,
            "batch": case.batch.json(), "expected": {"loss": loss, "loss_f32": loss_f32, **figures(case), **steps}}
    lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in text.items())
    (OUT / f"{case.name}.json").write_text("{" + lines + "}\n")


def random_adapters(config, seed):
    """PEFT's names; B is not zero here, so that A has a gradient."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, shape in llama.shapes(config).items():
        if any(f".{target}.weight" in name for target in LORA["targets"]):
            role = "base_model.model." + name[: -len(".weight")]
            result[role + ".lora_A.weight"] = torch.randn(LORA["rank"], shape[1], generator=generator) / math.sqrt(shape[1])
            result[role + ".lora_B.weight"] = 0.1 * torch.randn(shape[0], LORA["rank"], generator=generator)
    return result


def write_adapter(folder, adapters):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "untied", "r": LORA["rank"],
              "lora_alpha": LORA["alpha"], "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
              "target_modules": LORA["targets"]}
    (folder / "adapter_config.json").write_text(json.dumps(config) + "\n")
    save(folder / "adapter_model.safetensors", adapters)


def main():
    for name, (config, weights) in MODELS.items():
        write_hugging_face(OUT / name, config.hugging_face(), weights)
    teacher_config, teacher_weights = MODELS["teacher"]
    teacher_weights = {name: value.double() for name, value in teacher_weights.items()}

    def teacher(tokens):
        return llama.logits(teacher_config, teacher_weights, llama.hidden_states(teacher_config, teacher_weights, tokens))

    head = {"score.weight": torch.randn(UNTIED.width, generator=torch.Generator().manual_seed(4)) / 4}
    save(OUT / "reward_head.safetensors", head)
    adapters = random_adapters(UNTIED, 5)
    write_adapter(OUT / "adapter", adapters)

    v = UNTIED.vocabulary
    write_case(Case("next_token", "untied", batches.next_token_batch(v), "next_token"), True)
    write_case(Case("next_token_tied", "tied", batches.next_token_batch(TIED.vocabulary), "next_token"), False)
    write_case(Case("sft", "untied", batches.sft_batch(v), "next_token"), False)
    write_case(Case("reward", "untied", batches.reward_batch(v), "reward", extra=head), False)
    write_case(Case("reward_groups", "untied", batches.reward_groups_batch(v), "reward", extra=head), False)
    write_case(Case("reward_one_row", "untied", batches.reward_one_row_batch(v), "reward", extra=head), False)
    write_case(Case("dpo", "untied", batches.dpo_batch(v), "dpo", DPO), False)
    write_case(Case("dpo_nll_all_rows", "untied", batches.dpo_batch(v), "dpo", {**DPO, "nll_all_rows": True}), False)
    write_case(Case("dpo_length_normalised", "untied", batches.dpo_batch(v), "dpo",
                    {**DPO, "beta": 5.0, "nll_weight": 0.0, "length_normalised": True}), False)
    for direction in ("forward", "reverse", "symmetric"):
        options = {"teacher": teacher, "temperature": 2.0, "ratio": 0.5, "direction": direction}
        write_case(Case(f"distillation_{direction}", "untied", batches.sft_batch(v), "distillation", options), False)
    write_case(Case("lora", "untied", batches.sft_batch(v), "next_token", LORA, adapters=adapters), True)


MODELS = {"untied": (UNTIED, llama.random_weights(UNTIED, 1)), "tied": (TIED, llama.random_weights(TIED, 2)),
          "teacher": (TEACHER, llama.random_weights(TEACHER, 3))}
main()
