# SPDX-License-Identifier: Apache-2.0
"""A small GGUF file as ggml writes it: every value type, an array of each kind, tensors of three formats.

usage: make_gguf.py LIBGGML_BASE.so OUT_FILE
"""
import ctypes
import sys

import numpy as np


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def main():
    ggml = ctypes.CDLL(sys.argv[1])
    for name in ("ggml_init", "gguf_init_empty", "ggml_new_tensor_2d", "ggml_get_data"):
        getattr(ggml, name).restype = ctypes.c_void_p
    ggml.ggml_init.argtypes = [InitParams]
    ggml.ggml_new_tensor_2d.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    file = ctypes.c_void_p(ggml.gguf_init_empty())
    integers = [("u8", 200, ctypes.c_uint8), ("i8", -100, ctypes.c_int8), ("u16", 60000, ctypes.c_uint16),
                ("i16", -30000, ctypes.c_int16), ("u32", 4000000000, ctypes.c_uint32), ("i32", -2000000000, ctypes.c_int32),
                ("u64", 1 << 62, ctypes.c_uint64), ("i64", -(1 << 62), ctypes.c_int64), ("f32", 0.5, ctypes.c_float),
                ("f64", 0.1, ctypes.c_double), ("bool", True, ctypes.c_bool)]
    for name, value, kind in integers:
        getattr(ggml, f"gguf_set_val_{name}")(file, f"test.{name}".encode(), kind(value))
    ggml.gguf_set_val_str(file, b"general.architecture", b"llama")
    words = (ctypes.c_char_p * 3)(b"a", b"", "\u00e9t\u00e9".encode())
    ggml.gguf_set_arr_str(file, b"test.words", words, ctypes.c_size_t(3))
    numbers = np.array([-1, 0, 70000], np.int32)
    ggml.gguf_set_arr_data(file, b"test.numbers", 5, ctypes.c_void_p(numbers.ctypes.data), ctypes.c_size_t(3))
    scores = np.array([0.25, -1e9], np.float32)
    ggml.gguf_set_arr_data(file, b"test.scores", 6, ctypes.c_void_p(scores.ctypes.data), ctypes.c_size_t(2))

    context = ctypes.c_void_p(ggml.ggml_init(InitParams(1 << 20, None, False)))
    ggml.gguf_add_tensor.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    ggml.ggml_set_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    ggml.ggml_get_data.argtypes = [ctypes.c_void_p]
    for name, kind, shape, data in [("plain", 0, (3, 2), np.arange(6, dtype=np.float32)),
                                    ("half", 1, (5, 1), (np.arange(5) / 4).astype(np.float16)),
                                    ("blocks", 8, (32, 2), np.arange(68, dtype=np.uint8))]:
        tensor = ggml.ggml_new_tensor_2d(context, kind, *shape)
        ggml.ggml_set_name(tensor, name.encode())
        ctypes.memmove(ggml.ggml_get_data(tensor), data.ctypes.data, data.nbytes)
        ggml.gguf_add_tensor(file, tensor)
    ggml.gguf_write_to_file.restype = ctypes.c_bool
    assert ggml.gguf_write_to_file(file, sys.argv[2].encode(), ctypes.c_bool(False))


main()
