"""One fit: a start by variable projection, then the polish the method asks for; and its bootstrap.

huber           Huber (δ) on ln loss, positive parameters; as arXiv:2203.15556
likelihood      the same with a learned scale; as arXiv:2404.10102, and there with its δ of
                1e-3 scales it is least absolute deviations of ln loss
least_squares   squares of the loss, positive parameters
lm              squares of the loss, any sign; as arXiv:2501.18107 and arXiv:2510.18245
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize

from suffice.architecture.fitting.minimise import huber, least_absolute, minimise_batch, sides
from suffice.architecture.fitting.problem import Problem
from suffice.architecture.fitting.start import project
from suffice.core.arrays import FloatArray, IntArray

Method = Literal["huber", "least_squares", "lm", "likelihood"]
METHODS: tuple[Method, ...] = get_args(Method)

# Least absolute deviations are rounded off this far below the residuals in a bootstrap, where the
# exact programme would cost a second a draw.
_LAD_DELTA = 1e-5
_CHUNK = 250
# A coefficient that moves no run's loss by more than this share is at its limit of nought.
_NO_EFFECT = 1e-6
# Where the bootstrap lets a pinned coefficient start: a tenth of a percent of some run's loss.
_WAKING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Fitted parameters (family's order, then ln levels) and the objective they reach.

    `pinned` would rather be lower than their limit; `unidentified` move no run's loss, as the
    exponent of a term whose coefficient is 0.
    """

    theta: FloatArray
    objective: float
    pinned: tuple[str, ...]
    unidentified: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coordinates:
    """What a minimiser moves: ln of positive parameters, others in units of their start."""

    base: FloatArray
    free: IntArray
    logarithmic: FloatArray
    units: FloatArray

    def theta(self, point: FloatArray) -> FloatArray:
        result = np.repeat(self.base[None], len(point), axis=0)
        with np.errstate(over="ignore"):
            logs = np.exp(np.minimum(point, 200.0))
        result[:, self.free] = np.where(self.logarithmic > 0, logs, point * self.units)
        return result

    def point(self, theta: FloatArray) -> FloatArray:
        values = theta[..., self.free]
        logs = np.log(np.maximum(values, 1e-300))
        result: FloatArray = np.where(self.logarithmic > 0, logs, values / self.units)
        return result


def solve(problem: Problem, method: Method, *, delta: float) -> Solution:
    """The fitted parameters of `problem`."""
    positive, relative = method != "lm", method in ("huber", "likelihood") or problem.free_levels
    starts = [start.theta for start in project(problem, positive=positive, relative=relative)]
    theta = np.stack([_with_levels(problem, start) for start in starts])
    if not relative:
        return _solution(problem, theta[0], method, delta)
    best = _polished(problem, theta, method, delta)
    return _solution(problem, _normalised(problem, best), method, delta)


