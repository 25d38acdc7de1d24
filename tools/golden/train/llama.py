# SPDX-License-Identifier: Apache-2.0
"""The Llama network as PyTorch functions over Hugging Face's names, for one unpacked sequence at a time; autograd makes the
gradients. Rotary pairs are halves of a head (Hugging Face's order). Nothing here comes from Puna: it is what Puna's training is
held against. Letters: T tokens, D width, H query heads, G key/value heads, E head width, F feed-forward width, V vocabulary."""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class Config:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    tied: bool
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_factor: float = 8.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_context: int = 64  # so short that the three bands of the scaling all occur within one head of width 8

    def hugging_face(self):
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": self.width,
                "intermediate_size": self.feed_forward, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads, "head_dim": self.head_width, "vocab_size": self.vocabulary,
                "rms_norm_eps": self.norm_eps, "rope_theta": self.rope_theta, "max_position_embeddings": 512,
                "tie_word_embeddings": self.tied, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
                "rope_scaling": {"rope_type": "llama3", "factor": self.rope_factor, "low_freq_factor": self.rope_low,
                                 "high_freq_factor": self.rope_high, "original_max_position_embeddings": self.rope_context}}


def shapes(config):
    """Name -> shape of every weight, in the order of the files."""
    q, kv = config.heads * config.head_width, config.kv_heads * config.head_width
    result = {"model.embed_tokens.weight": (config.vocabulary, config.width)}
    for layer in range(config.layers):
        at = f"model.layers.{layer}."
        result.update({at + "input_layernorm.weight": (config.width,),
                       at + "self_attn.q_proj.weight": (q, config.width),
                       at + "self_attn.k_proj.weight": (kv, config.width),
                       at + "self_attn.v_proj.weight": (kv, config.width),
                       at + "self_attn.o_proj.weight": (config.width, q),
                       at + "post_attention_layernorm.weight": (config.width,),
                       at + "mlp.gate_proj.weight": (config.feed_forward, config.width),
                       at + "mlp.up_proj.weight": (config.feed_forward, config.width),
                       at + "mlp.down_proj.weight": (config.width, config.feed_forward)})
    result["model.norm.weight"] = (config.width,)
    if not config.tied:
        result["lm_head.weight"] = (config.vocabulary, config.width)
    return result


def random_weights(config, seed):
    """F32 values: norms around 1, embeddings around 0.5, the rest scaled so that every block changes the stream."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            weights[name] = 1 + 0.2 * noise
        else:
            weights[name] = noise * (0.5 if "embed" in name else 1.2 / math.sqrt(shape[1]))
    return weights


def frequencies(config):  # -> [E / 2]
    """Llama 3.1's scaling of the rotary frequencies, in float64."""
    freqs = config.rope_theta ** (-torch.arange(0, config.head_width, 2, dtype=torch.float64) / config.head_width)
    wavelength = 2 * math.pi / freqs
    smooth = (config.rope_context / wavelength - config.rope_low) / (config.rope_high - config.rope_low)
    smooth = smooth.clamp(0, 1)  # 1: short wavelengths stay, 0: long ones are stretched by the factor
    return freqs * (smooth + (1 - smooth) / config.rope_factor)


def rms_norm(x, weight, eps):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, angles):  # x [T, heads, E], angles [T, E / 2]
    cos, sin = angles.cos()[:, None, :].to(x.dtype), angles.sin()[:, None, :].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def hidden_states(config, weights, tokens, adapters=None, scale=0.0):
    """-> [T, D] behind the output norm. `adapters`: name without ".weight" -> (A [R, in], B [out, R]); y += scale B (A x)."""

    def linear(x, name):
        y = x @ weights[name + ".weight"].T
        if adapters and name in adapters:
            a, b = adapters[name]
            y = y + scale * ((x @ a.T) @ b.T)
        return y

    rows = len(tokens)
    angles = torch.arange(rows, dtype=torch.float64)[:, None] * frequencies(config)
    future = torch.ones(rows, rows, dtype=torch.bool).triu(1)
    x = weights["model.embed_tokens.weight"][torch.tensor(tokens)]
    for layer in range(config.layers):
        at = f"model.layers.{layer}."
        normed = rms_norm(x, weights[at + "input_layernorm.weight"], config.norm_eps)
        q = rotate(linear(normed, at + "self_attn.q_proj").view(rows, config.heads, -1), angles)
        k = rotate(linear(normed, at + "self_attn.k_proj").view(rows, config.kv_heads, -1), angles)
        v = linear(normed, at + "self_attn.v_proj").view(rows, config.kv_heads, -1)
        k, v = (z.repeat_interleave(config.heads // config.kv_heads, dim=1) for z in (k, v))
        scores = torch.einsum("the,she->hts", q, k) / math.sqrt(config.head_width)
        mixed = torch.einsum("hts,she->the", scores.masked_fill(future, -math.inf).softmax(-1), v)
        x = x + linear(mixed.reshape(rows, -1), at + "self_attn.o_proj")
        normed = rms_norm(x, weights[at + "post_attention_layernorm.weight"], config.norm_eps)
        gated = F.silu(linear(normed, at + "mlp.gate_proj")) * linear(normed, at + "mlp.up_proj")
        x = x + linear(gated, at + "mlp.down_proj")
    return rms_norm(x, weights["model.norm.weight"], config.norm_eps)


def logits(config, weights, hidden):  # [T, D] -> [T, V]
    return hidden @ weights["model.embed_tokens.weight" if config.tied else "lm_head.weight"].T
