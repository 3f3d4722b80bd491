"""Every hardware-friendly shape of a given size, by vectorised enumeration."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.counts import (
    ShapeGrid,
    aspect,
    attention_parameters_per_layer,
    mlp_to_attention_ratio,
    non_embedding_parameters,
    query_width,
)
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, NothingFeasible

# Largest GQA for which arXiv:2510.18245 trained a pair at that size: (N, query heads per KV head).
# Surefire-1B 36/4 and Surefire-3B 42/6. Beyond it the published law is silent.
PUBLISHED_GQA = ((9.65e8, 9), (2.82e9, 7))
# Families whose config transformers refuses when hidden_size is no multiple of the heads.
_NEEDS_DIVISIBLE_HIDDEN = frozenset({"gemma2", "gemma3_text"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Which shapes a search looks at.

    `parameters` is N (non-embedding), met within `parameter_tolerance` (relative). Ranges are
    inclusive. `hidden_multiple` and `mlp_multiple` keep every matrix on tensor-core tiles;
    `tensor_parallel` demands that heads and MLP divide among that many devices. No `depths` keep
    the reference's. `attention_width_range` bounds d_q / d: open models lie between .76 (Gemma 3
    27B) and 2.0 (Qwen3-0.6B), and no law here has seen narrower attention.
    """

    parameters: float
    parameter_tolerance: float = 0.01
    hidden_multiple: int = 128
    mlp_multiple: int = 256
    x_range: tuple[float, float] = (0.03, 0.12)
    r_range: tuple[float, float] = (0.5, 5.0)
    gqa_range: tuple[int, int] = (1, 9)
    attention_width_range: tuple[float, float] = (0.75, 2.0)
    head_dims: tuple[int, ...] = (64,)
    depths: tuple[int, ...] = ()
    key_value_multiple: int = 1
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        if not self.parameters > 0 or not math.isfinite(self.parameters):
            raise InputError(f"parameters must be positive, got {self.parameters}")
        if not 0 <= self.parameter_tolerance < 0.5:
            raise InputError(
                f"the parameter tolerance must lie in [0, 0.5), got {self.parameter_tolerance}"
            )
        for name, (low, high) in (
            ("x range", self.x_range),
            ("r range", self.r_range),
            ("GQA range", self.gqa_range),
            ("attention width range", self.attention_width_range),
        ):
            if not 0 < low <= high:
                raise InputError(f"the {name} must be positive and increasing, got {low}..{high}")
        multiples = (self.hidden_multiple, self.mlp_multiple, self.key_value_multiple)
        if min(*multiples, self.tensor_parallel, *self.head_dims, *self.depths) < 1:
            raise InputError("multiples, head sizes, depths and degrees must be at least 1")

    @classmethod
    def around(cls, reference: Shape, **changes: object) -> Lattice:
        """The default lattice for shapes of `reference`'s size: where published evidence exists."""
        size = non_embedding_parameters(reference)
        gqa = min(PUBLISHED_GQA, key=lambda pair: abs(math.log(pair[0] / size)))[1]
        defaults: dict[str, object] = {
            "parameters": float(size),
            "gqa_range": (1, max(gqa, reference.gqa)),
            "head_dims": (reference.head_dim,),
            "depths": (reference.num_hidden_layers,),
            # Small models sit on a finer grid: 128 of 512 would be a quarter of the width.
            "hidden_multiple": 128 if reference.hidden_size >= 1024 else 32,
            "mlp_multiple": 256 if reference.hidden_size >= 1024 else 64,
            # Even KV heads keep a model of this size divisible between two devices.
            "key_value_multiple": 2 if reference.num_key_value_heads >= 4 else 1,
        }
        return cls(**{**defaults, **changes})  # type: ignore[arg-type]


def enumerate_lattice(reference: Shape, lattice: Lattice) -> ShapeGrid:
    """All shapes of `reference`'s family on `lattice`; raises NothingFeasible if there is none."""
    depths = lattice.depths or (reference.num_hidden_layers,)
    parts = [
        _enumerate_plane(reference, lattice, depth, head_dim)
        for depth in depths
        for head_dim in lattice.head_dims
    ]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim",
        )
    }  # fmt: skip
    if not len(columns["hidden_size"]):
        raise NothingFeasible(
            f"no shape has {lattice.parameters:.4g} parameters within "
            f"{lattice.parameter_tolerance:.1%} on this lattice: widen the tolerance, the x, r or "
            "GQA range, or use finer multiples"
        )
    return ShapeGrid.like(reference, **columns)


