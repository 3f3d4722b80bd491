"""What one device holds, streams, multiplies and keeps: of a grid of shapes, or of any model.

d  hidden_size    f  intermediate_size    L  num_hidden_layers    V  vocab_size
t  tensor_parallel
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray

# Any: a float when it is the same for all rows, an array when each row has its own. numpy treats
# both alike, the type checker cannot say so.
Value = Any


class Products(NamedTuple):
    """Matrix products of one precision: FLOPs per token, seconds per FLOP at peak, share of it."""

    flops_per_token: FloatArray
    s_per_flop: Value
    gemm: Value


class Cache(NamedTuple):
    """Caches that keep the same part of a sequence, all layers together, on one device.

    `attended` entries are read per decoded token, `pairs` of a query and an entry per prompt, and
    `held` entries are kept per running sequence.
    """

    read_bytes: FloatArray
    decode_flops: FloatArray
    prompt_flops: FloatArray
    attended: Value
    pairs: Value
    held: Value


class Routed(NamedTuple):
    """Experts on one device, all layers together; `products` are of one token and one expert."""

    bytes: FloatArray
    count: Value
    per_token: Value
    share: Value  # of all pairs of token and expert, those computed on this device
    products: Products


class Device(NamedTuple):
    """One device's share of the model."""

    weight_bytes: FloatArray
    streamed_bytes: FloatArray  # read in every pass, whatever the batch
    products: tuple[Products, ...]
    head: Products
    activation_bytes: FloatArray  # per token, all layers
    widest_bytes: FloatArray  # per token, of the widest layer
    caches: tuple[Cache, ...]
    experts: tuple[Routed, ...]
    state_bytes: FloatArray  # per sequence
    state_flops: FloatArray  # per token
    layers: FloatArray
    sparse_layers: FloatArray
    recurrent_layers: FloatArray
    latent_layers: FloatArray
    block_layers: FloatArray
    reduced_values: FloatArray  # per token, over all all-reduces of a pass
    exchanged_values: FloatArray  # per token of another attention replica, all layers
    reduces: FloatArray  # all-reduces of a pass
    splits: NDArray[np.bool_] | FloatArray
    vocabulary: FloatArray
    kv_bytes_per_token: FloatArray
    # What measurements of this very model, machine and engine say: see `measured_pairs`.
    decode_factor: Value = 1.0
    prefill_factor: Value = 1.0
    wait_factor: Value = 1.0


def round_up(values: FloatArray, multiple: float) -> FloatArray:
    """`values` to the next multiple."""
    rounded: FloatArray = values * (1.0 / multiple)
    np.ceil(rounded, out=rounded)
    rounded *= multiple
    return rounded


class Tiles(NamedTuple):
    """What a product's dimensions are rounded up to before they are computed."""

    columns: float
    inner: float
    rows: float


# Tensor cores compute whole tiles; vector units waste little on any size.
TENSOR_CORE_TILES = Tiles(columns=128.0, inner=64.0, rows=16.0)
VECTOR_TILES = Tiles(columns=16.0, inner=1.0, rows=1.0)
# Engines pad the vocabulary so that every device gets the same whole number of columns.
VOCABULARY_MULTIPLE = 64.0


class Rows(NamedTuple):
    """Dimensions of the shapes, one value per row."""

    hidden_size: FloatArray
    intermediate_size: FloatArray
    num_hidden_layers: FloatArray
    num_attention_heads: FloatArray
    num_key_value_heads: FloatArray
    head_dim: FloatArray
    vocab_size: FloatArray
    num_sliding_layers: FloatArray


class Kind(NamedTuple):
    """What the shapes of a grid have in common, and the formats they are served in."""

    gates: Value
    embedding_copies: Value
    weight_value_bytes: Value
    kv_value_bytes: Value
    s_per_flop: Value  # of products in the weights' format, at peak
    gemm: Value
    wide_s_per_flop: Value  # of products in 16 bits, at peak
    wide_gemm: Value
    attended: Value
    attended_sliding: Value
    pairs: Value
    pairs_sliding: Value
    held: Value
    held_sliding: Value
    slides: bool


def grid_device(rows: Rows, kind: Kind, tiles: Tiles, tensor_parallel: Value) -> Device:
    """One device's share of dense shapes; KV heads are copied beyond `tensor_parallel`."""
    share = 1.0 / tensor_parallel
    d, depth = rows.hidden_size, rows.num_hidden_layers
    f = rows.intermediate_size * share
    queries = rows.num_attention_heads * rows.head_dim * share
    kv_width = np.maximum(rows.num_key_value_heads * share, 1.0) * rows.head_dim
    qkv = queries + 2.0 * kv_width
    splits: FloatArray | np.ndarray = np.ones_like(d)
    vocabulary = rows.vocab_size
    if np.any(tensor_parallel > 1):
        kv = rows.num_key_value_heads
        splits = np.remainder(rows.num_attention_heads, tensor_parallel) == 0
        splits = splits & (
            (np.remainder(kv, tensor_parallel) == 0) | (np.remainder(tensor_parallel, kv) == 0)
        )
        multiple = np.where(tensor_parallel > 1, VOCABULARY_MULTIPLE * tensor_parallel, 1.0)
        vocabulary = np.ceil(rows.vocab_size / multiple) * multiple * share
    head_weights = d * vocabulary
    streamed = (kind.weight_value_bytes * depth) * (d * (qkv + queries + kind.gates * f))
    streamed += 2.0 * head_weights
    d_tiles = round_up(d, tiles.columns)
    columns = round_up(qkv, tiles.columns)
    columns += round_up(queries, tiles.inner)
    columns += kind.gates * round_up(f, tiles.columns)
    activation = 12.0 * d + 6.0 * f + 4.0 * qkv
    read = (2.0 * kind.kv_value_bytes) * kv_width
    pair = 4.0 * queries
    full = depth - rows.num_sliding_layers if kind.slides else depth
    caches = [Cache(full * read, full * pair, full * pair, kind.attended, kind.pairs, kind.held)]
    if kind.slides:
        few = rows.num_sliding_layers
        caches.append(
            Cache(
                few * read, few * pair, few * pair,
                kind.attended_sliding, kind.pairs_sliding, kind.held_sliding,
            )
        )  # fmt: skip
    none = 0.0 * d
    many = (np.asarray(tensor_parallel) > 1) * 1.0
    reduces = (2.0 * many) * depth
    return Device(
        weight_bytes=streamed + (2.0 * (kind.embedding_copies - 1.0)) * head_weights,
        streamed_bytes=streamed,
        products=(Products(2.0 * depth * d_tiles * columns, kind.s_per_flop, kind.gemm),),
        head=Products(2.0 * d_tiles * vocabulary, kind.wide_s_per_flop, kind.wide_gemm),
        activation_bytes=depth * activation,
        widest_bytes=activation,
        caches=tuple(caches),
        experts=(),
        state_bytes=none,
        state_flops=none,
        layers=depth,
        sparse_layers=none,
        recurrent_layers=none,
        latent_layers=none,
        block_layers=none,
        reduced_values=reduces * d * (1.0 - share),
        exchanged_values=none,
        reduces=reduces,
        splits=splits,
        vocabulary=vocabulary,
        kv_bytes_per_token=depth * read,
    )


def one_value(value: float) -> FloatArray:
    """A number as an array of one."""
    return np.array([value])
