#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures training steps of Puna and of PyTorch on the same shapes, in turns, and prints the ratios.

usage: train.py PUNA [--turns N] [--shape 4m|124m] [--threads N] [--peak GFLOPS]
F32, rows of 512 tokens, forward + backward + AdamW. FLOPs are counted as 6 N per token, N the weights that multiply (attention is not
counted). --peak: what the processor's fused multiply-adds reach, for the share of the machine. Needs python3-torch (and OpenBLAS, which
Debian's PyTorch calls).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# layers, width, heads, feed-forward width, vocabulary, rows of a step
SHAPES = {"4m": (8, 192, 6, 512, 4096, 8), "124m": (12, 768, 12, 2048, 32000, 4)}
LENGTH = 512


def multiplying(shape):
    layers, width, _, wide, vocabulary, _ = shape
    return layers * width * (4 * width + 3 * wide) + vocabulary * width


def puna_speed(puna, folder, shape, threads, steps):
    layers, width, heads, wide, vocabulary, rows = shape
    out = tempfile.mkdtemp(dir=folder)
    recipe = {"tokenizer": os.path.join(folder, "tokenizer.json"), "data": [os.path.join(folder, "text.txt")],
              "out": os.path.join(out, "run"), "sequence_length": LENGTH, "step_tokens": rows * LENGTH, "batch_tokens": rows * LENGTH,
              "steps": steps, "threads": threads,
              "new_model": {"layers": layers, "width": width, "heads": heads, "kv_heads": heads, "feed_forward": wide,
                            "vocabulary": vocabulary, "tied_embeddings": True}}
    path = os.path.join(out, "recipe.yaml")
    with open(path, "w") as file:
        json.dump(recipe, file)
    result = subprocess.run([puna, "train", path, "--json"], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return statistics.median([event["tokens_per_second"] for event in events if event["event"] == "step"][1:])


def torch_speed(shape, threads, steps):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    layers, width, heads, wide, vocabulary, rows = shape
    matrix = lambda n, k: torch.nn.Parameter(torch.randn(n, k) * 0.02)
    embedding = matrix(vocabulary, width)
    blocks = [{"q": matrix(width, width), "k": matrix(width, width), "v": matrix(width, width), "o": matrix(width, width),
               "gate": matrix(wide, width), "up": matrix(wide, width), "down": matrix(width, wide),
               "n1": torch.nn.Parameter(torch.ones(width)), "n2": torch.nn.Parameter(torch.ones(width))} for _ in range(layers)]
    last = torch.nn.Parameter(torch.ones(width))
    parameters = [embedding, last] + [p for block in blocks for p in block.values()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, foreach=True)
    each = width // heads
    angles = torch.outer(torch.arange(LENGTH).float(), 10000 ** (-torch.arange(0, each, 2).float() / each))
    cos, sin = torch.cat([angles.cos()] * 2, 1), torch.cat([angles.sin()] * 2, 1)
    mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
    norm = lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w

    def rotate(x):
        half = torch.cat([-x[..., each // 2:], x[..., :each // 2]], -1)
        return x * cos + half * sin

    tokens = torch.randint(0, vocabulary, (rows, LENGTH + 1))
    speeds = []
    for _ in range(steps):
        start = time.time()
        x = F.embedding(tokens[:, :-1], embedding)
        for b in blocks:
            n = norm(x, b["n1"])
            split = lambda y: y.view(rows, LENGTH, heads, each).transpose(1, 2)
            q, k, v = rotate(split(n @ b["q"].T)), rotate(split(n @ b["k"].T)), split(n @ b["v"].T)
            p = torch.softmax(q @ k.transpose(2, 3) / each ** 0.5 + mask, -1)
            x = x + (p @ v).transpose(1, 2).reshape(rows, LENGTH, width) @ b["o"].T
            m = norm(x, b["n2"])
            x = x + (F.silu(m @ b["gate"].T) * (m @ b["up"].T)) @ b["down"].T
        loss = F.cross_entropy((norm(x, last) @ embedding.T).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        speeds.append(rows * LENGTH / (time.time() - start))
    return statistics.median(speeds[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("puna")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=float, default=0, help="GFLOP/s of all threads together")
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "text.txt"), "w") as file:
            file.write("".join(chr(97 + i * i % 26) + (" " if i % 5 == 0 else "") for i in range(400000)))
        subprocess.run([options.puna, "train-tokenizer", os.path.join(folder, "text.txt"), "--vocab", "270", "--out",
                        os.path.join(folder, "tokenizer.json")], check=True, capture_output=True)
        for name in options.shape or SHAPES:
            shape = SHAPES[name]
            flops = 6 * multiplying(shape) / 1e9
            ours, theirs = [], []
            for _ in range(options.turns):
                ours.append(puna_speed(options.puna, folder, shape, options.threads, options.steps))
                if not options.no_torch:
                    theirs.append(torch_speed(shape, options.threads, options.steps))
            share = ", %.0f %% of the peak" % (100 * max(ours) * flops / options.peak) if options.peak else ""
            print("%-5s puna %s tokens/s, best %.0f GFLOP/s%s" % (name, " ".join("%.0f" % s for s in ours), max(ours) * flops, share))
            if theirs:
                ratios = [a / b for a, b in zip(ours, theirs)]
                print("%-5s torch %s tokens/s; ratios %s, median %.2f" % (
                    name, " ".join("%.0f" % s for s in theirs), " ".join("%.2f" % r for r in ratios), statistics.median(ratios)))


if __name__ == "__main__":
    main()
