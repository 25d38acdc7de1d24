# SPDX-License-Identifier: Apache-2.0
"""Writes small Llama checkpoints the way other programs lay them out: Meta folders (one or more model-parallel ranks), Hugging Face
folders, GGUF files. Written from the formats' specifications, independently of Puna's own writers."""
import io
import json
import struct
import zipfile
from collections import OrderedDict

import torch

LAYER_NAMES = {  # Meta: (Hugging Face, GGUF)
    "attention_norm": ("input_layernorm", "attn_norm"),
    "attention.wq": ("self_attn.q_proj", "attn_q"),
    "attention.wk": ("self_attn.k_proj", "attn_k"),
    "attention.wv": ("self_attn.v_proj", "attn_v"),
    "attention.wo": ("self_attn.o_proj", "attn_output"),
    "ffn_norm": ("post_attention_layernorm", "ffn_norm"),
    "feed_forward.w1": ("mlp.gate_proj", "ffn_gate"),
    "feed_forward.w3": ("mlp.up_proj", "ffn_up"),
    "feed_forward.w2": ("mlp.down_proj", "ffn_down"),
}
OUTER_NAMES = {
    "tok_embeddings": ("model.embed_tokens", "token_embd"),
    "norm": ("model.norm", "output_norm"),
    "output": ("lm_head", "output"),
}
ROW_SPLIT = ("wq", "wk", "wv", "w1", "w3", "output", "tok_embeddings")
COLUMN_SPLIT = ("wo", "w2")


class Fp8:
    """An E4M3 matrix: codes [N, K] uint8 and F32 scales [N]."""

    def __init__(self, codes, scales):
        self.codes, self.scales = codes, scales

    def decoded(self):
        return E4M3[self.codes.long()] * self.scales.double()[:, None]


class RankedFp8(Fp8):
    """An FP8 matrix as model-parallel ranks quantize it: each its own part, with its own scales."""

    def __init__(self, ranks, dim):
        self.ranks, self.dim = ranks, dim

    def decoded(self):
        return torch.cat([rank.decoded() for rank in self.ranks], dim=self.dim)


def e4m3_table():
    values = []
    for code in range(256):
        exponent, fraction = code >> 3 & 15, code & 7
        value = fraction * 2.0**-9 if exponent == 0 else (8 + fraction) * 2.0 ** (exponent - 10)
        values.append(float("nan") if code & 127 == 127 else -value if code & 128 else value)
    return torch.tensor(values, dtype=torch.float64)


E4M3 = e4m3_table()


def to_fp8(matrix, scale_dtype=torch.float32):
    """Nearest codes under per-row scales absmax / 448; `matrix` is float64."""
    scales = (matrix.abs().amax(1) / 448).to(scale_dtype).float()
    usable = torch.tensor([c for c in range(256) if c & 127 != 127])
    distance = ((matrix / scales.double()[:, None])[:, :, None] - E4M3[usable]).abs()
    return Fp8(usable[distance.argmin(-1)].to(torch.uint8), scales)


def translate(name, column):
    """A Meta name in Hugging Face's (0) or GGUF's (1) words."""
    parts = name.removesuffix(".weight").split(".")
    if parts[0] != "layers":
        return OUTER_NAMES[parts[0]][column] + ".weight"
    inner = LAYER_NAMES[".".join(parts[2:])][column]
    return (f"model.layers.{parts[1]}.{inner}.weight", f"blk.{parts[1]}.{inner}.weight")[column]


