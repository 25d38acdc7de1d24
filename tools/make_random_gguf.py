#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a Llama of a known shape with random F16 weights as GGUF, for measuring speed where no real weights are at hand.

usage: make_random_gguf.py OUT.gguf [--shape 1b|3b|8b] [--tokenizer tokenizer.model] [--seed N]
With Llama 3's tokenizer.model the file gets its vocabulary, as llama.cpp's "llama-bpe"; without, it has none, and only token ids go
in and out. `puna quantize` makes the other formats from it. Needs numpy (Debian: python3-numpy).
"""
import argparse
import base64
import struct

import numpy as np

# width, layers, query heads, key/value heads, head width, feed-forward width, whether the output matrix is the embedding's
SHAPES = {"1b": (2048, 16, 32, 8, 64, 8192, True), "3b": (3072, 28, 24, 8, 128, 8192, True), "8b": (4096, 32, 32, 8, 128, 14336, False)}
VOCABULARY, ORDINARY = 128256, 128000
SPECIAL = {0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id", 7: "end_header_id", 8: "eom_id",
           9: "eot_id", 10: "python_tag"}
F32, F16, ALIGNMENT = 0, 1, 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
PACKED = {UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, item):
    return string(item) if kind == STRING else struct.pack(PACKED[kind], item)


def pair(key, kind, item):
    if isinstance(item, list):
        return string(key) + struct.pack("<IIQ", ARRAY, kind, len(item)) + b"".join(value(kind, i) for i in item)
    return string(key) + struct.pack("<I", kind) + value(kind, item)


def byte_letters():
    """GPT-2's printable letter for each byte: itself where it prints, else the next free code point from 256."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def last_merge(token, ranks):
    """The two parts whose union is `token`, found by merging its bytes in order of rank; None where more than two remain."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        if ranks.get(parts[best] + parts[best + 1], len(ranks)) >= ranks[token]:
            return None
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts if len(parts) == 2 else None


def vocabulary(path):
    if path is None:
        return [pair("tokenizer.ggml.model", STRING, "none")]
    with open(path, "rb") as lines:
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line.strip())}
    letters = byte_letters()
    spell = lambda token: "".join(letters[byte] for byte in token)
    tokens = sorted(ranks, key=ranks.get)
    merges = [last_merge(token, ranks) for token in tokens if len(token) > 1]
    special = [f"<|{SPECIAL.get(i, f'reserved_special_token_{i}')}|>" for i in range(VOCABULARY - ORDINARY)]
    return [pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "llama-bpe"),
            pair("tokenizer.ggml.tokens", STRING, [spell(token) for token in tokens] + special),
            pair("tokenizer.ggml.token_type", INT32, [1] * ORDINARY + [3] * len(special)),
            pair("tokenizer.ggml.merges", STRING, [f"{spell(a)} {spell(b)}" for a, b in filter(None, merges)]),
            pair("tokenizer.ggml.bos_token_id", UINT32, ORDINARY), pair("tokenizer.ggml.eos_token_id", UINT32, ORDINARY + 9),
            pair("tokenizer.ggml.add_bos_token", BOOL, True)]


def tensors(shape):
    """Names and dimensions, the innermost first, in the order of the file."""
    width, layers, heads, kv_heads, head_width, forward, tied = shape
    yield "token_embd.weight", (width, VOCABULARY)
    for layer in range(layers):
        for name, dimensions in (("attn_norm", (width,)), ("attn_q", (width, heads * head_width)),
                                 ("attn_k", (width, kv_heads * head_width)), ("attn_v", (width, kv_heads * head_width)),
                                 ("attn_output", (heads * head_width, width)), ("ffn_norm", (width,)), ("ffn_gate", (width, forward)),
                                 ("ffn_up", (width, forward)), ("ffn_down", (forward, width))):
            yield f"blk.{layer}.{name}.weight", dimensions
    yield "output_norm.weight", (width,)
    if not tied:
        yield "output.weight", (width, VOCABULARY)


def metadata(shape, name, tokenizer):
    width, layers, heads, kv_heads, head_width, forward, _ = shape
    return [pair("general.architecture", STRING, "llama"), pair("general.name", STRING, f"random {name}"),
            pair("general.file_type", UINT32, 1), pair("general.quantization_version", UINT32, 2),
            pair("llama.block_count", UINT32, layers), pair("llama.context_length", UINT32, 131072),
            pair("llama.embedding_length", UINT32, width), pair("llama.feed_forward_length", UINT32, forward),
            pair("llama.attention.head_count", UINT32, heads), pair("llama.attention.head_count_kv", UINT32, kv_heads),
            pair("llama.attention.key_length", UINT32, head_width), pair("llama.attention.value_length", UINT32, head_width),
            pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5), pair("llama.rope.freq_base", FLOAT32, 500000.0),
            pair("llama.rope.dimension_count", UINT32, head_width), pair("llama.vocab_size", UINT32, VOCABULARY), *vocabulary(tokenizer)]


def write(out, shape, pairs, seed):
    rows, offset = b"", 0
    listed = list(tensors(shape))
    for name, dimensions in listed:
        kind = F32 if len(dimensions) == 1 else F16
        rows += string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
        size = int(np.prod(dimensions)) * (4 if kind == F32 else 2)
        offset += size + -size % ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(pairs)) + b"".join(pairs) + rows
    out.write(head + bytes(-len(head) % ALIGNMENT))
    random = np.random.Generator(np.random.SFC64(seed))
    for _, dimensions in listed:
        left = int(np.prod(dimensions))
        while left > 0:
            part = random.standard_normal(min(left, 1 << 22), dtype=np.float32) * np.float32(0.02)
            out.write((part + 1 if len(dimensions) == 1 else part.astype("<f2")).tobytes())
            left -= len(part)
        out.write(bytes(-out.tell() % ALIGNMENT))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--tokenizer", help="Llama 3's tokenizer.model")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    with open(arguments.out, "wb") as out:
        write(out, shape, metadata(shape, arguments.shape, arguments.tokenizer), arguments.seed)


if __name__ == "__main__":
    main()