def bootstrap(
    problem: Problem, solution: Solution, method: Method, weights: FloatArray, *, delta: float
) -> FloatArray:
    """Parameters (draws, parameters) under each row of `weights` (draws, runs), warm-started.

    Draws whose minimum was not found are NaN.
    """
    awake = _awake(problem, solution, method)
    coordinates = _coordinates(problem, awake, method)
    residuals = _Residuals(problem, coordinates, logarithmic=_on_log(problem, method))
    start = coordinates.point(awake)
    rounded = {"huber": delta, "likelihood": _LAD_DELTA}.get(method)
    results = []
    for chunk in np.array_split(weights, max(1, -(-len(weights) // _CHUNK))):
        point, objective = minimise_batch(
            residuals, np.repeat(start[None], len(chunk), axis=0), chunk, delta=rounded,
            above=problem.above, iterations=120, tolerance=1e-6,
        )  # fmt: skip
        theta = coordinates.theta(point)
        theta[~np.isfinite(objective)] = np.nan
        results.append(theta)
    draws = np.concatenate(results)
    if method != "lm":
        draws = _without_effect(problem, draws)
    if problem.free_levels:
        draws = np.stack([_normalised(problem, row) for row in draws])
    return draws


def _awake(problem: Problem, solution: Solution, method: Method) -> FloatArray:
    """The solution with pinned coefficients just above 0: a resample may want them larger.

    Frozen at 0 they would make the other intervals conditional on it.
    """
    theta = solution.theta.copy()
    if method == "lm":
        return theta
    for index in _from_zero(problem):
        if theta[index] <= 0:
            one = theta.copy()
            one[index] = 1.0
            effect = _effect(problem, one, theta)
            theta[index] = _WAKING / effect if np.isfinite(effect) and effect > 0 else 0.0
    return theta


def _from_zero(problem: Problem) -> list[int]:
    """Positions of the coefficients whose least value is 0."""
    family = problem.family
    return [
        i
        for i, name in enumerate(family.parameters)
        if name not in family.fixed
        and _never_negative(problem, name)
        and family.bounds.get(name, (0.0, 0.0))[0] <= 0
    ]


def _effect(problem: Problem, theta: FloatArray, other: FloatArray) -> float:
    """Largest difference of ln loss between two parameter vectors, over the runs."""
    with np.errstate(all="ignore"):
        found = np.log(problem.predict(np.stack([theta, other])))
    return float(np.max(np.abs(found[0] - found[1])))


def _without_effect(problem: Problem, draws: FloatArray) -> FloatArray:
    """The draws with 0 for coefficients that move no run's loss."""
    result = draws.copy()
    with np.errstate(all="ignore"):
        here = np.log(problem.predict(draws))
        for index in _from_zero(problem):
            without = draws.copy()
            without[:, index] = 0.0
            moved = np.abs(np.log(problem.predict(without)) - here).max(axis=1)
            result[moved < _NO_EFFECT, index] = 0.0
    return result


class _Residuals:
    """ln predicted − ln measured loss, or their difference, of coordinates (B, Q)."""

    def __init__(self, problem: Problem, coordinates: _Coordinates, *, logarithmic: bool) -> None:
        self.problem, self.coordinates, self.logarithmic = problem, coordinates, logarithmic
        self.log_loss = np.log(problem.loss)

    def __call__(self, point: FloatArray) -> FloatArray:
        predicted = self.problem.predict(self.coordinates.theta(point))
        if not self.logarithmic:
            return predicted - self.problem.loss
        with np.errstate(invalid="ignore", divide="ignore"):
            result: FloatArray = np.log(predicted) - self.log_loss
        return result


def _on_log(problem: Problem, method: Method) -> bool:
    return method in ("huber", "likelihood") or problem.free_levels


def _coordinates(problem: Problem, theta: FloatArray, method: Method) -> _Coordinates:
    family = problem.family
    levels = problem.num_scales if problem.free_levels else 0
    names = [*family.parameters, *[""] * levels]
    held = set(family.fixed)
    if levels:
        # A free level per scale takes over the formula's own level.
        held.add(family.linear[0])
    may_be_any = method == "lm"
    positive = np.array([_never_negative(problem, name) for name in names])
    zero = positive & (theta <= 0)
    movable = [
        i for i, name in enumerate(names) if name not in held and not (zero[i] and not may_be_any)
    ]
    free = np.array(movable, dtype=np.intp)
    logarithmic = (positive & ~zero & (not may_be_any))[free].astype(np.float64)
    size = np.abs(theta)
    units = np.where(size > 0, size, 1.0)[free]
    units = np.where(free >= len(family.parameters), 1.0, units)
    return _Coordinates(base=theta.copy(), free=free, logarithmic=logarithmic, units=units)


def _never_negative(problem: Problem, name: str) -> bool:
    family = problem.family
    return name in family.positive or (name in family.bounds and family.bounds[name][0] >= 0)


def _polished(problem: Problem, theta: FloatArray, method: Method, delta: float) -> FloatArray:
    candidates = []
    rounded = delta if method in ("huber", "likelihood") else None
    for start in theta:
        coordinates = _coordinates(problem, start, method)
        residuals = _Residuals(problem, coordinates, logarithmic=True)
        point, objective = minimise_batch(
            residuals, coordinates.point(start)[None], problem.weights[None], delta=rounded,
            above=problem.above, iterations=500, tolerance=1e-13,
        )  # fmt: skip
        candidates.append((float(objective[0]), coordinates, point[0]))
    _, coordinates, point = min(candidates, key=lambda candidate: candidate[0])
    residuals = _Residuals(problem, coordinates, logarithmic=True)
    if method == "likelihood":
        point = least_absolute(residuals, point, problem.weights, above=problem.above)
    elif rounded is not None:
        point = _quasi_newton(residuals, point, problem.weights, rounded, problem.above)
    best: FloatArray = coordinates.theta(point[None])[0]
    return best


def _quasi_newton(
    residuals: _Residuals, start: FloatArray, weights: FloatArray, delta: float, above: float
) -> FloatArray:
    step = 1e-6

    def value(point: FloatArray) -> tuple[float, FloatArray]:
        size = len(point)
        around = np.concatenate(
            [point[None], point + step * np.eye(size), point - step * np.eye(size)]
        )
        rows = residuals(around)
        slopes = (rows[1 : size + 1] - rows[size + 1 :]) / (2 * step)
        # Scaled to order one: BFGS stops on the absolute size of the gradient.
        scale = 1.0 / (delta * weights.sum())
        total = float((weights * huber(rows[0], delta, above)).sum()) * scale
        pull = weights * sides(rows[0], above) * np.clip(rows[0], -delta, delta)
        slope: FloatArray = slopes @ pull * scale
        return total, slope

    found = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    if not np.isfinite(found.fun) or found.fun > value(start)[0]:
        return start
    result: FloatArray = found.x
    return result


def _with_levels(problem: Problem, theta: FloatArray) -> FloatArray:
    if not problem.free_levels:
        return theta
    return np.concatenate([theta, np.zeros(problem.num_scales)])


def _normalised(problem: Problem, theta: FloatArray) -> FloatArray:
    """With free levels, move the formula's own level into them: its lowest run has L = L_opt."""
    if not problem.free_levels or not np.isfinite(theta).all():
        return theta
    family = problem.family
    count = len(family.parameters)
    value = family.evaluate(list(theta[:count]), problem.variables)
    lowest = float(np.min(value))
    result = theta.copy()
    if family.target == "ratio":
        if lowest <= 0:
            return theta
        result[: len(family.linear)] /= lowest
        result[count:] += np.log(lowest)
        return result
    result[0] -= lowest
    for number in range(problem.num_scales):
        reference = problem.offset[problem.scale_of == number]
        if reference.size:
            level = np.exp(theta[count + number]) * reference[0] + lowest
            result[count + number] = np.log(level / reference[0])
    return result


def _solution(problem: Problem, theta: FloatArray, method: Method, delta: float) -> Solution:
    if method != "lm":
        theta = _without_effect(problem, theta[None])[0]
    predicted = problem.predict(theta[None])[0]
    if _on_log(problem, method):
        with np.errstate(invalid="ignore", divide="ignore"):
            residual = np.log(predicted) - np.log(problem.loss)
    else:
        residual = predicted - problem.loss
    if method == "likelihood":
        lean = sides(residual, problem.above)
        objective = float((problem.weights * np.abs(residual) * lean).sum())
    elif method == "huber":
        objective = float((problem.weights * huber(residual, delta, problem.above)).sum())
    else:
        objective = float((problem.weights * residual**2).sum())
    return Solution(
        theta=theta,
        objective=objective,
        pinned=_pinned(problem, theta, method),
        unidentified=_unidentified(problem, theta),
    )


def _pinned(problem: Problem, theta: FloatArray, method: Method) -> tuple[str, ...]:
    family = problem.family
    return tuple(
        name
        for name, value in zip(family.parameters, theta, strict=False)
        if method != "lm"
        and _never_negative(problem, name)
        and value <= max(0.0, family.bounds.get(name, (0.0, 0.0))[0]) * (1 + 1e-6)
    )


def _unidentified(problem: Problem, theta: FloatArray) -> tuple[str, ...]:
    """Nonlinear parameters that could be a tenth larger without moving a run's loss."""
    family = problem.family
    found = []
    for index, name in enumerate(family.parameters):
        if name in family.nonlinear and name not in family.fixed and theta[index] != 0:
            larger = theta.copy()
            larger[index] *= 1.1
            effect = _effect(problem, larger, theta)
            if effect < _NO_EFFECT:
                found.append(name)
    return tuple(found)
