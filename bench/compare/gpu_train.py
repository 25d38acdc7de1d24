#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training steps of the 1B shape of Llama 3.2 on one GPU: Puna beside PyTorch on the same machine, and their share of the card's
matrix rate.

usage: gpu_train.py PUNA [--steps N] [--rows N] [--shape 1b|tiny] [--no-torch]
Both keep F32 values and AdamW states, multiply in BF16, and add up the gradients of `rows` rows of 4,096 tokens before each step with
clipping. PyTorch: torch.compile, fused AdamW, its flash attention. FLOPs of a token: 6 N, N the weights that multiply, and of attention
6 layers width (tokens before it, on average half a row) times 2. The matrix rate is what torch reaches for BF16 products of 8192 cubed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# layers, width, heads, heads of keys and values, feed-forward width, vocabulary
SHAPES = {"1b": (16, 2048, 32, 8, 8192, 128256), "tiny": (2, 128, 4, 2, 256, 512)}
LENGTH = 4096


def token_flops(shape):
    layers, width, heads, kv_heads, wide, vocabulary = shape
    multiplying = layers * width * (2 * width + 2 * width * kv_heads // heads + 3 * wide) + vocabulary * width
    return 6 * multiplying + 6 * layers * width * LENGTH


def puna_speed(puna, folder, shape, rows, steps):
    layers, width, heads, kv_heads, wide, vocabulary = shape
    recipe = {"tokenizer": os.path.join(folder, "tokenizer.json"), "data": [os.path.join(folder, "text.txt")],
              "out": os.path.join(folder, "run"), "sequence_length": LENGTH, "step_tokens": rows * LENGTH, "batch_tokens": LENGTH,
              "steps": steps, "weights": "bf16", "device": "cuda",
              "new_model": {"layers": layers, "width": width, "heads": heads, "kv_heads": kv_heads, "feed_forward": wide,
                            "vocabulary": vocabulary, "tied_embeddings": True}}
    path = os.path.join(folder, "recipe.yaml")
    with open(path, "w") as file:
        json.dump(recipe, file)
    result = subprocess.run([puna, "train", path, "--json"], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return statistics.median([event["tokens_per_second"] for event in events if event["event"] == "step"][2:])


def torch_speed(shape, rows, steps):
    import torch
    import torch.nn.functional as F

    layers, width, heads, kv_heads, wide, vocabulary = shape
    each = width // heads
    torch.manual_seed(1)
    matrix = lambda n, k: torch.nn.Parameter(torch.randn(n, k, device="cuda") * 0.02)
    ones = lambda: torch.nn.Parameter(torch.ones(width, device="cuda"))
    embedding = matrix(vocabulary, width)
    blocks = [{"q": matrix(width, width), "k": matrix(kv_heads * each, width), "v": matrix(kv_heads * each, width),
               "o": matrix(width, width), "gate": matrix(wide, width), "up": matrix(wide, width), "down": matrix(width, wide),
               "n1": ones(), "n2": ones()} for _ in range(layers)]
    last = ones()
    parameters = [embedding, last] + [p for block in blocks for p in block.values()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    angles = torch.outer(torch.arange(LENGTH).float(), 500000 ** (-torch.arange(0, each, 2).float() / each))
    cos, sin = torch.cat([angles.cos()] * 2, 1).cuda(), torch.cat([angles.sin()] * 2, 1).cuda()

    def rotate(x):
        half = torch.cat([-x[..., each // 2:], x[..., :each // 2]], -1)
        return (x * cos + half * sin).to(x.dtype)

    def loss_of(tokens):
        split = lambda y: y.view(1, LENGTH, -1, each).transpose(1, 2)
        x = F.embedding(tokens[:, :-1], embedding)
        for b in blocks:
            n = F.rms_norm(x, (width,), b["n1"], 1e-5)
            q, k, v = rotate(split(F.linear(n, b["q"]))), rotate(split(F.linear(n, b["k"]))), split(F.linear(n, b["v"]))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + F.linear(a.transpose(1, 2).reshape(1, LENGTH, width), b["o"])
            m = F.rms_norm(x, (width,), b["n2"], 1e-5)
            x = x + F.linear(F.silu(F.linear(m, b["gate"])) * F.linear(m, b["up"]), b["down"])
        logits = F.linear(F.rms_norm(x, (width,), last, 1e-5), embedding)
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    compiled = torch.compile(loss_of)
    tokens = torch.randint(0, vocabulary, (rows, 1, LENGTH + 1), device="cuda")
    speeds = []
    for _ in range(steps):
        torch.cuda.synchronize()
        start = time.time()
        for row in tokens:
            with torch.autocast("cuda", torch.bfloat16):
                loss = compiled(row)
            (loss / rows).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        speeds.append(rows * LENGTH / (time.time() - start))
    return statistics.median(speeds[2:])


def matrix_rate():
    import torch
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for i in range(25):
        if i == 5:
            torch.cuda.synchronize()
            start = time.time()
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("puna")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "text.txt"), "w") as file:
            file.write("".join(chr(97 + i * i % 26) + (" " if i % 5 == 0 else "") for i in range(1000000)))
        subprocess.run([options.puna, "train-tokenizer", os.path.join(folder, "text.txt"), "--vocab", "270", "--out",
                        os.path.join(folder, "tokenizer.json")], check=True, capture_output=True)
        ours = puna_speed(options.puna, folder, shape, options.rows, options.steps)
    rate = 0 if options.no_torch else matrix_rate()
    share = f", {100 * ours * token_flops(shape) / rate:.1f} % of {rate / 1e12:.0f} TFLOP/s" if rate else ""
    print(f"puna  {ours:.0f} tokens/s, {ours * token_flops(shape) / 1e12:.0f} TFLOP/s{share}", flush=True)
    if not options.no_torch:
        theirs = torch_speed(shape, options.rows, options.steps)
        print(f"torch {theirs:.0f} tokens/s, {theirs * token_flops(shape) / 1e12:.0f} TFLOP/s; ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
