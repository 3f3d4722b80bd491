"""The law families suffice knows: Chinchilla, Morph, and three conditional laws.

N parameters   D training tokens   x = d / sqrt(N)   r MLP over attention parameters
width_per_layer = d / number of layers   losses in nats, logarithms natural
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suffice.architecture.laws.family import Family, register
from suffice.core.arrays import FloatArray

# The joint law's interaction is measured from here, so that c = 0 is the multiplicative law and
# c tilts its valley without moving it. Published optima lie at x = .074-.080 and r = 1.0-1.2.
JOINT_CENTRE_X = 0.08

_EXPONENT = (1e-3, 3.0)


def _power(base: Any, exponent: Any) -> FloatArray:
    result: FloatArray = np.exp(exponent * np.log(base))
    return result


def _chinchilla(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    E, A, B, alpha, beta = c
    result: FloatArray = E + A * _power(v["N"], -alpha) + B * _power(v["D"], -beta)
    return result


def _chinchilla_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    alpha, beta = t
    return [np.ones_like(v["N"]), _power(v["N"], -alpha), _power(v["D"], -beta)]


def _plane(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.stack([axis.ravel() for axis in np.meshgrid(first, second, indexing="ij")], axis=1)


CHINCHILLA = register(
    Family(
        name="chinchilla",
        formula="L = E + A N^-alpha + B D^-beta",
        target="loss",
        variables=("N", "D"),
        linear=("E", "A", "B"),
        nonlinear=("alpha", "beta"),
        evaluate=_chinchilla,
        columns=_chinchilla_columns,
        starts=_plane(np.linspace(0.05, 1.0, 25), np.linspace(0.05, 1.0, 25)),
        bounds={"alpha": _EXPONENT, "beta": _EXPONENT},
        positive=frozenset({"E", "A", "B"}),
        reference="arXiv:2203.15556, Eq. 2",
    )
)


def _tied(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    E, A, B, alpha = c
    return _chinchilla((E, A, B, alpha, alpha), v)


def _tied_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return _chinchilla_columns((t[0], t[0]), v)


CHINCHILLA_TIED = register(
    Family(
        name="chinchilla-tied",
        formula="L = E + A N^-alpha + B D^-alpha",
        target="loss",
        variables=("N", "D"),
        linear=("E", "A", "B"),
        nonlinear=("alpha",),
        evaluate=_tied,
        columns=_tied_columns,
        starts=np.linspace(0.02, 1.2, 60)[:, None],
        bounds={"alpha": _EXPONENT},
        positive=frozenset({"E", "A", "B"}),
        reference="arXiv:2501.18107, baseline with one exponent",
    )
)


def _morph(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    E, A, B, alpha, epsilon = c
    shape = 1.0 + epsilon * _power(v["width_per_layer"], alpha)
    result: FloatArray = _tied((E, A, B, alpha), v) * shape
    return result


def _morph_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    alpha, epsilon = t
    shape = 1.0 + epsilon * _power(v["width_per_layer"], alpha)
    return [shape * column for column in _tied_columns((alpha,), v)]


MORPH = register(
    Family(
        name="morph",
        formula="L = (E + A N^-alpha + B D^-alpha) (1 + epsilon (d/layers)^alpha)",
        target="loss",
        variables=("N", "D", "width_per_layer"),
        linear=("E", "A", "B"),
        nonlinear=("alpha", "epsilon"),
        evaluate=_morph,
        columns=_morph_columns,
        starts=_plane(np.linspace(0.05, 1.2, 24), np.r_[0.0, np.geomspace(1e-5, 0.3, 16)]),
        bounds={"alpha": _EXPONENT, "epsilon": (0.0, 10.0)},
        positive=frozenset({"E", "A", "B"}),
        shape_variables=("width_per_layer",),
        reference="arXiv:2501.18107, Eq. 3",
    )
)


def _multiplicative(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    a0, a1, a2, b0, b1, b2 = c
    x, r = v["x"], v["r"]
    result: FloatArray = (a0 + a1 * np.log(x) + a2 / x) * (b0 + b1 * np.log(r) + b2 / r)
    return result


def _multiplicative_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    b1, b2 = t
    x, r = v["x"], v["r"]
    factor = 1.0 + b1 * np.log(r) + b2 / r
    return [factor, factor * np.log(x), factor / x]


_CURVATURES = np.r_[0.0, np.geomspace(1e-4, 1.0, 8)]
_U_SHAPED = frozenset({"a1", "a2", "b1", "b2"})

MULTIPLICATIVE = register(
    Family(
        name="conditional-multiplicative",
        formula="L / L_opt(N, D) = (a0 + a1 ln x + a2/x) (b0 + b1 ln r + b2/r)",
        target="ratio",
        variables=("x", "r"),
        linear=("a0", "a1", "a2"),
        nonlinear=("b1", "b2"),
        evaluate=_multiplicative,
        columns=_multiplicative_columns,
        starts=_plane(_CURVATURES, _CURVATURES),
        bounds={"b1": (0.0, 100.0), "b2": (0.0, 100.0)},
        positive=_U_SHAPED,
        fixed={"b0": 1.0},
        shape_variables=("x", "r"),
        reference="arXiv:2510.18245, section 3",
    )
)


def _additive(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    a0, a1, a2, b1, b2 = c
    x, r = v["x"], v["r"]
    result: FloatArray = a0 + a1 * np.log(x) + a2 / x + b1 * np.log(r) + b2 / r
    return result


def _additive_columns(_: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    x, r = v["x"], v["r"]
    return [np.ones_like(x), np.log(x), 1.0 / x, np.log(r), 1.0 / r]


ADDITIVE = register(
    Family(
        name="conditional-additive",
        formula="L - L_opt(N, D) = a0 + a1 ln x + a2/x + b1 ln r + b2/r",
        target="excess",
        variables=("x", "r"),
        linear=("a0", "a1", "a2", "b1", "b2"),
        nonlinear=(),
        evaluate=_additive,
        columns=_additive_columns,
        starts=np.empty((1, 0)),
        bounds={},
        positive=_U_SHAPED,
        shape_variables=("x", "r"),
        reference="arXiv:2510.18245, section 3",
    )
)


def _interaction(v: Mapping[str, Any]) -> FloatArray:
    result: FloatArray = np.log(v["x"] / JOINT_CENTRE_X) * np.log(v["r"])
    return result


def _joint(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    a0, a1, a2, tilt, b0, b1, b2 = c
    separable = _multiplicative((a0, a1, a2, b0, b1, b2), v)
    result: FloatArray = separable + tilt * _interaction(v)
    return result


def _joint_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [*_multiplicative_columns(t, v), _interaction(v)]


JOINT = register(
    Family(
        name="conditional-joint",
        formula=(
            "L / L_opt(N, D) = (a0 + a1 ln x + a2/x) (b0 + b1 ln r + b2/r) + c ln(x/.08) ln r"
        ),
        target="ratio",
        variables=("x", "r"),
        linear=("a0", "a1", "a2", "c"),
        nonlinear=("b1", "b2"),
        evaluate=_joint,
        columns=_joint_columns,
        starts=_plane(_CURVATURES, _CURVATURES),
        bounds={"b1": (0.0, 100.0), "b2": (0.0, 100.0)},
        positive=_U_SHAPED,
        fixed={"b0": 1.0},
        shape_variables=("x", "r"),
        reference=(
            "our form: the multiplicative law with one interaction; it is not the non-separable "
            "form that arXiv:2510.18245 compares with"
        ),
    )
)
