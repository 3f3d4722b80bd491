"""Absolute families beyond Chinchilla's: N and D coupled, and tokens that repeat.

N parameters   D training tokens   U distinct tokens (unique_tokens)   losses in nats
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from suffice.architecture.laws.families import CHINCHILLA
from suffice.architecture.laws.family import Family, register
from suffice.core.arrays import FloatArray

# N and D are measured in these, so that the weight of one beside the other is of order one.
COUPLED_N, COUPLED_D = 1e9, 2e10
_EXPONENT = (1e-3, 3.0)


def _coupled(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    E, A, alpha, beta, weight, gamma = c
    result: FloatArray = E + A * _mixed((alpha, beta, weight, gamma), v)
    return result


def _mixed(t: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    alpha, beta, weight, gamma = t
    size = np.exp(-alpha * np.log(np.asarray(v["N"]) / COUPLED_N))
    tokens = np.exp(-beta * np.log(np.asarray(v["D"]) / COUPLED_D))
    result: FloatArray = np.exp(gamma * np.log(size + weight * tokens))
    return result


def _coupled_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    return [np.ones_like(v["N"]), _mixed(t, v)]


CHINCHILLA_COUPLED = register(
    Family(
        name="chinchilla-coupled",
        formula="L = E + A ((N/1e9)^-alpha + w (D/2e10)^-beta)^gamma",
        target="loss",
        variables=("N", "D"),
        linear=("E", "A"),
        nonlinear=("alpha", "beta", "w", "gamma"),
        evaluate=_coupled,
        columns=_coupled_columns,
        starts=np.array(
            list(product((0.2, 0.5, 1.0), (0.2, 0.5, 1.0), (0.3, 1.0, 3.0), (0.3, 0.6, 1.0)))
        ),
        bounds={"alpha": _EXPONENT, "beta": _EXPONENT, "w": (1e-6, 1e6), "gamma": (0.05, 5.0)},
        positive=frozenset({"E", "A"}),
        reference="in the manner of arXiv:2608.07222, whose abstract couples N and D by one "
        "exponent and prints no formula: gamma = 1 is Chinchilla's law, E = 0 and alpha = beta "
        "gamma-wise that of arXiv:2001.08361, Eq. 1.5",
    )
)


def effective_tokens(tokens: Any, unique_tokens: Any, scale: Any) -> FloatArray:
    """What D tokens of which U are distinct are worth in fresh ones (arXiv:2305.16264, Eq. 5).

    U + U R (1 - exp(-(D / U - 1) / R)): `scale` R repeats halve nothing yet; all of them together
    are worth at most R times U.
    """
    unique = np.minimum(unique_tokens, tokens)
    repeats = np.asarray(tokens) / unique - 1
    result: FloatArray = unique * (1 - scale * np.expm1(-repeats / scale))
    return result


def _repeated(c: Sequence[Any], v: Mapping[str, Any]) -> FloatArray:
    E, A, B, alpha, beta, scale = c
    tokens = effective_tokens(v["D"], v["unique_tokens"], scale)
    return CHINCHILLA.evaluate((E, A, B, alpha, beta), {"N": v["N"], "D": tokens})


def _repeated_columns(t: Sequence[Any], v: Mapping[str, Any]) -> list[FloatArray]:
    tokens = effective_tokens(v["D"], v["unique_tokens"], t[2])
    return CHINCHILLA.columns(t[:2], {"N": v["N"], "D": tokens})


CHINCHILLA_REPEATED = register(
    Family(
        name="chinchilla-repeated",
        formula="L = E + A N^-alpha + B D'^-beta, D' = U (1 + R (1 - exp(-(D/U - 1) / R)))",
        target="loss",
        variables=("N", "D", "unique_tokens"),
        linear=("E", "A", "B"),
        nonlinear=("alpha", "beta", "R"),
        evaluate=_repeated,
        columns=_repeated_columns,
        starts=np.array(list(product((0.15, 0.35, 0.7), (0.15, 0.35, 0.7), (2.0, 8.0, 30.0)))),
        bounds={"alpha": _EXPONENT, "beta": _EXPONENT, "R": (0.05, 1e4)},
        positive=frozenset({"E", "A", "B"}),
        reference="arXiv:2305.16264, Eq. 5 and 6, without its decay of excess parameters, which "
        "is not linear in A and B",
    )
)