def halves(tensor, heads):
    """Rows of a query or key matrix from Meta's interleaved order to Hugging Face's halves; also for Fp8."""
    if isinstance(tensor, Fp8):
        return Fp8(halves(tensor.codes, heads), halves(tensor.scales[:, None], heads)[:, 0].contiguous())
    rows, width = tensor.shape
    return tensor.view(heads, rows // heads // 2, 2, width).transpose(1, 2).reshape(rows, width).contiguous()


# Meta -------------------------------------------------------------------------------------------------------------------------


def split(name, tensor, ranks, embedding_columns):
    leaf = name.removesuffix(".weight").split(".")[-1]
    if ranks == 1 or leaf not in ROW_SPLIT + COLUMN_SPLIT:
        return [tensor] * ranks
    columns = leaf in COLUMN_SPLIT or (leaf == "tok_embeddings" and embedding_columns)
    return [part.contiguous() for part in torch.chunk(tensor, ranks, dim=1 if columns else 0)]


def write_fp8_pth(path, tensors):
    """What PyTorch 2 saves for float8_e4m3fn: untyped storages and _rebuild_tensor_v3, which this machine's PyTorch lacks."""
    out, storages = io.BytesIO(), []
    put = out.write

    def text(value):
        raw = value.encode()
        put(b"X" + struct.pack("<I", len(raw)) + raw)

    def number(value):
        put(b"J" + struct.pack("<i", value))

    def numbers(values):
        put(b"(")
        for value in values:
            number(value)
        put(b"t")

    put(b"\x80\x02}(")
    for index, (name, tensor) in enumerate(tensors.items()):
        fp8 = tensor.dtype == torch.uint8
        text(name)
        put(b"ctorch._utils\n_rebuild_tensor_v3\n(" if fp8 else b"ctorch._utils\n_rebuild_tensor_v2\n(")
        put(b"(")
        text("storage")
        put(b"ctorch.storage\nUntypedStorage\n" if fp8 else b"ctorch\nBFloat16Storage\n")
        text(str(index))
        text("cpu")
        number(tensor.numel())
        put(b"tQ")
        number(0)
        numbers(tensor.shape)
        numbers(tensor.stride())
        put(b"\x89ccollections\nOrderedDict\n)R")
        put(b"ctorch\nfloat8_e4m3fn\n" if fp8 else b"")
        put(b"tR")
        storages.append(raw_bytes(tensor))
    put(b"u.")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        write = lambda name, data: archive.writestr(zipfile.ZipInfo("archive/" + name, (1980, 1, 1, 0, 0, 0)), data)
        write("data.pkl", out.getvalue())
        write("byteorder", b"little")
        for index, data in enumerate(storages):
            write(f"data/{index}", data)
        write("version", b"3\n")


def write_meta(folder, params, weights, ranks=1, embedding_columns=False, extras=None, module=False):
    """`module`: saved as a module's state_dict, an OrderedDict with metadata, as quantized checkpoints are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    for rank in range(ranks):
        shard, scales = OrderedDict() if module else {}, {}
        if module:
            shard._metadata = OrderedDict({"": {"version": 1}})
        fp8 = any(isinstance(tensor, Fp8) for tensor in weights.values())
        for name, tensor in weights.items():
            if not isinstance(tensor, Fp8):
                shard[name] = split(name, tensor, ranks, embedding_columns)[rank].clone()
                continue
            piece = tensor if ranks == 1 else tensor.ranks[rank]
            parts = name.split(".")
            shard[name] = piece.codes
            scales[f"{parts[1]}_feed_forward.{parts[3]}_{rank}"] = piece.scales
        shard.update(extras or {})
        path = folder / f"consolidated.{rank:02}.pth"
        write_fp8_pth(path, shard) if fp8 else torch.save(shard, path)
        if scales:
            torch.save(scales, folder / f"fp8_scales_{rank}.pt")


# Hugging Face -----------------------------------------------------------------------------------------------------------------

SAFETENSORS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "F8_E4M3"}


def raw_bytes(tensor):
    view = tensor.contiguous().view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor.contiguous()
    return view.numpy().tobytes()


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        raw = raw_bytes(tensor)
        header[name] = {"dtype": SAFETENSORS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def hugging_face_tensors(config, weights, scale_shape=None):
    tensors = {}
    for name, tensor in weights.items():
        if name.endswith(("wq.weight", "wk.weight")):
            tensor = halves(tensor, config.n_heads if name.endswith("wq.weight") else config.n_kv_heads)
        name = translate(name, 0)
        if isinstance(tensor, Fp8):
            tensors[name] = tensor.codes
            tensors[name + "_scale"] = scale_shape(tensor.scales)
        else:
            tensors[name] = tensor
    return tensors


def write_hugging_face(folder, config_json, tensors, shards=1):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names, place = list(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        write_safetensors(folder / file, {name: tensors[name] for name in part})
        place.update({name: file for name in part})
    index = {"metadata": {"total_size": sum(len(raw_bytes(t)) for t in tensors.values())}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


# GGUF -------------------------------------------------------------------------------------------------------------------------

GGML = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}


def gguf_string(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_pair(key, value):
    if isinstance(value, str):
        kind, raw = 8, gguf_string(value)
    elif isinstance(value, float):
        kind, raw = 6, struct.pack("<f", value)
    else:
        kind, raw = 4, struct.pack("<I", value)
    return gguf_string(key) + struct.pack("<I", kind) + raw


def write_gguf(path, metadata, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    out += b"".join(gguf_pair(key, value) for key, value in metadata.items())
    data = b""
    for name, tensor in tensors.items():
        dims = list(tensor.shape)[::-1]
        out += gguf_string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        out += struct.pack("<IQ", GGML[tensor.dtype], len(data))
        data += raw_bytes(tensor) + b"\0" * (-len(raw_bytes(tensor)) % 32)
    path.write_bytes(out + b"\0" * (-len(out) % 32) + data)


def gguf_tensors(weights):
    """Meta's row order is GGUF's; norms are stored as F32, as llama.cpp's converter does."""
    return {translate(name, 1): tensor.float() if tensor.dim() == 1 else tensor for name, tensor in weights.items()}
