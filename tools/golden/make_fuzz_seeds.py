# SPDX-License-Identifier: Apache-2.0
"""Seeds for the fuzzers of binary files: one small well-formed file each, from the golden files and by hand.

usage: make_fuzz_seeds.py GOLDEN_TENSOR_FOLDER CORPUS_FOLDER
"""
import json
import pathlib
import shutil
import struct
import sys
import zipfile

golden, corpus = map(pathlib.Path, sys.argv[1:3])
shutil.copy(golden / "every_type.gguf", corpus / "gguf")
for name in ("tied", "nested"):
    shutil.copy(golden / f"{name}.pth", corpus / "pth")
    stream = zipfile.ZipFile(golden / f"{name}.pth").read(f"{name}/data.pkl")
    (corpus / "pickle" / f"{name}.pkl").write_bytes(stream)

header = json.dumps({
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [8, 12]},
}).encode()
(corpus / "safetensors" / "two.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(12)))

# Two documents of a teacher that keeps 2 of 300 tokens, and two answers of a reference (src/train/data/teacher_shard.h,
# src/train/reference_log_probs.h).
row = struct.Struct("<2H3e").pack
documents = struct.pack("<3H3B", 1, 7, 9, 0, 1, 1) + row(2, 7, -0.5, -1.5, -3) + row(9, 299, -0.25, -4, -5)
documents += struct.pack("<2H2B", 8, 2, 0, 1) + row(0, 2, -6, -0.125, -2.5)
index = struct.pack("<4Q", 3, 2, 5, 3) + struct.pack("<3Q", 2, 5, 3)
(corpus / "train_files" / "teacher").write_bytes(b"PUNATEAC" + struct.pack("<2I2Q", 1, 2, 300, 2) + documents + index)
answers = struct.pack("<2Qd", 1, 2, -1.5) + struct.pack("<2Qd", 1, 3, -20)
(corpus / "train_files" / "reference").write_bytes(b"PUNAREFS" + struct.pack("<2I", 1, 0) + b"a" * 64 + struct.pack("<Q", 2) + answers)
