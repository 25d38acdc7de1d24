# SPDX-License-Identifier: Apache-2.0
"""Seeds for the fuzzers of tensor files: one small well-formed file each, from the golden files and by hand.

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
