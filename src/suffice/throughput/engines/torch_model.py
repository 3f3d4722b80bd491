"""A Llama-equal decoder of any shape, with a static KV cache: weights, prefill, one decode step.

    B  sequences     T  prompt tokens     H, KV  query and key/value heads     D  head_dim
    d  hidden_size   f  intermediate_size   C  capacity of the cache in tokens

Rotary positions use the plain base frequency: scaling of long contexts changes values, not cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from suffice.architecture.shape import Shape
from suffice.core.errors import UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One layer; query, key and value are one matrix, gate and up another."""

    input_norm: Tensor  # [d]
    qkv: Tensor  # [(H + 2 KV) D, d]
    q_norm: Tensor | None  # [D]
    k_norm: Tensor | None  # [D]
    output: Tensor  # [d, H D]
    mlp_norm: Tensor  # [d]
    gate_up: Tensor  # [2 f, d]
    down: Tensor  # [d, f]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """All weights of a shape; `head` is `embedding` itself when they are tied."""

    embedding: Tensor  # [V, d]
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor  # [d]
    head: Tensor  # [V, d]

    @property
    def bytes(self) -> int:
        """Bytes held on the device, a tied matrix counted once."""
        tensors = [self.embedding, self.final_norm]
        tensors += [] if self.head is self.embedding else [self.head]
        for layer in self.layers:
            tensors += [
                t for name in LayerWeights.__slots__ if (t := getattr(layer, name)) is not None
            ]
        return sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """Keys and values of every layer, contiguous: [L, B, KV, C, D] each."""

    keys: Tensor
    values: Tensor

    @property
    def capacity(self) -> int:
        """C, tokens that one sequence may hold."""
        return int(self.keys.shape[3])

    @staticmethod
    def bytes_for(shape: Shape, batch: int, capacity: int, element_bytes: int) -> int:
        """Bytes of a cache for `batch` sequences of `capacity` tokens."""
        per_token = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
        return per_token * batch * capacity * element_bytes

    @classmethod
    def view(cls, arena: Tensor, shape: Shape, batch: int, capacity: int) -> KvCache:
        """A cache laid over the start of `arena`, a flat tensor of the model's dtype."""
        size = (shape.num_hidden_layers, batch, shape.num_key_value_heads, capacity, shape.head_dim)
        half = math.prod(size)
        return cls(keys=arena[:half].view(size), values=arena[half : 2 * half].view(size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights and constants that a step needs besides the cache."""

    shape: Shape
    weights: Weights
    cos: Tensor  # [C, D/2], float32
    sin: Tensor
    eps: float


def check_supported(shape: Shape) -> None:
    """Raise UnsupportedModel if the torch engine lacks something that `shape` has."""
    lacking = {
        "an ungated MLP": not shape.gated_mlp,
        "biases": shape.qkv_bias or shape.o_bias or shape.mlp_bias or shape.lm_head_bias,
        "norms other than two RMS norms per layer": shape.norms_per_layer != 2 or shape.norm_bias,
        "query and key norms over the whole projection": shape.qk_norm == "full",
        "sliding-window layers": shape.num_sliding_layers > 0,
        f"head_dim {shape.head_dim} (no power of two from 16 to 256)": (
            shape.head_dim not in (16, 32, 64, 128, 256)
        ),
    }
    found = [name for name, present in lacking.items() if present]
    if found:
        raise UnsupportedModel(
            f"the torch engine does not run {shape.model_type} shapes with {' and '.join(found)}; "
            "use --engine vllm, or a Llama, Mistral or Qwen3 shape"
        )


def random_weights(shape: Shape, *, device: torch.device, dtype: torch.dtype, seed: int) -> Weights:
    """Normal weights of standard deviation .02, drawn on the device; norms are 1 plus noise."""
    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.empty(size, device=device, dtype=dtype).normal_(0, 0.02, generator=generator)

    d, f, D = shape.hidden_size, shape.intermediate_size, shape.head_dim
    H, KV = shape.num_attention_heads, shape.num_key_value_heads
    embedding = normal(shape.vocab_size, d)
    layers = tuple(
        LayerWeights(
            input_norm=1 + normal(d),
            qkv=normal((H + 2 * KV) * D, d),
            q_norm=1 + normal(D) if shape.qk_norm == "head" else None,
            k_norm=1 + normal(D) if shape.qk_norm == "head" else None,
            output=normal(d, H * D),
            mlp_norm=1 + normal(d),
            gate_up=normal(2 * f, d),
            down=normal(d, f),
        )
        for _ in range(shape.num_hidden_layers)
    )
    head = embedding if shape.tie_word_embeddings else normal(shape.vocab_size, d)
    return Weights(embedding=embedding, layers=layers, final_norm=1 + normal(d), head=head)


def build_model(shape: Shape, weights: Weights, *, capacity: int) -> Model:
    """The model of `weights`, with rotary tables for `capacity` positions."""
    device = weights.embedding.device
    base = float(shape.config.get("rope_theta", 10_000.0))
    exponent = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=device)
    frequency = base ** (-exponent / shape.head_dim)
    angle = torch.outer(torch.arange(capacity, dtype=torch.float32, device=device), frequency)
    eps = float(shape.config.get("rms_norm_eps", 1e-6))
    return Model(shape=shape, weights=weights, cos=angle.cos(), sin=angle.sin(), eps=eps)


class TorchOps:
    """The operations of a decoder in plain torch: the reference, and what runs without Triton."""

    def norm(self, x: Tensor, norm: Tensor, eps: float) -> Tensor:
        """RMSNorm of the last dimension, in float32."""
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return norm * scaled.to(x.dtype)

    def norm_linear(self, x: Tensor, norm: Tensor, w: Tensor, eps: float) -> Tensor:
        """W · RMSNorm(x)."""
        return F.linear(self.norm(x, norm, eps), w)

    def norm_gated(self, x: Tensor, norm: Tensor, w: Tensor, eps: float) -> Tensor:
        """SiLU(gate) · up, from W · RMSNorm(x)."""
        return self.silu_mul(F.linear(self.norm(x, norm, eps), w))

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """SiLU of the first half of the last dimension times the second."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def add_linear(self, residual: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """Residual + W · x, in place."""
        return residual.add_(F.linear(x, w))

    def attend(
        self, qkv: Tensor, cache: KvCache, index: int, positions: Tensor, model: Model
    ) -> Tensor:
        """Attention of one new token per sequence; appends its key and value. [B, H D]."""
        batch = qkv.shape[0]
        q, k, v = _split_heads(qkv, model.shape)
        layer = model.weights.layers[index]
        cos, sin = model.cos[positions.long()], model.sin[positions.long()]
        q = _rotate(_head_norm(q, layer.q_norm, model.eps), cos, sin)
        k = _rotate(_head_norm(k, layer.k_norm, model.eps), cos, sin)
        rows = torch.arange(batch, device=qkv.device)
        cache.keys[index, rows, :, positions.long()] = k
        cache.values[index, rows, :, positions.long()] = v
        # On a CPU the host knows how much is cached; a captured step must read all of the cache.
        seen = int(positions.max()) + 1 if qkv.device.type == "cpu" else cache.capacity
        visible = torch.arange(seen, device=qkv.device) <= positions[:, None]
        # The query heads of one KV head stand as its rows, so that no KV head is copied.
        out = F.scaled_dot_product_attention(
            q.unflatten(1, (model.shape.num_key_value_heads, -1)),
            cache.keys[index, :, :, :seen],
            cache.values[index, :, :, :seen],
            attn_mask=visible[:, None, None],
        )
        return out.reshape(batch, -1)

    def rotate_and_cache(
        self, qkv: Tensor, cache: KvCache, index: int, *, rows: slice, prompt: int, model: Model
    ) -> Tensor:
        """Queries [B, H, T, D] with rotary positions; keys and values go into rows of the cache."""
        q, k, v = _split_heads(qkv, model.shape)
        layer = model.weights.layers[index]
        batch = qkv.shape[0] // prompt
        cos, sin = model.cos[:prompt].repeat(batch, 1), model.sin[:prompt].repeat(batch, 1)
        q = _rotate(_head_norm(q, layer.q_norm, model.eps), cos, sin)
        k = _rotate(_head_norm(k, layer.k_norm, model.eps), cos, sin)
        cache.keys[index, rows, :, :prompt] = k.unflatten(0, (batch, prompt)).transpose(1, 2)
        cache.values[index, rows, :, :prompt] = v.unflatten(0, (batch, prompt)).transpose(1, 2)
        return q.unflatten(0, (batch, prompt)).transpose(1, 2)

    def advance(
        self, logits: Tensor, tokens: Tensor, positions: Tensor, x: Tensor, w: Weights
    ) -> None:
        """Greedy next token, its embedding into `x`, and one more position, all in place."""
        tokens.copy_(logits.argmax(-1))
        positions.add_(1)
        x.copy_(w.embedding[tokens])


def decode_logits(
    model: Model, ops: TorchOps, cache: KvCache, x: Tensor, positions: Tensor
) -> Tensor:
    """Logits [B, V] of the token whose embedding is `x` [B, d]; `x` is overwritten."""
    weights, eps = model.weights, model.eps
    for index, layer in enumerate(weights.layers):
        qkv = ops.norm_linear(x, layer.input_norm, layer.qkv, eps)
        mixed = ops.attend(qkv, cache, index, positions, model)
        x = ops.add_linear(x, mixed, layer.output)
        wide = ops.norm_gated(x, layer.mlp_norm, layer.gate_up, eps)
        x = ops.add_linear(x, wide, layer.down)
    return ops.norm_linear(x, weights.final_norm, weights.head, eps)


def prefill_logits(
    model: Model, ops: TorchOps, cache: KvCache, prompts: Tensor, *, chunk_tokens: int
) -> Tensor:
    """Logits [B, V] of the last token of `prompts` [B, T]; fills the cache.

    Whole prompts are taken together while they hold no more than `chunk_tokens` tokens.
    """
    batch, prompt = prompts.shape
    together = max(1, chunk_tokens // prompt)
    return torch.cat(
        [
            _prefill_chunk(model, ops, cache, prompts[at : at + together], at)
            for at in range(0, batch, together)
        ]
    )


def _prefill_chunk(
    model: Model, ops: TorchOps, cache: KvCache, prompts: Tensor, first: int
) -> Tensor:
    batch, prompt = prompts.shape
    rows = slice(first, first + batch)
    weights, eps = model.weights, model.eps
    x = weights.embedding[prompts.reshape(-1)]
    for index, layer in enumerate(weights.layers):
        qkv = F.linear(ops.norm(x, layer.input_norm, eps), layer.qkv)
        q = ops.rotate_and_cache(qkv, cache, index, rows=rows, prompt=prompt, model=model)
        mixed = F.scaled_dot_product_attention(
            q,
            cache.keys[index, rows, :, :prompt],
            cache.values[index, rows, :, :prompt],
            is_causal=True,
            enable_gqa=True,
        )
        mixed = mixed.transpose(1, 2).reshape(batch * prompt, -1)
        x = x.addmm_(mixed, layer.output.T)
        gate_up = F.linear(ops.norm(x, layer.mlp_norm, eps), layer.gate_up)
        x = x.addmm_(ops.silu_mul(gate_up), layer.down.T)
    last = x.view(batch, prompt, -1)[:, -1]
    return F.linear(ops.norm(last, weights.final_norm, eps), weights.head)


def _split_heads(qkv: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    heads = (shape.num_attention_heads, shape.num_key_value_heads, shape.num_key_value_heads)
    q, k, v = qkv.unflatten(-1, (-1, shape.head_dim)).split(heads, dim=-2)
    return q, k, v


def _head_norm(x: Tensor, norm: Tensor | None, eps: float) -> Tensor:
    return x if norm is None else TorchOps().norm(x, norm, eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (i, i + D/2) of x [rows, heads, D] by the angles of [rows, D/2]."""
    low, high = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1).to(x.dtype)
