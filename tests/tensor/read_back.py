# SPDX-License-Identifier: Apache-2.0
"""Reads w.pth, w.safetensors and w.npy in a folder with PyTorch, by definition and with NumPy; exits 77 where those are absent.

Every file holds i / 2 - 1 for i in 0..11: `a` F32 [3, 4], `b.c` F16 [12], `d` BF16 [2, 2, 3].
"""
import json
import pathlib
import struct
import sys

try:
    import numpy as np
    import torch
except ImportError:
    sys.exit(77)

folder = pathlib.Path(sys.argv[1])
expected = np.arange(12) * 0.5 - 1
shapes = {"a": (torch.float32, (3, 4)), "b.c": (torch.float16, (12,)), "d": (torch.bfloat16, (2, 2, 3))}

for safe in (False, True):
    state = torch.load(folder / "w.pth", weights_only=safe)
    assert list(state) == list(shapes)
    for name, tensor in state.items():
        assert (tensor.dtype, tuple(tensor.shape)) == shapes[name], name
        assert (tensor.float().numpy().ravel() == expected).all(), name

raw = (folder / "w.safetensors").read_bytes()
length = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + length])
assert header.pop("__metadata__") == {"format": "pt"}
at = 0
for name, kind in (("a", "F32"), ("b.c", "F16"), ("d", "BF16")):
    entry = header.pop(name)
    begin, end = entry["data_offsets"]
    assert (entry["dtype"], tuple(entry["shape"]), begin) == (kind, shapes[name][1], at), name
    data = raw[8 + length + begin:8 + length + end]
    if kind == "BF16":
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(data, np.float32 if kind == "F32" else np.float16)
    assert (values == expected).all(), name
    at = end
assert not header and at == len(raw) - 8 - length

assert (np.load(folder / "w.npy") == expected.reshape(3, 4)).all()
