"""Families with depth and KV heads: our own conditional forms, and a width-and-depth law.

x = d / sqrt(N)   r MLP over attention parameters   kv_share KV heads over query heads
layers number of layers   q = d / layers, called width_per_layer   losses in nats

At a fixed N and head size, x, r, the KV share and the layers are all there is to a dense shape:
the number of heads follows from them. A law in these four leaves nothing of it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from suffice.architecture.laws.families import CHINCHILLA, MULTIPLICATIVE
from suffice.architecture.laws.family import Family, register
from suffice.core.arrays import FloatArray

_U_SHAPED = frozenset({"a1", "a2", "b1", "b2", "h1", "h2"})
_NO_STARTS = np.empty((1, 0))
_EXPONENT = (1e-3, 3.0)


def _sum(c: Sequence[Any], columns: Sequence[FloatArray]) -> FloatArray:
    result: FloatArray = sum(a * column for a, column in zip(c, columns, strict=True))
    return result


def _width_and_ratio(v: Mapping[str, Any]) -> list[FloatArray]:
    x, r = v["x"], v["r"]
    return [np.ones_like(x), np.log(x), 1.0 / x, np.log(r), 1.0 / r]


def _depth(v: Mapping[str, Any]) -> list[FloatArray]:
    return [np.log(v["layers"]), 1.0 / np.asarray(v["layers"], dtype=np.float64)]


def _less_kv(v: Mapping[str, Any]) -> FloatArray:
    result: FloatArray = -np.log(v["kv_share"])
    return result


def _depth_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [*_width_and_ratio(v), *_depth(v)]


def _shape_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [*_width_and_ratio(v), *_depth(v), _less_kv(v)]


def _aspect_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    q = v["width_per_layer"]
    return [*_width_and_ratio(v), np.log(q), 1.0 / q, _less_kv(v)]


def _depth_alone_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [np.ones_like(v["layers"], dtype=np.float64), *_depth(v)]


Columns = Callable[[Sequence[Any], Mapping[str, Any]], list[FloatArray]]


def _additive(
    name: str, terms: str, columns: Columns, *, variables: str, linear: str, reference: str
) -> Family:
    """A law of L / L_opt at a given N and D that is a weighted sum of columns; nothing is bent."""
    shape = tuple(variables.split())
    return register(
        Family(
            name=name,
            formula=f"L / L_opt(N, D) = {terms}",
            target="ratio",
            variables=shape,
            linear=tuple(linear.split()),
            nonlinear=(),
            evaluate=lambda c, v: _sum(c, columns((), v)),
            columns=columns,
            starts=_NO_STARTS,
            bounds={},
            positive=_U_SHAPED,
            shape_variables=shape,
            reference=reference,
        )
    )


def _width_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    x = v["x"]
    return [np.ones_like(x), np.log(x), 1.0 / x]


def _width_depth_only_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [*_width_columns((), v), *_depth(v)]


CONDITIONAL_WIDTH = _additive(
    "conditional-width",
    "a0 + a1 ln x + a2/x",
    _width_columns,
    variables="x",
    linear="a0 a1 a2",
    reference="ours: the width curve of arXiv:2510.18245 for tables without heads or MLP width",
)
CONDITIONAL_WIDTH_DEPTH = _additive(
    "conditional-width-depth",
    "a0 + a1 ln x + a2/x + h1 ln l + h2/l",
    _width_depth_only_columns,
    variables="x layers",
    linear="a0 a1 a2 h1 h2",
    reference="ours: width and depth, for tables without heads or MLP width",
)
DEPTH_ALONE = _additive(
    "conditional-depth-alone",
    "a0 + h1 ln l + h2/l",
    _depth_alone_columns,
    variables="layers",
    linear="a0 h1 h2",
    reference="ours: the yardstick for every form with more in it",
)
CONDITIONAL_DEPTH = _additive(
    "conditional-depth",
    "a0 + a1 ln x + a2/x + b1 ln r + b2/r + h1 ln l + h2/l",
    _depth_columns,
    variables="x r layers",
    linear="a0 a1 a2 b1 b2 h1 h2",
    reference="ours: one curve each for width, MLP share and depth",
)
CONDITIONAL_SHAPE = _additive(
    "conditional-shape",
    "a0 + a1 ln x + a2/x + b1 ln r + b2/r + h1 ln l + h2/l - g ln s",
    _shape_columns,
    variables="x r layers kv_share",
    linear="a0 a1 a2 b1 b2 h1 h2 g",
    reference="ours: width, MLP share, depth and the share s of KV heads in one form",
)
CONDITIONAL_ASPECT = _additive(
    "conditional-aspect",
    "a0 + a1 ln x + a2/x + b1 ln r + b2/r + h1 ln q + h2/q - g ln s",
    _aspect_columns,
    variables="x r width_per_layer kv_share",
    linear="a0 a1 a2 b1 b2 h1 h2 g",
    reference="ours: as conditional-shape, depth by the aspect q = hidden size / layers",
)


def _product(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    a0, a1, a2, h1, h2, g, b0, b1, b2 = c
    separable = MULTIPLICATIVE.evaluate((a0, a1, a2, b0, b1, b2), v)
    return separable + _sum((h1, h2, g), [*_depth(v), _less_kv(v)])


def _product_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [*MULTIPLICATIVE.columns(t, v), *_depth(v), _less_kv(v)]


CONDITIONAL_PRODUCT = register(
    Family(
        name="conditional-product",
        formula=(
            "L / L_opt(N, D) = (a0 + a1 ln x + a2/x) (b0 + b1 ln r + b2/r) "
            "+ h1 ln l + h2/l - g ln s"
        ),
        target="ratio",
        variables=("x", "r", "layers", "kv_share"),
        linear=("a0", "a1", "a2", "h1", "h2", "g"),
        nonlinear=("b1", "b2"),
        evaluate=_product,
        columns=_product_columns,
        starts=MULTIPLICATIVE.starts,
        bounds=MULTIPLICATIVE.bounds,
        positive=_U_SHAPED,
        fixed={"b0": 1.0},
        shape_variables=("x", "r", "layers", "kv_share"),
        reference="ours: the product of arXiv:2510.18245 with depth and KV share added to it",
    )
)


def _width_depth(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    E, A, B, W, P, alpha, beta, omega, rho = c
    level = CHINCHILLA.evaluate((E, A, B, alpha, beta), v)
    width, depth = _powers((omega, rho), v)
    result: FloatArray = level + W * width + P * depth
    return result


def _powers(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    omega, rho = t
    return [np.exp(-omega * np.log(v["hidden_size"])), np.exp(-rho * np.log(v["layers"]))]


def _width_depth_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [*CHINCHILLA.columns(t[:2], v), *_powers(t[2:], v)]


WIDTH_DEPTH = register(
    Family(
        name="width-depth",
        formula="L = E + A N^-alpha + B D^-beta + W d^-omega + P l^-rho",
        target="loss",
        variables=("N", "D", "hidden_size", "layers"),
        linear=("E", "A", "B", "W", "P"),
        nonlinear=("alpha", "beta", "omega", "rho"),
        evaluate=_width_depth,
        columns=_width_depth_columns,
        starts=np.array(list(product((0.1, 0.3, 0.8), repeat=4)), dtype=np.float64),
        bounds=dict.fromkeys(("alpha", "beta", "omega", "rho"), _EXPONENT),
        positive=frozenset({"E", "A", "B", "W", "P"}),
        shape_variables=("hidden_size", "layers"),
        reference="in the manner of arXiv:2502.06857: powers of width and depth beside N and D",
    )
)
