#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/model: tiny random Llama checkpoints in every layout, and the logits that meta_reference.py computes for them in
float64. Usage: make_model_goldens.py OUTPUT_FOLDER. Needs numpy and torch; takes minutes, nearly all of them for whole_context."""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

import model_files as files
from meta_reference import Config, frequencies, logits, random_weights

OUT = Path(sys.argv[1])
CASES = []


def tokens(count, vocabulary):
    """Written out in cases.json as its formula, so that long cases stay small."""
    return [(i * i * 7 + i * 13 + i // 32 + 5) % vocabulary for i in range(count)]


def save_case(name, config, weights, layouts, count=24, rows=None):
    decoded = {n: w.decoded() if isinstance(w, files.Fp8) else w for n, w in weights.items()}
    expected = logits(config, decoded, tokens(count, config.vocab_size), rows)
    np.save(OUT / f"{name}.npy", expected.float().numpy())
    CASES.append({"name": name, "layouts": layouts, "tokens": count, "vocabulary": config.vocab_size,
                  "rows": rows if rows is not None else list(range(count))})


def meta_params(config, **more):
    params = {"dim": config.dim, "n_layers": config.n_layers, "n_heads": config.n_heads, "n_kv_heads": config.n_kv_heads,
              "multiple_of": 32, "norm_eps": config.norm_eps, "vocab_size": config.vocab_size, "rope_theta": config.rope_theta, "ffn_dim_multiplier": 0.7}  # 85 -> 59 -> 64
    if config.scale_factor:
        params["use_scaled_rope"] = True
    return {**params, **more}


def hugging_face_config(config, **more):
    result = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": config.dim,
              "intermediate_size": config.hidden, "num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads,
              "num_key_value_heads": config.n_kv_heads, "vocab_size": config.vocab_size, "rms_norm_eps": config.norm_eps,
              "rope_theta": config.rope_theta, "max_position_embeddings": 131072 if config.scale_factor else 2048,
              "tie_word_embeddings": config.tied}
    if config.scale_factor:
        result["rope_scaling"] = {"rope_type": "llama3", "factor": config.scale_factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 8192}
    return {**result, **more}


def gguf_metadata(config, **more):
    result = {"general.architecture": "llama", "general.name": "golden", "llama.block_count": config.n_layers,
              "llama.context_length": 131072 if config.scale_factor else 2048, "llama.embedding_length": config.dim,
              "llama.feed_forward_length": config.hidden, "llama.attention.head_count": config.n_heads,
              "llama.attention.head_count_kv": config.n_kv_heads, "llama.rope.freq_base": config.rope_theta,
              "llama.attention.layer_norm_rms_epsilon": config.norm_eps, "llama.rope.dimension_count": config.head_dim,
              "llama.vocab_size": config.vocab_size}
    return {**result, **{key.replace("__", "."): value for key, value in more.items()}}


def gguf_tensors(config, weights):
    tensors = files.gguf_tensors(weights)
    if config.scale_factor:
        plain = frequencies(Config(**{**vars(config), "scale_factor": None}))
        tensors["rope_freqs.weight"] = (plain / frequencies(config)).float()
    return tensors


def scaled_model():
    """Llama 3.1: grouped heads, scaled RoPE, BF16. The long case crosses the original context of 8,192."""
    config = Config(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, hidden=64, vocab_size=64, scale_factor=8.0)
    weights = random_weights(config, torch.bfloat16, 1)
    hf = files.hugging_face_tensors(config, weights)
    files.write_meta(OUT / "scaled/meta", meta_params(config), weights)
    files.write_meta(OUT / "scaled/meta_2", meta_params(config), weights, ranks=2)
    files.write_hugging_face(OUT / "scaled/hf", hugging_face_config(config), hf)
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_theta": config.rope_theta}
    newer = hugging_face_config(config, rope_parameters=rope)
    del newer["rope_theta"], newer["rope_scaling"]
    files.write_hugging_face(OUT / "scaled/hf_sharded", newer, hf, shards=3)
    gguf = gguf_tensors(config, weights)
    files.write_gguf(OUT / "scaled/bf16.gguf", gguf_metadata(config), gguf)
    names = list(gguf)
    for part in range(2):
        split = {"split.no": part, "split.count": 2, "split.tensors.count": len(names)}
        metadata = {**gguf_metadata(config), **split} if part == 0 else split
        some = names[part * len(names) // 2 : (part + 1) * len(names) // 2]
        files.write_gguf(OUT / f"scaled/split-{part + 1:05}-of-00002.gguf", metadata, {n: gguf[n] for n in some})
    layouts = ["meta", "meta_2", "hf", "hf_sharded", "bf16.gguf", "split-00001-of-00002.gguf"]
    layouts = ["scaled/" + layout for layout in layouts]
    save_case("scaled", config, weights, layouts)
    save_case("long", config, weights, ["scaled/hf", "scaled/bf16.gguf"], count=12032, rows=[0, 63, 8191, 8192, 12000, 12031])


def whole_context_model():
    """Every position that Llama 3.1 has, with heads as wide as tensor cores take them. Attention is far from even, so what is far back
    shows: tokens repeat every 2,048, so rows 65,535 and 131,071 see the same 65,536 tokens at the same distances, and differ by what
    is before them, which moves logits by 0.35 of the largest."""
    config = Config(dim=64, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=64, hidden=64, vocab_size=64, scale_factor=8.0)
    weights = random_weights(config, torch.bfloat16, 6)
    hf = hugging_face_config(config, head_dim=64)
    files.write_hugging_face(OUT / "whole_context/hf", hf, files.hugging_face_tensors(config, weights))
    save_case("whole_context", config, weights, ["whole_context/hf"], count=131072, rows=[0, 8191, 32767, 65535, 131071])


def tied_model():
    """Llama 3.2: the output is the embedding, positions stretched by 32; F16."""
    config = Config(dim=32, n_layers=2, n_heads=4, n_kv_heads=1, head_dim=8, hidden=64, vocab_size=80, scale_factor=32.0, tied=True)
    weights = random_weights(config, torch.float16, 2)
    files.write_hugging_face(OUT / "tied/hf", hugging_face_config(config), files.hugging_face_tensors(config, weights))
    files.write_gguf(OUT / "tied/f16.gguf", gguf_metadata(config), gguf_tensors(config, weights))
    params = meta_params(config, rope_scaling_factor=32)
    files.write_meta(OUT / "tied/meta", params, weights, module=True)
    save_case("tied", config, weights, ["tied/hf", "tied/f16.gguf", "tied/meta"])


def llama2_model():
    """Llama 2: as many key/value heads as heads, no scaling, embedding split by columns, params.json without RoPE base; F32."""
    config = Config(dim=32, n_layers=1, n_heads=4, n_kv_heads=4, head_dim=8, hidden=96, vocab_size=40, rope_theta=10000.0, norm_eps=1e-6)
    weights = random_weights(config, torch.float32, 3)
    params = {"dim": 32, "multiple_of": 32, "n_heads": 4, "n_layers": 1, "norm_eps": 1e-6, "vocab_size": -1}
    extras = {"rope.freqs": torch.zeros(4)}
    files.write_meta(OUT / "llama2/meta_2", params, weights, ranks=2, embedding_columns=True, extras=extras)
    hf = hugging_face_config(config)
    del hf["rope_theta"], hf["num_key_value_heads"]
    files.write_hugging_face(OUT / "llama2/hf", hf, files.hugging_face_tensors(config, weights))
    files.write_gguf(OUT / "llama2/f32.gguf", gguf_metadata(config), gguf_tensors(config, weights))
    save_case("llama2", config, weights, ["llama2/meta_2", "llama2/hf", "llama2/f32.gguf"])


def wide_model():
    """Heads wider than the model divided by its heads, and linear RoPE scaling."""
    config = Config(dim=32, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=16, hidden=64, vocab_size=64, rope_theta=10000.0,
                    linear_factor=4.0)
    weights = random_weights(config, torch.bfloat16, 4)
    hf = hugging_face_config(config, head_dim=16, rope_scaling={"type": "linear", "factor": 4.0})
    files.write_hugging_face(OUT / "wide/hf", hf, files.hugging_face_tensors(config, weights))
    metadata = gguf_metadata(config, llama__attention__key_length=16, llama__attention__value_length=16,
                             llama__rope__scaling__type="linear", llama__rope__scaling__factor=4.0)
    files.write_gguf(OUT / "wide/bf16.gguf", metadata, gguf_tensors(config, weights))
    save_case("wide", config, weights, ["wide/hf", "wide/bf16.gguf"])


def fp8_models():
    config = Config(dim=32, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=8, hidden=64, vocab_size=48, scale_factor=8.0)
    base = random_weights(config, torch.bfloat16, 5)
    inner = [f"layers.1.feed_forward.{w}.weight" for w in ("w1", "w3", "w2")]  # Meta leaves the first and last layer in BF16
    by_row = {**base, **{name: files.to_fp8(base[name].double()) for name in inner}}
    files.write_meta(OUT / "fp8/meta", meta_params(config), by_row, module=False)
    quantization = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}
    files.write_hugging_face(OUT / "fp8/fbgemm", hugging_face_config(config, quantization_config=quantization),
                             files.hugging_face_tensors(config, by_row, lambda scales: scales[:, None].contiguous()))
    save_case("fp8", config, by_row, ["fp8/meta", "fp8/fbgemm"])

    ranked = dict(base)
    for name in inner:
        dim = 1 if "w2" in name else 0
        ranked[name] = files.RankedFp8([files.to_fp8(part) for part in torch.chunk(base[name].double(), 2, dim=dim)], dim)
    files.write_meta(OUT / "fp8/meta_2", meta_params(config), ranked, ranks=2)
    save_case("fp8_ranks", config, ranked, ["fp8/meta_2"])

    linear = {name: w for name, w in base.items() if w.dim() == 2 and name.startswith("layers.")}
    channel = {**base, **{name: files.to_fp8(w.double(), torch.bfloat16) for name, w in linear.items()}}
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
    quantization = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                    "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
    files.write_hugging_face(OUT / "fp8/compressed", hugging_face_config(config, quantization_config=quantization),
                             files.hugging_face_tensors(config, channel, lambda scales: scales[:, None].bfloat16()))
    save_case("fp8_channel", config, channel, ["fp8/compressed"])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for make in (scaled_model, tied_model, llama2_model, wide_model, fp8_models, whole_context_model):
        make()
    (OUT / "cases.json").write_text(json.dumps({
        "made_by": "tools/golden/make_model_goldens.py",
        "token_formula": "token[i] = (7 i i + 13 i + floor(i / 32) + 5) mod vocabulary",
        "cases": CASES}, indent=1) + "\n")


main()
