"""What a bootstrap of few runs or few clusters leaves out, put back.

Resampling G clusters of n runs scatters as a variance divided by G would, not by G - 1, as if no
coefficient had been fitted; and its percentiles are those of a normal distribution where Student's
t with G - 1 degrees of freedom holds. Both are the usual corrections of cluster-robust standard
errors (CR1 and t with G - 1; Cameron and Miller 2015, J. Hum. Resour. 50). With 7 sizes of 4 runs
and 5 coefficients they make intervals 1.38 times as wide, with 240 single runs 1.01 times.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from suffice.architecture.fitting.problem import Problem
from suffice.architecture.laws import Family
from suffice.core.arrays import FloatArray


def small_sample_stretch(problem: Problem, clusters: int, confidence: float) -> float:
    """How much further from the fit the resamples should lie, for intervals at `confidence`."""
    runs = len(problem.loss)
    levels = problem.num_scales - 1 if problem.free_levels else 0
    left = max(1, runs - problem.family.num_free - levels)
    few = max(2, clusters)
    freedom = min(few - 1, left)
    tail = 0.5 + confidence / 2
    quantile = float(stdtrit(freedom, tail) / ndtri(tail)) if confidence > 0 else 1.0
    return quantile * float(np.sqrt(few / (few - 1) * max(1, runs - 1) / left))


def stretched(family: Family, theta: FloatArray, draws: FloatArray, factor: float) -> FloatArray:
    """`draws` moved away from `theta` by `factor`, inside the family's limits.

    Positive factors in logarithms and exponents as they are: ln A and alpha stay on the line along
    which runs leave them. A coefficient that is 0 in the fit or in a draw stays where it is.
    """
    result = draws.copy()
    for index, name in enumerate(family.parameters):
        if name in family.fixed:
            continue
        at, drawn = float(theta[index]), draws[:, index]
        if name in family.linear and name in family.positive and at > 0:
            some = drawn > 0
            moved = np.log(drawn[some] / at) * factor
            result[some, index] = at * np.exp(np.clip(moved, -700.0, 700.0))
        elif at != 0:
            some = drawn != 0
            low, high = family.bounds.get(name, (-np.inf, np.inf))
            moved = at + factor * (drawn[some] - at)
            result[some, index] = np.clip(moved, low, high)
    return result
