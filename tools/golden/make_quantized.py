#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/quant/quantized.json: SHA-256 of every tensor that llama.cpp's quantizer writes for small F16 models whose values
follow from a formula, and of the FP8 codes and scales that NumPy computes for them.
Usage: make_quantized.py FOLDER_OF_LLAMA_LIBRARIES OUT.json"""
import hashlib
import json
import os
import struct
import sys
import tempfile

import numpy as np

from llama_library import Llama
from make_mixes import header

MODELS = {  # shape as in make_mixes.py, and the types
    "narrow": ((3, 64, 4, 2, 96, 40, False), ["f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q5_k_m", "q6_k"]),
    "wide": ((2, 256, 2, 1, 512, 24, True), ["q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"]),
}


def values(tensor, count):
    """count F32 values of tensor number `tensor`: cubes of uniform numbers, whose tails are heavier than a weight's."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) + np.uint32(tensor << 20)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    u = (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24) - np.float32(0.5)
    return u * u * u


def read_tensors(path):
    """name -> (type, dims, offset) and the data; the header has no strings longer than the file, so no checks."""
    raw = open(path, "rb").read()
    at = 8

    def take(form):
        nonlocal at
        result = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return result[0] if len(result) == 1 else result

    def string():
        nonlocal at
        size = take("Q")
        at += size
        return raw[at - size : at].decode()

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            inner, count = take("IQ")
            return [value(inner) for _ in range(count)]
        return take({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])

    tensors, pairs = take("QQ")
    for _ in range(pairs):
        string(), value(take("I"))
    table = []
    for _ in range(tensors):
        name = string()
        rank = take("I")
        dims = [take("Q") for _ in range(rank)]
        table.append((name, dims, take("I"), take("Q")))
    start = (at + 31) // 32 * 32
    return table, raw, start


BLOCKS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144),
          13: (256, 176), 14: (256, 210)}


def hashes(path):
    table, raw, start = read_tensors(path)
    result = {}
    for name, dims, kind, offset in table:
        block, size = BLOCKS[kind]
        count = int(np.prod(dims)) // block * size
        result[name] = hashlib.sha256(raw[start + offset : start + offset + count]).hexdigest()[:16]
    return result


def write_source(path, shape):
    head, data = header(shape)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + data)
    table, _, start = read_tensors(path)
    with open(path, "r+b") as file:
        for number, (name, dims, kind, offset) in enumerate(table):
            file.seek(start + offset)
            count = int(np.prod(dims))
            tensor = np.ones(count, np.float32) if kind == 0 else values(number, count).astype(np.float16)
            file.write(tensor.tobytes())
    return table


def e4m3_values():
    codes = np.arange(127)
    fraction, exponent = codes & 7, codes >> 3
    return np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * 2.0 ** (exponent - 10.0))


def fp8(matrix):
    """codes [N, K], scales [N]: nearest code, the even one of two, under the scale absmax / 448; rows of zeros have the scale 1."""
    scales = (np.abs(matrix).max(1) / np.float32(448)).astype(np.float32)
    scales[scales == 0] = 1
    quotient = (matrix / scales[:, None]).astype(np.float32).astype(np.float64)
    distance = np.abs(np.abs(quotient)[:, :, None] - e4m3_values())
    best = distance.min(-1, keepdims=True)
    even = np.where(distance == best, np.arange(127) % 2, 2)  # an even code among the nearest, else the odd one
    codes = even.argmin(-1).astype(np.uint8)
    return codes | (np.signbit(quotient).astype(np.uint8) << 7), scales


def fp8_hashes(table, shape):
    result = {}
    for number, (name, dims, kind, _) in enumerate(table):
        layer = name.split(".")[1] if name.startswith("blk.") else ""
        if ".ffn_" not in name or kind == 0 or layer in ("", "0", str(shape[0] - 1)):
            continue
        matrix = values(number, dims[0] * dims[1]).astype(np.float16).astype(np.float32).reshape(dims[1], dims[0])
        matrix[3] = 0
        codes, scales = fp8(matrix)
        result[name] = [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in (codes, scales)]
    return result


def main():
    llama = Llama(sys.argv[1])
    out = {}
    for model, (shape, kinds) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            source, target = os.path.join(folder, "source.gguf"), os.path.join(folder, "target.gguf")
            table = write_source(source, shape)
            out[model] = {"order": [entry[0] for entry in table], "types": {}}
            for kind in kinds:
                llama.quantize(source, target, kind)
                out[model]["types"][kind] = hashes(target)
            if model == "narrow":
                out[model]["fp8"] = fp8_hashes(table, shape)
    with open(sys.argv[2], "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
