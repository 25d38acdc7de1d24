# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints as torch.save writes them, for the .pth reader.

usage: make_pth.py OUT_FOLDER
"""
import collections
import pathlib
import sys

import torch


def main():
    out = pathlib.Path(sys.argv[1])
    count = torch.arange(12, dtype=torch.float32)
    torch.save(
        collections.OrderedDict([
            ("f32", count.reshape(3, 4)),
            ("f16", (count / 8).half().reshape(2, 6)),
            ("bf16", (count * 3).bfloat16()),
            ("scalar", torch.tensor(2.5)),
            ("empty", torch.zeros(0, 4)),
        ]), out / "types.pth")

    table = torch.arange(20, dtype=torch.float32).reshape(5, 4)
    torch.save({"head": table, "embedding": table, "rows": table[2:4], "flat": table.reshape(20)[7:]}, out / "tied.pth")

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    for i, parameter in enumerate(model.parameters()):
        parameter.data = torch.arange(parameter.numel(), dtype=torch.float32).reshape(parameter.shape) + 10 * i
    torch.save({"model": model.state_dict(), "step": 7, "rate": 0.5, "note": "text", "done": True, "nothing": None,
                "big": 1 << 40, "more": [torch.ones(2), (torch.zeros(1),)], "parameter": model[0].weight}, out / "nested.pth")

    torch.save({"turned": table.t()}, out / "turned.pth")
    torch.save({"long": torch.arange(3)}, out / "long.pth")
    torch.save({"w": torch.ones(2)}, out / "legacy.pth", _use_new_zipfile_serialization=False)


main()
