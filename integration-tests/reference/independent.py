"""A second opinion on transformers: the same file, dequantised and run by the few lines below in f64.

Nothing here comes from transformers or from the `gguf` package's own dequantisation; only the file's index is
read with `gguf`. RoPE works on adjacent pairs, as the rows of a `llama` GGUF file are stored.
"""

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader


class Model:
    def __init__(self, path):
        reader = GGUFReader(path)
        number = lambda key: reader.fields[f"llama.{key}"].contents()
        self.layers = number("block_count")
        self.heads, self.kv_heads = number("attention.head_count"), number("attention.head_count_kv")
        self.eps = float(number("attention.layer_norm_rms_epsilon"))
        self.theta = float(number("rope.freq_base"))
        self.tensors = {tensor.name: dequantise(tensor) for tensor in reader.tensors}
        self.head_dim = self.tensors["blk.0.attn_q.weight"].shape[0] // self.heads

    def logits(self, ids, dtype=np.float64):
        """`[len(ids), vocabulary]`."""
        weight = lambda name: self.tensors[f"{name}.weight"].astype(dtype)
        x = weight("token_embd")[np.asarray(ids)]
        for layer in range(self.layers):
            part = lambda name, layer=layer: weight(f"blk.{layer}.{name}")
            y = self.norm(x, part("attn_norm"))
            q = self.rope(self.split(y @ part("attn_q").T, self.heads))
            k = self.rope(self.split(y @ part("attn_k").T, self.kv_heads))
            v = self.split(y @ part("attn_v").T, self.kv_heads)
            x = x + self.attention(q, k, v) @ part("attn_output").T
            y = self.norm(x, part("ffn_norm"))
            gate = y @ part("ffn_gate").T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ part("ffn_up").T)) @ part("ffn_down").T
        return self.norm(x, weight("output_norm")) @ weight("token_embd").T

    def norm(self, x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * weight

    def split(self, x, heads):
        """`[heads, tokens, head_dim]`."""
        return x.reshape(len(x), heads, self.head_dim).transpose(1, 0, 2)

    def rope(self, x):
        frequencies = self.theta ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = np.outer(np.arange(x.shape[1]), frequencies)
        cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def attention(self, q, k, v):
        share = self.heads // self.kv_heads
        k, v = k.repeat(share, axis=0), v.repeat(share, axis=0)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(self.head_dim).astype(q.dtype)
        future = np.triu(np.ones(scores.shape[1:], dtype=bool), 1)
        scores = np.where(future, -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ v).transpose(1, 0, 2).reshape(q.shape[1], -1)


def dequantise(tensor):
    """The tensor in f32, `[rows, columns]` for matrices."""
    shape = [int(n) for n in reversed(tensor.shape)]
    raw = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1)
    return BLOCKS[tensor.tensor_type](raw).reshape(shape)


def f32(raw):
    return raw.view(np.float32)


def q8_0(raw):
    """Blocks of 34 bytes: scale (f16), 32 signed bytes."""
    blocks = raw.reshape(-1, 34)
    return half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def q4_1(raw):
    """Blocks of 20 bytes: scale (f16), minimum (f16), 16 bytes with values j (low half) and j + 16 (high half)."""
    blocks = raw.reshape(-1, 20)
    packed = blocks[:, 4:]
    values = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    return half(blocks, 0) * values + half(blocks, 2)


def half(blocks, at):
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


BLOCKS = {Kind.F32: f32, Kind.Q8_0: q8_0, Kind.Q4_1: q4_1}


def unpermuted(rows, heads):
    """Rows of q or k in the order that half-split RoPE wants: first all even rows of a head, then all odd ones."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).transpose(0, 2, 1, 3).reshape(rows.shape)
