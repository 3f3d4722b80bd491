"""What the runs cannot tell: warnings before a coefficient is believed."""

from __future__ import annotations

import numpy as np

from suffice.architecture.fitting.problem import Problem
from suffice.architecture.fitting.solve import Method, Solution
from suffice.core.arrays import FloatArray

# Range of a logarithm below which a variable counts as constant.
_CONSTANT = 0.05
# Shapes of one nominal size differ in N by some percent, so that D/N moves a little even where
# every run has the same budget: less than a factor of 1.35 is no variation to fit an exponent to.
_CONSTANT_RATIO = 0.3
_CONFOUNDED = 0.9


def data_warnings(problem: Problem) -> tuple[str, ...]:
    """Sentences about coefficients that these runs cannot identify."""
    if problem.family.conditional:
        return tuple(_conditional(problem))
    return tuple(_absolute(problem))


def solution_warnings(problem: Problem, solution: Solution, method: Method) -> tuple[str, ...]:
    """Sentences about fitted coefficients that should not be believed."""
    family = problem.family
    named = dict(zip(family.parameters, solution.theta, strict=False))
    warnings = []
    if solution.pinned:
        several = len(solution.pinned) > 1
        warnings.append(
            f"{', '.join(solution.pinned)} {'are' if several else 'is'} pinned at the lower limit: "
            "the runs would rather have it lower still, so the law has the wrong form here or they "
            "do not span enough"
        )
    if solution.unidentified:
        names, one = ", ".join(solution.unidentified), len(solution.unidentified) == 1
        warnings.append(
            f"{names} {'is' if one else 'are'} not identified: no run's loss depends on "
            f"{'it' if one else 'them'} here, as the exponent of a term whose coefficient is 0"
        )
    beyond = [
        f"{name} = {named[name]:.3g}"
        for name, (low, high) in family.bounds.items()
        if method != "lm" and name not in solution.unidentified and not low <= named[name] <= high
    ]
    if beyond:
        warnings.append(f"{', '.join(beyond)} left the plausible range: no law, a curve fit")
    negative = [n for n in family.parameters if n in family.positive and named[n] < 0]
    if negative:
        warnings.append(
            f"{', '.join(negative)} came out negative, which has no meaning in this law: expect "
            "it to fail outside these runs; --method huber or least_squares keeps it positive"
        )
    free = family.num_free + (problem.num_scales - 1 if problem.free_levels else 0)
    spare = len(problem.loss) - free
    if spare < 5:
        warnings.append(
            f"{len(problem.loss)} runs for {free} free coefficients leave {spare} to judge the "
            "fit by: errors in sample say little"
        )
    if family.fixed:
        held = ", ".join(f"{name} = {value:g}" for name, value in family.fixed.items())
        warnings.append(
            f"{len(family.parameters)} coefficients have {family.num_free} degrees of freedom; "
            f"{held} is held, so single coefficients compare with published ones only as ratios"
        )
    return tuple(warnings)


def _absolute(problem: Problem) -> list[str]:
    logs = _spread_axes(problem)
    warnings = []
    ratio_varies = float(np.ptp(logs["D"] - logs["N"])) > _CONSTANT_RATIO
    constant = [name for name in ("N", "D") if not _varies(logs[name])]
    if constant:
        warnings.append(
            f"{' and '.join(constant)} never varies: the exponent of its term and E cannot be told"
            " apart"
        )
    elif not ratio_varies:
        warnings.append(
            "D/N never varies: the terms in N and D cannot be told apart; add runs at other "
            "budgets before using the law away from this ratio"
        )
    if problem.num_scales == 1:
        warnings.append("one scale only: nothing says how the law carries to another size")
    for name in problem.family.shape_variables:
        warnings += _shape_warnings(name, logs[name], _correlation(logs[name], logs["N"]))
    return warnings


def _conditional(problem: Problem) -> list[str]:
    logs = _spread_axes(problem)
    warnings = []
    if problem.num_scales == 1:
        warnings.append("one scale only: nothing says how the shape's effect carries to other N")
    for name in problem.family.shape_variables:
        share = _share_between_scales(problem, logs[name])
        warnings += _shape_warnings(name, logs[name], share, against="scale (N, D)")
    names = problem.family.shape_variables
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if _correlation(logs[first], logs[second]) > _CONFOUNDED:
                warnings.append(
                    f"{first} and {second} vary together: their effects cannot be told apart"
                )
    sizes = np.bincount(problem.scale_of, minlength=problem.num_scales)
    lonely = [n for n, size in zip(problem.scale_names, sizes, strict=True) if size == 1]
    if lonely:
        warnings.append(
            f"{len(lonely)} scale(s) hold a single run ({', '.join(lonely[:3])}): with L_opt from "
            "the same run it says nothing about shape"
        )
    return warnings


def _shape_warnings(
    name: str, values: FloatArray, confounded: float, *, against: str = "N"
) -> list[str]:
    if not _varies(values):
        return [f"{name} never varies: its effect cannot be fitted"]
    if confounded > _CONFOUNDED:
        return [f"{name} is confounded with {against}: its effect may be the scale's"]
    distinct = len(np.unique(np.round(values, 6)))
    if distinct < 3:
        return [f"{name} takes {distinct} values only: a U-shape needs at least three"]
    return []


def _spread_axes(problem: Problem) -> dict[str, FloatArray]:
    """The variables as they enter laws: logarithms, or values of those that have none."""
    return {
        name: np.log(column) if (column > 0).all() else column
        for name, column in problem.variables.items()
    }


def _share_between_scales(problem: Problem, values: FloatArray) -> float:
    """Share of the variance of `values` that lies between scales, where nothing is learnt of it."""
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0 or problem.num_scales == 1:
        return 0.0
    counts = np.bincount(problem.scale_of, minlength=problem.num_scales)
    means = np.bincount(problem.scale_of, values, problem.num_scales) / np.maximum(counts, 1)
    within = float(((values - means[problem.scale_of]) ** 2).sum())
    return 1.0 - within / total


def _varies(logs: FloatArray) -> bool:
    return float(np.ptp(logs)) > _CONSTANT


def _correlation(first: FloatArray, second: FloatArray) -> float:
    if not (_varies(first) and float(np.ptp(second)) > 1e-9):
        return 0.0
    return abs(float(np.corrcoef(first, second)[0, 1]))
