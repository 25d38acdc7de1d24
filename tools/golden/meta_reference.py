# SPDX-License-Identifier: Apache-2.0
"""The Llama network in PyTorch float64, after the layer definitions of llama-models (models/llama3/model.py): interleaved complex
rotation, apply_scaling, RMSNorm, repeated key/value heads, SwiGLU. Nothing here comes from Puna; it is what Puna is held against.

Weights are a dictionary with Meta's names; rows of wq and wk are in Meta's (interleaved) order."""
import math
from dataclasses import dataclass
from typing import Optional

import torch


@dataclass
class Config:
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden: int
    vocab_size: int
    norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    scale_factor: Optional[float] = None  # Llama 3.1's scaling: low 1, high 4, old context 8192
    linear_factor: float = 1.0
    tied: bool = False


def apply_scaling(freqs, factor, low=1, high=4, old=8192):
    out = []
    for freq in freqs.tolist():
        wavelen = 2 * math.pi / freq
        if wavelen < old / high:
            out.append(freq)
        elif wavelen > old / low:
            out.append(freq / factor)
        else:
            smooth = (old / wavelen - low) / (high - low)
            out.append((1 - smooth) * freq / factor + smooth * freq)
    return torch.tensor(out, dtype=torch.float64)


def frequencies(config):
    freqs = 1.0 / (config.rope_theta ** (torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim))
    freqs = freqs / config.linear_factor
    return apply_scaling(freqs, config.scale_factor) if config.scale_factor else freqs


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, freqs_cis):  # x [T, heads, E]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * freqs_cis[:, None, :]).flatten(2)


def attend(q, k, v, rows, block=1024):
    """One head: softmax(q k^T / sqrt(E)) v [R, E] of queries q [R, E] at positions `rows`, over keys and values [T, E] up to each of
    them. A block of keys at a time with a running maximum (Milakov and Gimelshein 2018, online softmax): scores of 131,072 by
    131,072 would not fit."""
    scaled = q / math.sqrt(q.shape[1])
    highest = torch.full((len(rows), 1), float("-inf"), dtype=torch.float64)
    total, out = torch.zeros(len(rows), 1, dtype=torch.float64), torch.zeros_like(q)
    for begin in range(0, int(rows.max()) + 1, block):
        end = min(k.shape[0], begin + block)
        scores = scaled @ k[begin:end].T
        if end > rows.min():
            scores.masked_fill_(torch.arange(begin, end)[None, :] > rows[:, None], float("-inf"))
        higher = torch.maximum(highest, scores.amax(1, keepdim=True))  # finite: position 0 is in the first block
        weights, kept = scores.sub_(higher).exp_(), torch.exp(highest - higher)
        total, out = total * kept + weights.sum(1, keepdim=True), out * kept + weights @ v[begin:end]
        highest = higher
    return out / total


def attention(x, rows, w, prefix, config, freqs_cis, chunk=256):
    """Attention's output [len(rows), D] at the positions `rows` of x [T, D]."""
    t = x.shape[0]
    heads, kv, width = config.n_heads, config.n_kv_heads, config.head_dim
    q = rotate((x[rows] @ w[prefix + "wq.weight"].T).view(len(rows), heads, width), freqs_cis[rows])
    k = rotate((x @ w[prefix + "wk.weight"].T).view(t, kv, width), freqs_cis)
    v = (x @ w[prefix + "wv.weight"].T).view(t, kv, width)
    out = torch.empty(len(rows), heads, width, dtype=torch.float64)
    for head in range(heads):
        keys, values = (each[:, head // (heads // kv)].contiguous() for each in (k, v))
        for begin in range(0, len(rows), chunk):
            part = slice(begin, begin + chunk)
            out[part, head] = attend(q[part, head], keys, values, rows[part])
    return out.reshape(len(rows), heads * width) @ w[prefix + "wo.weight"].T


def feed_forward(x, w, prefix):
    gate, up = x @ w[prefix + "w1.weight"].T, x @ w[prefix + "w3.weight"].T
    return (gate * torch.sigmoid(gate) * up) @ w[prefix + "w2.weight"].T


def logits(config, weights, tokens, rows=None):
    """Logits [len(rows), V] in float64; all rows where rows is None."""
    w = {name: value.to(torch.float64) for name, value in weights.items()}
    position = torch.arange(len(tokens), dtype=torch.float64)
    angles = torch.outer(position, frequencies(config))
    freqs_cis = torch.polar(torch.ones_like(angles), angles)
    h = w["tok_embeddings.weight"][torch.tensor(tokens)]
    every = torch.arange(len(tokens))
    for layer in range(config.n_layers):
        p = f"layers.{layer}."
        wanted = every if rows is None or layer + 1 < config.n_layers else torch.tensor(rows)  # nobody reads the others' last layer
        x = rms_norm(h, w[p + "attention_norm.weight"], config.norm_eps)
        h = h[wanted] + attention(x, wanted, w, p + "attention.", config, freqs_cis)
        h = h + feed_forward(rms_norm(h, w[p + "ffn_norm.weight"], config.norm_eps), w, p + "feed_forward.")
    h = rms_norm(h, w["norm.weight"], config.norm_eps)
    return h @ w["tok_embeddings.weight" if config.tied else "output.weight"].T


def random_weights(config, dtype, seed):
    """Weights rounded to dtype. Queries and keys are wide enough that attention is far from even."""
    g = torch.Generator().manual_seed(seed)

    def matrix(n, k, gain=1.0):
        return (torch.randn(n, k, generator=g, dtype=torch.float64) * gain / math.sqrt(k)).to(dtype)

    def norm():
        return (1 + 0.3 * torch.randn(config.dim, generator=g, dtype=torch.float64)).to(dtype)

    inner, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    w = {"tok_embeddings.weight": matrix(config.vocab_size, config.dim, math.sqrt(config.dim))}
    for layer in range(config.n_layers):
        p = f"layers.{layer}."
        w[p + "attention.wq.weight"] = matrix(inner, config.dim, 2.0)
        w[p + "attention.wk.weight"] = matrix(kv, config.dim, 2.0)
        w[p + "attention.wv.weight"] = matrix(kv, config.dim)
        w[p + "attention.wo.weight"] = matrix(config.dim, inner)
        w[p + "feed_forward.w1.weight"] = matrix(config.hidden, config.dim)
        w[p + "feed_forward.w3.weight"] = matrix(config.hidden, config.dim)
        w[p + "feed_forward.w2.weight"] = matrix(config.dim, config.hidden)
        w[p + "attention_norm.weight"] = norm()
        w[p + "ffn_norm.weight"] = norm()
    w["norm.weight"] = norm()
    if not config.tied:
        w["output.weight"] = matrix(config.vocab_size, config.dim)
    return w
