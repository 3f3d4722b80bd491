"""Minimise many weighted robust problems at once: the same runs, other weights or other starts.

B problems   Q free coordinates   n runs
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog

from suffice.core.arrays import FloatArray

Residuals = Callable[[FloatArray], FloatArray]

_STEP = 1e-6
_HOPELESS = 1e14


def huber(residual: FloatArray, delta: float | None, above: float = 1.0) -> FloatArray:
    """Huber's ρ: r²/2 up to `delta`, linear beyond; `delta` None is r²/2 throughout.

    Residuals above zero count `above` times.
    """
    if delta is None:
        rho = 0.5 * residual**2
    else:
        size = np.abs(residual)
        rho = np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))
    return rho if above == 1.0 else rho * sides(residual, above)


def sides(residual: FloatArray, above: float) -> FloatArray:
    """`above` for residuals above zero, else 1."""
    return np.where(residual > 0, above, 1.0)


def jacobian(residuals: Residuals, point: FloatArray, at: FloatArray) -> FloatArray:
    """∂ residuals / ∂ coordinates (B, Q, n) by forward differences; `at` = residuals(point)."""
    columns = []
    for q in range(point.shape[1]):
        step = _STEP * np.maximum(1.0, np.abs(point[:, q]))
        moved = point.copy()
        moved[:, q] += step
        columns.append((residuals(moved) - at) / step[:, None])
    return np.stack(columns, axis=1)


def minimise_batch(
    residuals: Residuals,
    start: FloatArray,
    weights: FloatArray,
    *,
    delta: float | None,
    above: float = 1.0,
    iterations: int = 200,
    tolerance: float = 1e-10,
) -> tuple[FloatArray, FloatArray]:
    """Minimise Σ w ρ(residual) for each row of `start` (B, Q) under its `weights` (B, n).

    Levenberg-Marquardt on reweighted squares: the quadratic that touches ρ from above makes every
    accepted step a descent. Returns the points and their objectives; a problem that never becomes
    finite keeps an infinite objective.
    """
    point, damping = start.copy(), np.full(len(start), 1e-3)
    objective = np.full(len(start), np.inf)
    active = np.arange(len(start))
    residual = residuals(point)
    objective = _objective(residual, weights, delta, above)
    idle = np.zeros(len(start), dtype=np.intp)
    for _ in range(iterations):
        if not active.size:
            break
        here, r, w = point[active], residual[active], weights[active]
        # Reweighted squares: a residual above zero weighs `above` times as much.
        steep = w if above == 1.0 else w * sides(r, above)
        step = _step(jacobian(residuals, here, r), r, steep, damping[active], delta)
        trial = here + step
        trial_r = residuals(trial)
        trial_objective = _objective(trial_r, w, delta, above)
        better = trial_objective < objective[active]
        gain = np.where(better, objective[active] - trial_objective, 0.0)
        small = gain <= tolerance * objective[active]
        moved = active[better]
        point[moved], residual[moved] = trial[better], trial_r[better]
        objective[moved] = trial_objective[better]
        damping[active] *= np.where(better, 0.2, 8.0)
        idle[active] = np.where(better & small, idle[active] + 1, 0)
        done = (idle[active] >= 2) | (damping[active] > _HOPELESS)
        active = active[~done]
    return point, objective


def _objective(
    residual: FloatArray, weights: FloatArray, delta: float | None, above: float
) -> FloatArray:
    with np.errstate(invalid="ignore", over="ignore"):
        value = (weights * huber(residual, delta, above)).sum(axis=1)
    return np.where(np.isfinite(value), value, np.inf)


def _step(
    slopes: FloatArray,
    residual: FloatArray,
    weights: FloatArray,
    damping: FloatArray,
    delta: float | None,
) -> FloatArray:
    if delta is not None:
        weights = weights * (delta / np.maximum(np.abs(residual), delta))
    with np.errstate(invalid="ignore", over="ignore"):
        weighted = slopes * weights[:, None, :]
        curvature = weighted @ slopes.transpose(0, 2, 1)
        gradient = weighted @ residual[:, :, None]
    curvature = np.nan_to_num(curvature, nan=0.0, posinf=0.0, neginf=0.0)
    gradient = np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    diagonal = np.einsum("bqq->bq", curvature)
    ridge = damping[:, None] * diagonal + 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300
    curvature = curvature + ridge[:, :, None] * np.eye(slopes.shape[1])
    step: FloatArray = -np.linalg.solve(curvature, gradient)[:, :, 0]
    return step


def least_absolute(
    residuals: Residuals, start: FloatArray, weights: FloatArray, *, above: float = 1.0,
    iterations: int = 100,
) -> FloatArray:  # fmt: skip
    """The point (Q,) that minimises Σ w |residual|, by linear programmes in a trust region.

    Residuals above zero count `above` times.

    Exact at the optimum, where as many residuals vanish as there are coordinates and gradient
    methods stall.
    """
    point, radius = start.copy(), 0.5
    residual = residuals(point[None])[0]
    for _ in range(iterations):
        slopes = jacobian(residuals, point[None], residual[None])[0].T
        size, width = slopes.shape
        found = linprog(
            np.r_[np.zeros(width), above * weights, weights],
            A_eq=np.hstack([slopes, -np.eye(size), np.eye(size)]),
            b_eq=-residual,
            bounds=[(-radius, radius)] * width + [(0, None)] * (2 * size),
            method="highs",
        )
        if found.x is None:
            radius /= 4
            continue
        step = found.x[:width]
        trial = residuals((point + step)[None])[0]
        cost, was = (
            float((weights * np.abs(r) * sides(r, above)).sum()) for r in (trial, residual)
        )
        if cost < was:
            point, residual, radius = point + step, trial, min(2 * radius, 1.0)
        else:
            radius /= 4
        if np.abs(step).max() < 1e-10 or radius < 1e-12:
            break
    return point