def shape_at(grid: ShapeGrid, row: int, reference: Shape) -> Shape:
    """The shape at `row`, with `reference`'s family and vocabulary."""
    return reference.resized(
        hidden_size=int(grid.hidden_size[row]),
        intermediate_size=int(grid.intermediate_size[row]),
        num_attention_heads=int(grid.num_attention_heads[row]),
        num_key_value_heads=int(grid.num_key_value_heads[row]),
        head_dim=int(grid.head_dim[row]),
        num_hidden_layers=int(grid.num_hidden_layers[row]),
    )


def _enumerate_plane(reference: Shape, lattice: Lattice, depth: int, head_dim: int) -> ShapeGrid:
    """Shapes at one depth and head size: hidden sizes x head pairs x the MLP widths that fit N."""
    hidden = _hidden_sizes(lattice)
    heads, kv_heads = _head_pairs(lattice, head_dim, float(hidden.max(initial=0)))
    d, pair = (axis.ravel() for axis in np.meshgrid(hidden, np.arange(len(heads)), indexing="ij"))
    grid = ShapeGrid.like(
        reference,
        hidden_size=d,
        intermediate_size=np.ones_like(d),
        num_attention_heads=heads[pair],
        num_key_value_heads=kv_heads[pair],
        head_dim=np.full_like(d, head_dim),
        num_hidden_layers=np.full_like(d, depth),
    )
    return _within(_with_mlp_widths(grid, lattice), reference, lattice)


def _hidden_sizes(lattice: Lattice) -> NDArray[np.float64]:
    root = math.sqrt(lattice.parameters)
    step = lattice.hidden_multiple
    slack = 1 + lattice.parameter_tolerance
    low = max(1, math.ceil(lattice.x_range[0] * root / slack / step))
    high = math.floor(lattice.x_range[1] * root * slack / step)
    return np.arange(low, high + 1, dtype=np.float64) * step


def _head_pairs(
    lattice: Lattice, head_dim: int, widest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(query heads, KV heads) whose ratio lies in the GQA range, up to the widest attention."""
    most = max(1, int(lattice.attention_width_range[1] * widest / head_dim))
    kv, gqa = np.meshgrid(
        np.arange(lattice.key_value_multiple, most + 1, lattice.key_value_multiple),
        np.arange(lattice.gqa_range[0], lattice.gqa_range[1] + 1),
        indexing="ij",
    )
    heads = kv * gqa
    degree = lattice.tensor_parallel
    keep = (heads <= most) & (heads % degree == 0) & ((kv % degree == 0) | (degree % kv == 0))
    return heads[keep].astype(np.float64), kv[keep].astype(np.float64)


def _with_mlp_widths(grid: ShapeGrid, lattice: Lattice) -> ShapeGrid:
    """Repeat each row for every MLP width that brings N and r into range."""
    attention = attention_parameters_per_layer(grid)
    matrices = (3 if grid.gated_mlp else 2) * grid.hidden_size
    step = math.lcm(lattice.mlp_multiple, lattice.tensor_parallel)
    per_layer = lattice.parameters / grid.num_hidden_layers
    tolerance = lattice.parameter_tolerance
    low = np.maximum(per_layer * (1 - tolerance) - attention, lattice.r_range[0] * attention)
    high = np.minimum(per_layer * (1 + tolerance) - attention, lattice.r_range[1] * attention)
    first = np.maximum(1, np.ceil(low / matrices / step - 1e-9))
    last = np.floor(high / matrices / step + 1e-9)
    count = np.maximum(0, last - first + 1).astype(np.intp)
    rows = np.repeat(np.arange(len(grid)), count)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    return replace(grid.take(rows), intermediate_size=(first[rows] + offset) * step)


def _within(grid: ShapeGrid, reference: Shape, lattice: Lattice) -> ShapeGrid:
    size = non_embedding_parameters(grid)
    x, r = np.asarray(aspect(grid)), np.asarray(mlp_to_attention_ratio(grid))
    edge = 1e-12
    width = np.asarray(query_width(grid) / grid.hidden_size)
    keep = (
        (np.abs(size / lattice.parameters - 1) <= lattice.parameter_tolerance + edge)
        & (x >= lattice.x_range[0] - edge)
        & (x <= lattice.x_range[1] + edge)
        & (r >= lattice.r_range[0] - edge)
        & (r <= lattice.r_range[1] + edge)
        & (width >= lattice.attention_width_range[0] - edge)
        & (width <= lattice.attention_width_range[1] + edge)
    )
    if reference.model_type in _NEEDS_DIVISIBLE_HIDDEN:
        keep &= grid.hidden_size % grid.num_attention_heads == 0
    return grid.take(np.flatnonzero(keep))
