"""Shapes that differ in one respect: hidden size, MLP share, or query heads per KV head.

Per layer, with N/L weights, r the MLP over attention weights and g query heads per KV head:
attention = 2 d head_dim kv (g + 1) = (N/L) / (1 + r), and the MLP takes the rest, 3 d f.
"""

from __future__ import annotations

from typing import Literal

from suffice.architecture.counts import (
    attention_parameters_per_layer,
    mlp_parameters_per_layer,
    mlp_to_attention_ratio,
    non_embedding_parameters,
)
from suffice.architecture.shape import Shape
from suffice.core.errors import UnsupportedModel

Axis = Literal["hidden_size", "mlp_ratio", "gqa"]
# Widths are kept at multiples that matrix units like; N then moves by less than this share.
_MULTIPLE = 64
_N_TOLERANCE = 0.015


def shapes_along(axis: Axis, reference: Shape, *, span: float = 2.0) -> list[Shape]:
    """Shapes of `reference`'s N and depth that differ along `axis`, within a factor `span`.

    "hidden_size": d varies; r and g are held (r as closely as whole KV heads allow).
    "mlp_ratio": r varies; d and g are held. "gqa": g varies; d and f are held, and heads + KV
    heads too, so that N and r stay exact. The reference itself is among them.
    """
    if not reference.gated_mlp:
        raise UnsupportedModel("ablations are defined for gated MLPs, as the published laws are")
    build = {
        "hidden_size": _along_hidden_size,
        "mlp_ratio": _along_mlp_ratio,
        "gqa": _along_gqa,
    }[axis]
    shapes = build(reference, span)
    if not any(shape == reference for shape in shapes):
        shapes.append(reference)
    key = {
        "hidden_size": lambda s: s.hidden_size,
        "mlp_ratio": mlp_to_attention_ratio,
        "gqa": lambda s: s.gqa,
    }[axis]
    return sorted(shapes, key=key)


def _along_hidden_size(reference: Shape, span: float) -> list[Shape]:
    weights = non_embedding_parameters(reference) // reference.num_hidden_layers
    attention = attention_parameters_per_layer(reference)
    per_kv = 2 * reference.head_dim * (reference.gqa + 1)
    shapes = []
    for kv in range(1, 4 * reference.num_key_value_heads + 1):
        d = _rounded(attention / (per_kv * kv))
        if reference.hidden_size / span <= d <= reference.hidden_size * span:
            shapes += _with_rest_in_mlp(reference, d, kv, weights)
    return shapes


def _along_mlp_ratio(reference: Shape, span: float) -> list[Shape]:
    weights = non_embedding_parameters(reference) // reference.num_hidden_layers
    ratio = float(mlp_to_attention_ratio(reference))
    shapes = []
    for kv in range(1, 8 * reference.num_key_value_heads + 1):
        shapes += _with_rest_in_mlp(reference, reference.hidden_size, kv, weights)
    low, high = ratio / span**2, ratio * span**2
    return [shape for shape in shapes if low <= mlp_to_attention_ratio(shape) <= high]


def _along_gqa(reference: Shape, span: float) -> list[Shape]:
    both = reference.num_attention_heads + reference.num_key_value_heads
    low, high = reference.num_key_value_heads / (2 * span), reference.num_key_value_heads * 2 * span
    return [
        _renamed(reference, reference.hidden_size, reference.intermediate_size, both - kv, kv)
        for kv in range(1, both // 2 + 1)
        if both % kv == 0 and low <= kv <= high
    ]


def _with_rest_in_mlp(reference: Shape, d: int, kv: int, weights: int) -> list[Shape]:
    """The shape of `d` and `kv` whose MLP brings the layer to `weights`, if there is one."""
    attention = 2 * d * reference.head_dim * kv * (reference.gqa + 1)
    f = _rounded((weights - attention) / (3 * d))
    if f < _MULTIPLE:
        return []
    shape = _renamed(reference, d, f, kv * reference.gqa, kv)
    found = attention_parameters_per_layer(shape) + mlp_parameters_per_layer(shape)
    return [shape] if abs(found / weights - 1) <= _N_TOLERANCE else []


def _renamed(reference: Shape, d: int, f: int, heads: int, kv: int) -> Shape:
    return reference.resized(
        hidden_size=d,
        intermediate_size=f,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        name=f"d{d}-f{f}-h{heads}-kv{kv}",
    )


def _rounded(width: float) -> int:
    return round(width / _MULTIPLE) * _MULTIPLE
