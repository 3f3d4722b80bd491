"""Coefficients with intervals, lowest points with theirs, and how a fit was made, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suffice.architecture.fitting.constrain import Constraint
from suffice.architecture.fitting.problem import Problem
from suffice.architecture.fitting.solve import Method, Solution
from suffice.architecture.fitting.turning_point import (
    CONSTANT,
    CURVED,
    TurningPoint,
    shape_averages,
    turning_points,
)
from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError


@dataclass(frozen=True, slots=True, kw_only=True)
class CoefficientEstimate:
    """A coefficient with its two-sided bootstrap interval.

    None where it was held, is pinned at its limit, or moves no run's loss (`unidentified`).
    """

    name: str
    value: float
    low: float | None
    high: float | None
    unidentified: bool = False


def estimates(
    constraint: Constraint, solution: Solution, draws: FloatArray | None, confidence: float
) -> tuple[CoefficientEstimate, ...]:
    """Every coefficient of the whole family with its two-sided bootstrap interval."""
    tail = 50.0 * (1.0 - confidence)
    unknown = {*constraint.whole.fixed, *solution.pinned, *solution.unidentified}
    values = constraint.expand(solution.theta)
    drawn = None if draws is None else constraint.expand(draws)
    estimates = []
    for index, name in enumerate(constraint.whole.parameters):
        low = high = None
        source = constraint.source(name)
        if drawn is not None and source is not None and source not in unknown:
            low, high = (float(v) for v in np.percentile(drawn[:, index], [tail, 100.0 - tail]))
        estimates.append(
            CoefficientEstimate(
                name=name, value=float(values[index]), low=low, high=high,
                unidentified=source in solution.unidentified,
            )
        )  # fmt: skip
    return tuple(estimates)


def lowest_points(problem: Problem, confidence: float) -> tuple[TurningPoint, ...]:
    """Of a conditional law's curves; none where the shapes are too few for them."""
    if not problem.family.conditional:
        return ()
    varied = {
        name: values
        for name, values in problem.variables.items()
        if (values > 0).all() and float(np.ptp(np.log(values))) > CONSTANT
    }
    curves = {name: v for name, v in varied.items() if name in CURVED}
    slopes = {name: v for name, v in varied.items() if name not in CURVED}
    means = shape_averages(np.log(problem.loss), problem.scale_of, problem.shape_of, curves, slopes)
    try:
        return turning_points(means, confidence=confidence)
    except TableError:
        return ()


def zero_widths(estimates: tuple[CoefficientEstimate, ...]) -> list[str]:
    """Coefficients that every resample gave alike: the runs are no sample of anything."""
    narrow = [
        c.name
        for c in estimates
        if c.low is not None
        and c.high is not None
        and c.high - c.low <= 1e-9 * max(abs(c.value), 1e-300)
    ]
    if not narrow:
        return []
    return [
        f"{', '.join(narrow)} came out alike in every resample: an interval of no width says that "
        "the resamples do not differ, not that the value is known"
    ]


def constraint_text(constraint: Constraint) -> str:
    """What was held and tied, to follow the method; empty where nothing was."""
    held = [f"{name} = {value:g} held" for name, value in constraint.held.items()]
    tied = [f"{name} = {partner}" for name, partner in constraint.tied.items()]
    return "".join(f"; {text}" for text in (*held, *tied))


def method_text(method: Method, delta: float, above: float) -> str:
    """How the fit was made, for people."""
    lean = "" if above == 1.0 else f"; runs predicted too high count {above:g} times"
    return method_name(method, delta) + lean


def method_name(method: Method, delta: float) -> str:
    """The method alone."""
    return {
        "huber": f"Huber (delta {delta:g}) on ln loss, positive coefficients",
        "likelihood": "least absolute deviations of ln loss (likelihood with learned scale)",
        "least_squares": "least squares on loss, positive coefficients",
        "lm": "least squares on loss, coefficients of any sign",
    }[method]
