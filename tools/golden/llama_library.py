# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's shared libraries through ctypes (interface of release v0.5.0): its quantizer, and logits of a GGUF file."""
import ctypes
import glob
import os

FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k_s": 14, "q4_k_m": 15,
              "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18}


class QuantizeParams(ctypes.Structure):
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int), ("output_tensor_type", ctypes.c_int),
                ("token_embedding_type", ctypes.c_int), ("allow_requantize", ctypes.c_bool),
                ("quantize_output_tensor", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
                ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool), ("imatrix", ctypes.c_void_p),
                ("kv_overrides", ctypes.c_void_p), ("tt_overrides", ctypes.c_void_p), ("prune_layers", ctypes.c_void_p),
                ("max_buf_size", ctypes.c_size_t)]


class Llama:
    def __init__(self, folder):
        """folder: where libllama.*.so and the ggml libraries are."""
        for name in ("libggml-base*.so*", "libggml-cpu-haswell.so", "libggml.*so*"):
            for path in sorted(glob.glob(os.path.join(folder, name)))[:1]:
                ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(sorted(glob.glob(os.path.join(folder, "libllama.*so*")))[0], mode=ctypes.RTLD_GLOBAL)
        self.lines = []
        self.callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda level, text, data: self.lines.append(text.decode(errors="replace")))
        self.library.llama_log_set(self.callback, None)
        self.library.llama_model_quantize_default_params.restype = QuantizeParams

    def quantize(self, source, target, type_name, dry_run=False):
        """The log of the run, as one text."""
        self.lines.clear()
        params = self.library.llama_model_quantize_default_params()
        params.nthread, params.ftype, params.dry_run = 1, FILE_TYPES[type_name], dry_run
        status = self.library.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
        log = "".join(self.lines)
        if status != 0:
            raise RuntimeError(log)
        return log
