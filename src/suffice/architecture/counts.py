"""Exact parameter counts, FLOPs and bytes of a shape, each from one list of matrices.

Every function takes a `Shape` (integers in, integers out) or a `ShapeGrid` (float64 arrays in and
out, exact up to 2**53), so that the search counts exactly what a single shape counts.

    d  hidden_size     f    intermediate_size   L  num_hidden_layers   V  vocab_size
    d_q  heads * head_dim      d_kv  KV heads * head_dim               T  KV length, tokens
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.shape import QkNorm, Shape
from suffice.core.arrays import FloatArray

T = TypeVar("T", int, FloatArray)
T_co = TypeVar("T_co", int, FloatArray, covariant=True)

# How many of the two attention matmuls (QK^T and PV), and how much of the causal triangle, a FLOP
# count includes. One model has six such counts in the wild, so the choice travels with the number.
FlopConvention = Literal["matmul", "paper"]
KvDtype = Literal["bf16", "fp16", "fp8", "int8", "int4"]
WeightDtype = Literal["bf16", "fp16", "fp8", "int8", "fp4", "mxfp4", "int4"]

BYTES_PER_VALUE: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
}
# int4 weights carry one fp16 scale and zero point per group of 128 (GPTQ, AWQ): 4.25 bits.
INT4_WEIGHT_BYTES = 0.5 + 4.0 / 128
# fp4 weights (NVFP4) carry one fp8 scale per group of 16: 4.5 bits. MXFP4 has one per 32.
FP4_WEIGHT_BYTES = 0.5 + 1.0 / 16
MXFP4_WEIGHT_BYTES = 0.5 + 1.0 / 32
WEIGHT_VALUE_BYTES: dict[WeightDtype, float] = {
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": FP4_WEIGHT_BYTES,
    "mxfp4": MXFP4_WEIGHT_BYTES,
    "int4": INT4_WEIGHT_BYTES,
}


class Dimensions(Protocol[T_co]):
    """Anything with the dimensions of a decoder: one shape, or arrays of them."""

    @property
    def hidden_size(self) -> T_co: ...
    @property
    def intermediate_size(self) -> T_co: ...
    @property
    def num_hidden_layers(self) -> T_co: ...
    @property
    def num_attention_heads(self) -> T_co: ...
    @property
    def num_key_value_heads(self) -> T_co: ...
    @property
    def head_dim(self) -> T_co: ...
    @property
    def vocab_size(self) -> T_co: ...
    @property
    def num_sliding_layers(self) -> T_co: ...
    @property
    def tie_word_embeddings(self) -> bool: ...
    @property
    def gated_mlp(self) -> bool: ...
    @property
    def qkv_bias(self) -> bool: ...
    @property
    def o_bias(self) -> bool: ...
    @property
    def mlp_bias(self) -> bool: ...
    @property
    def lm_head_bias(self) -> bool: ...
    @property
    def qk_norm(self) -> QkNorm: ...
    @property
    def norms_per_layer(self) -> int: ...
    @property
    def norm_bias(self) -> bool: ...
    @property
    def sliding_window(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeGrid:
    """Many shapes of one family, one float64 array per dimension that varies."""

    hidden_size: FloatArray
    intermediate_size: FloatArray
    num_hidden_layers: FloatArray
    num_attention_heads: FloatArray
    num_key_value_heads: FloatArray
    head_dim: FloatArray
    vocab_size: FloatArray
    num_sliding_layers: FloatArray
    tie_word_embeddings: bool = True
    gated_mlp: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    qk_norm: QkNorm = "none"
    norms_per_layer: int = 2
    norm_bias: bool = False
    sliding_window: int | None = None

    @classmethod
    def like(cls, shape: Shape, **dimensions: Any) -> ShapeGrid:
        """Shapes of `shape`'s family; `dimensions` not given are `shape`'s own, broadcast."""
        varying = [f.name for f in fields(cls) if f.type == "FloatArray"]
        columns = [
            np.asarray(dimensions.get(name, getattr(shape, name)), dtype=np.float64)
            for name in varying
        ]
        arrays = np.broadcast_arrays(*np.atleast_1d(*columns))
        values: dict[str, Any] = {f.name: getattr(shape, f.name) for f in fields(cls)}
        return cls(**{**values, **dict(zip(varying, arrays, strict=True))})

    def __len__(self) -> int:
        return int(self.hidden_size.shape[0])

    def take(self, rows: NDArray[np.intp] | slice) -> ShapeGrid:
        """The shapes at `rows`."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {k: v[rows] for k, v in values.items() if isinstance(v, np.ndarray)}
        return replace(self, **taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Parameters by part; `total` equals what transformers counts (tied weights once)."""

    embedding: int
    attention: int
    mlp: int
    norms: int
    biases: int
    lm_head: int

    @property
    def total(self) -> int:
        """All parameters, a tied output matrix counted once."""
        return self.embedding + self.attention + self.mlp + self.norms + self.biases + self.lm_head

    @property
    def non_embedding(self) -> int:
        """N of arXiv:2510.18245: attention and MLP matrices, no norms, biases or embeddings."""
        return self.attention + self.mlp


def query_width(shape: Dimensions[T]) -> T:
    """d_q, width of the query projection."""
    return shape.num_attention_heads * shape.head_dim


def key_value_width(shape: Dimensions[T]) -> T:
    """d_kv, width of the key projection and of the value projection."""
    return shape.num_key_value_heads * shape.head_dim


def attention_parameters_per_layer(shape: Dimensions[T]) -> T:
    """Weights of the q, k, v and o projections of one layer: 2 d d_q + 2 d d_kv."""
    return 2 * shape.hidden_size * (query_width(shape) + key_value_width(shape))


def mlp_parameters_per_layer(shape: Dimensions[T]) -> T:
    """Weights of one layer's MLP: 3 d f when gated, 2 d f when not."""
    return (3 if shape.gated_mlp else 2) * shape.hidden_size * shape.intermediate_size


def non_embedding_parameters(shape: Dimensions[T]) -> T:
    """N, attention and MLP weights of all layers.

    Reference: arXiv:2510.18245, section 3: N = L (2 d d_q + 2 d d_kv + 3 d f).
    """
    return shape.num_hidden_layers * (
        attention_parameters_per_layer(shape) + mlp_parameters_per_layer(shape)
    )


def lm_head_parameters(shape: Dimensions[T]) -> T:
    """Weights of the output matrix that a decoded token is multiplied with, tied or not: d V."""
    return shape.hidden_size * shape.vocab_size


def mlp_to_attention_ratio(shape: Dimensions[T]) -> float | FloatArray:
    """r, MLP weights over attention weights of one layer.

    Reference: arXiv:2510.18245, section 3. The text's d^2 ∝ N r/(r+1) must read N/(r+1).
    """
    return mlp_parameters_per_layer(shape) / attention_parameters_per_layer(shape)


def aspect(shape: Dimensions[T]) -> float | FloatArray:
    """x = d / sqrt(N), hidden size over the root of the non-embedding parameters."""
    ratio = shape.hidden_size / np.sqrt(non_embedding_parameters(shape))
    return ratio if isinstance(ratio, np.ndarray) else float(ratio)


def parameter_counts(shape: Shape) -> ParameterCounts:
    """Parameters by part, exact."""
    d, depth = shape.hidden_size, shape.num_hidden_layers
    d_q, d_kv = query_width(shape), key_value_width(shape)
    norm = d * (2 if shape.norm_bias else 1)
    qk_norm = {"none": 0, "head": 2 * shape.head_dim, "full": d_q + d_kv}[shape.qk_norm]
    mlp_bias = ((2 if shape.gated_mlp else 1) * shape.intermediate_size + d) * shape.mlp_bias
    bias = (d_q + 2 * d_kv) * shape.qkv_bias + d * shape.o_bias + mlp_bias
    tied = shape.tie_word_embeddings
    return ParameterCounts(
        embedding=shape.vocab_size * d,
        attention=depth * attention_parameters_per_layer(shape),
        mlp=depth * mlp_parameters_per_layer(shape),
        norms=depth * (shape.norms_per_layer * norm + qk_norm) + norm,
        biases=depth * bias + shape.vocab_size * shape.lm_head_bias,
        lm_head=0 if tied else lm_head_parameters(shape),
    )


def attended_tokens(shape: Dimensions[T], context: T) -> T:
    """Σ over layers of the KV entries one decoded token attends to, at KV length `context`.

    L T for full attention; a sliding layer sees at most its window.
    """
    if shape.sliding_window is None:
        return shape.num_hidden_layers * context
    beyond = _positive_part(context - shape.sliding_window)
    return shape.num_hidden_layers * context - shape.num_sliding_layers * beyond


def decode_flops(
    shape: Dimensions[T], context: T, convention: FlopConvention, *, lm_head: bool
) -> T:
    """FLOPs to decode one token at KV length `context` (multiply and add count two).

    "matmul": 2N + 4 L T d_q, both attention matmuls. "paper": 2N + 2 L T d_q, as
    arXiv:2510.18245, appendix K, prints it. `lm_head` adds 2 d V.
    """
    factor = 4 if convention == "matmul" else 2
    attention = factor * attended_tokens(shape, context) * query_width(shape)
    head = 2 * lm_head_parameters(shape) if lm_head else 0 * shape.hidden_size
    return 2 * non_embedding_parameters(shape) + attention + head


def prefill_flops(shape: Dimensions[T], prompt: T, convention: FlopConvention) -> T:
    """FLOPs to prefill `prompt` tokens, causal, with logits for the last token only.

    Token i attends to i entries: Σ i = T (T + 1) / 2 per layer, less beyond a sliding window.
    """
    factor = 4 if convention == "matmul" else 2
    pairs = shape.num_hidden_layers * (prompt * (prompt + 1) // 2)
    if shape.sliding_window is not None:
        beyond = _positive_part(prompt - shape.sliding_window)
        pairs = pairs - shape.num_sliding_layers * (beyond * (beyond + 1) // 2)
    body = 2 * non_embedding_parameters(shape) * prompt
    return body + factor * pairs * query_width(shape) + 2 * lm_head_parameters(shape)


def kv_cache_bytes_per_token(shape: Dimensions[T], dtype: KvDtype) -> float | FloatArray:
    """Bytes that one token adds to the KV cache: 2 b L d_kv, before any sliding window fills."""
    return 2 * BYTES_PER_VALUE[dtype] * shape.num_hidden_layers * key_value_width(shape)


def kv_cache_bytes(shape: Dimensions[T], context: T, dtype: KvDtype) -> float | FloatArray:
    """Bytes of KV cache that one sequence of `context` tokens holds."""
    return 2 * BYTES_PER_VALUE[dtype] * attended_tokens(shape, context) * key_value_width(shape)


def weight_bytes(shape: Dimensions[T], dtype: WeightDtype) -> float | FloatArray:
    """Bytes of all weights as a server holds them: matrices in `dtype`, embeddings in 16 bits.

    Norms and biases (under .1 % of a model) are left out. Quantisers leave embeddings and the
    output matrix at 16 bits, and so does this count.
    """
    per_value = WEIGHT_VALUE_BYTES[dtype]
    copies = 1 if shape.tie_word_embeddings else 2
    return per_value * non_embedding_parameters(shape) + 2.0 * copies * lm_head_parameters(shape)


def _positive_part(value: T) -> T:
    return value * (value > 0)
