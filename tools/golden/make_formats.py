# SPDX-License-Identifier: Apache-2.0
"""Golden values of the quantized formats, from ggml's own encoder and decoder.

usage: make_formats.py LIBGGML_BASE.so OUT_FOLDER
Writes values.f32 (2048 values), and for every format NAME: NAME.encoded (those values as ggml_quantize_chunk writes them),
NAME.blocks (random bits, 512 values) and NAME.decoded (what ggml's to_float makes of them).
"""
import ctypes
import pathlib
import sys

import numpy as np

GGML_TYPES = {"q8_0": 8, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q4_k": 12, "q5_k": 13, "q6_k": 14}


class Traits(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleave", ctypes.c_int64), ("size", ctypes.c_size_t),
                ("quantized", ctypes.c_bool), ("to_float", ctypes.c_void_p), ("from_float", ctypes.c_void_p)]


def values(rng):
    """Eight rows of 256: what weights look like, and what breaks encoders."""
    rows = [
        rng.standard_normal(256) * 0.02,
        rng.standard_t(3, 256) * 0.02,  # heavy tails
        np.where(np.arange(256) % 97 == 5, 40.0, 0.01) * rng.standard_normal(256),  # outliers
        np.repeat([0.0, -0.375, 0.375, 1e-9], 64),  # zeros and constants
        rng.standard_normal(256) * np.repeat([1e-40, 1e-37, 1e-6, 1e4], 64),  # subnormal and large scales
        rng.uniform(3, 4, 256),  # all positive
        -rng.uniform(0, 1, 256),  # all negative
        rng.integers(-8, 8, 256) * 0.125,  # ties
    ]
    return np.concatenate(rows).astype(np.float32)


def main():
    ggml, out = ctypes.CDLL(sys.argv[1]), pathlib.Path(sys.argv[2])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    rng = np.random.default_rng(20240731)
    x = values(rng)
    x.tofile(out / "values.f32")
    for name, kind in GGML_TYPES.items():
        traits = ggml.ggml_get_type_traits(kind).contents
        encoded = np.zeros(x.size // traits.block * traits.size, np.uint8)
        ggml.ggml_quantize_chunk(kind, x.ctypes.data, encoded.ctypes.data, 0, x.size // 256, 256, None)
        encoded.tofile(out / f"{name}.encoded")

        blocks = rng.integers(0, 256, 512 // traits.block * traits.size, dtype=np.uint8)
        decoded = np.zeros(512, np.float32)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(traits.to_float)(
            blocks.ctypes.data, decoded.ctypes.data, 512)
        blocks.tofile(out / f"{name}.blocks")
        decoded.tofile(out / f"{name}.decoded")


main()
