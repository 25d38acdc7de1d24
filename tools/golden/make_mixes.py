#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/quant/mixes.json: the type that llama.cpp's quantizer gives each tensor, for every named type and several shapes.
Usage: make_mixes.py FOLDER_OF_LLAMA_LIBRARIES OUT.json. The models are GGUF headers over sparse files; the quantizer runs dry."""
import json
import os
import re
import struct
import sys
import tempfile

from llama_library import FILE_TYPES, Llama
from model_files import gguf_pair, gguf_string

F32, F16 = 0, 1
SHAPES = {  # layers, width, heads, key/value heads, feed-forward width, vocabulary, tied
    "1b": (16, 2048, 32, 8, 8192, 128256, True),
    "3b": (28, 3072, 24, 8, 8192, 128256, True),
    "8b": (32, 4096, 32, 8, 14336, 128256, False),
    "70b": (80, 8192, 64, 8, 28672, 128256, False),
    "65b": (80, 8192, 64, 64, 22016, 32000, False),
    "narrow": (9, 288, 6, 6, 768, 512, True),
    "narrow_untied": (5, 288, 6, 3, 800, 512, False),
    "odd": (3, 80, 2, 1, 208, 300, False),
}


def header(shape):
    layers, width, heads, kv_heads, inner, vocabulary, tied = shape
    head = width // heads
    tensors = {"token_embd.weight": [width, vocabulary]}
    for layer in range(layers):
        for name, dims in {"attn_norm": [width], "attn_q": [width, width], "attn_k": [width, kv_heads * head],
                           "attn_v": [width, kv_heads * head], "attn_output": [width, width], "ffn_norm": [width],
                           "ffn_gate": [width, inner], "ffn_up": [width, inner], "ffn_down": [inner, width]}.items():
            tensors[f"blk.{layer}.{name}.weight"] = dims
    tensors["output_norm.weight"] = [width]
    if not tied:
        tensors["output.weight"] = [width, vocabulary]
    metadata = {"general.architecture": "llama", "llama.block_count": layers, "llama.context_length": 2048,
                "llama.embedding_length": width, "llama.feed_forward_length": inner, "llama.attention.head_count": heads,
                "llama.attention.head_count_kv": kv_heads, "llama.attention.layer_norm_rms_epsilon": 1e-5,
                "llama.rope.dimension_count": head, "llama.vocab_size": vocabulary}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    out += b"".join(gguf_pair(key, value) for key, value in metadata.items())
    offset = 0
    for name, dims in tensors.items():
        kind = F32 if len(dims) == 1 else F16
        out += gguf_string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        out += struct.pack("<IQ", kind, offset)
        count = dims[0] * (dims[1] if len(dims) == 2 else 1)
        offset += (count * (4 if kind == F32 else 2) + 31) // 32 * 32
    return out + b"\0" * (-len(out) % 32), offset


def types_of(log):
    """name -> type, from "[ 1/ 147] NAME - [...], type = f16, size = ... (q4_K)"."""
    result = {}
    for line in log.splitlines():
        found = re.search(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\S+), size =.*?(?:\((\w+)\))?$", line)
        if found:
            result[found[1]] = (found[3] or found[2]).lower()
    return result


def collapse(types):
    """Lists by layer; one word where all layers have the same."""
    result = {}
    for name, kind in types.items():
        parts = name.removesuffix(".weight").split(".")
        if parts[0] == "blk":
            result.setdefault(parts[2], {})[int(parts[1])] = kind
        else:
            result[parts[0]] = kind
    for name, layers in result.items():
        if isinstance(layers, dict):
            listed = [layers[i] for i in range(len(layers))]
            result[name] = listed[0] if len(set(listed)) == 1 else " ".join(listed)
    return result


def main():
    llama = Llama(sys.argv[1])
    out = {}
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "skeleton.gguf")
            head, data = header(shape)
            with open(path, "wb") as file:
                file.write(head)
                file.truncate(len(head) + data)
            mixes = {}
            for kind in FILE_TYPES:
                mixes[kind] = collapse(types_of(llama.quantize(path, path + ".out", kind, dry_run=True)))
        keys = ("layers", "width", "heads", "kv_heads", "feed_forward", "vocabulary", "tied")
        out[name] = {"shape": dict(zip(keys, shape)), "types": mixes}
    with open(sys.argv[2], "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
