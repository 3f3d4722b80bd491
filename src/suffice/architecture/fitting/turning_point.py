"""Where a U-shaped curve has its lowest point, whether it has one at all, and how sure both are.

A conditional law's curve in v is c1 ln v + c2 / v, with slope (c1 v - c2) / v^2. In ln loss, with a
free level per scale and the curves of the other variables, the coefficients come from ordinary
least squares of any sign, so that

- the test of a U asks for a falling slope at the low end of the range and a rising one at the high
  end, both by Student's t (Sasabuchi 1980; Lind and Mehlum 2010, Oxf. Bull. Econ. Stat. 72);
- the interval of the lowest point v* = c2 / c1 holds every v whose slope is not told from zero
  (Fieller 1954). It may reach past the range, or be all of it: then nothing is located.

A bootstrap of coefficients that are kept positive can do neither: it makes U-shapes out of noise
and cuts its intervals at the range. Runs of one shape count as their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError

# A lowest point counts as located from this level on: in 200 flat truths none passed it.
LOCATED_LEVEL = 0.001
# From here on a U-shape is worth a word, though not certain.
LIKELY_LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class TurningPoint:
    """The lowest point of one variable's curve.

    `value` is c2 / c1 where the curve bends upwards, else None. `low` and `high` bound it
    two-sidedly at `confidence`; None where the interval reaches past the end of the range.
    `p_u_shape` is the p-value of the test of a U. `worst_end_percent` is what the worse end of the
    range costs over the best point in it.
    """

    variable: str
    value: float | None
    low: float | None
    high: float | None
    range_low: float
    range_high: float
    p_u_shape: float
    worst_end_percent: float
    degrees_of_freedom: int
    confidence: float

    @property
    def located(self) -> bool:
        """Whether the runs show where the lowest point lies."""
        inside = self.low is not None and self.high is not None
        return inside and self.p_u_shape <= LOCATED_LEVEL

    @property
    def verdict(self) -> str:
        """One phrase for tables."""
        if self.located:
            return "U-shape, lowest point located"
        if self.p_u_shape <= LIKELY_LEVEL:
            return "U-shape likely, lowest point not located"
        return "no U-shape shown"

    def holds(self, value: float) -> bool:
        """Whether the interval holds `value`; an open end holds everything beyond the range."""
        return (self.low is None or self.low <= value) and (
            self.high is None or value <= self.high
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Runs as the regression sees them: one row per shape and scale.

    `curves` are the variables with a curve each, `slopes` those with a logarithm alone (KV share).
    """

    log_loss: FloatArray
    scale: np.ndarray
    curves: Mapping[str, FloatArray]
    slopes: Mapping[str, FloatArray]

    def matrix(self) -> FloatArray:
        """Levels, then ln v and v0 / v of each curve (v0 its geometric mean), then slopes."""
        levels = (self.scale[:, None] == np.unique(self.scale)[None]).astype(np.float64)
        columns = [levels]
        for values in self.curves.values():
            columns.append(np.stack([np.log(values), _middle(values) / values], axis=1))
        columns += [np.log(values)[:, None] for values in self.slopes.values()]
        result: FloatArray = np.concatenate(columns, axis=1)
        return result


def shape_averages(
    log_loss: FloatArray, scale: np.ndarray, shape: np.ndarray,
    curves: Mapping[str, FloatArray], slopes: Mapping[str, FloatArray],
) -> Curves:  # fmt: skip
    """Rows of runs averaged over the seeds of a shape at one scale."""
    keys = np.stack([np.asarray(scale, dtype=np.int64), np.asarray(shape, dtype=np.int64)], axis=1)
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    means = np.bincount(group, log_loss) / np.bincount(group)
    return Curves(
        log_loss=means,
        scale=np.asarray(scale)[first],
        curves={name: values[first] for name, values in curves.items()},
        slopes={name: values[first] for name, values in slopes.items()},
    )


def turning_points(
    runs: Curves, *, confidence: float = 0.9, log_loss: FloatArray | None = None
) -> tuple[TurningPoint, ...]:
    """The lowest point of every curve; `log_loss` replaces that of `runs` in simulations.

    Raises TableError if no degree of freedom is left, or curves cannot be told apart.
    """
    matrix = runs.matrix()
    freedom = len(matrix) - matrix.shape[1]
    if freedom < 1:
        raise TableError(
            f"{len(matrix)} shapes are too few for {matrix.shape[1]} coefficients of levels and "
            "curves: a lowest point needs more shapes"
        )
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise TableError(
            f"the curves in {', '.join((*runs.curves, *runs.slopes))} cannot be told apart on "
            f"these {len(matrix)} shapes"
        )
    target = runs.log_loss if log_loss is None else log_loss
    inverse = np.linalg.inv(matrix.T @ matrix)
    theta = inverse @ (matrix.T @ target)
    residual = target - matrix @ theta
    variance = float(residual @ residual) / freedom
    first = len(np.unique(runs.scale))
    found = []
    for number, (name, values) in enumerate(runs.curves.items()):
        rows = slice(first + 2 * number, first + 2 * number + 2)
        found.append(
            _turning_point(
                name, values, theta[rows], variance * inverse[rows, rows], freedom, confidence
            )
        )
    return tuple(found)


def _turning_point(
    name: str, values: FloatArray, theta: FloatArray, covariance: FloatArray, freedom: int,
    confidence: float,
) -> TurningPoint:  # fmt: skip
    low, high, middle = float(values.min()), float(values.max()), _middle(values)
    c1, c2 = float(theta[0]), float(theta[1]) * middle
    ends = [_slope_t(theta, covariance, v / middle) for v in (low, high)]
    p = max(float(stdtr(freedom, ends[0])), float(stdtr(freedom, -ends[1])))
    value = c2 / c1 if c1 > 0 and c2 > 0 else None
    bounds = _interval(theta, covariance, freedom, confidence, low / middle, high / middle)
    loss = {v: c1 * np.log(v) + c2 / v for v in (low, high)}
    best = min([*loss.values(), *([] if value is None or not low < value < high
                                  else [c1 * np.log(value) + c2 / value])])  # fmt: skip
    return TurningPoint(
        variable=name,
        value=value,
        low=None if bounds[0] is None else bounds[0] * middle,
        high=None if bounds[1] is None else bounds[1] * middle,
        range_low=low,
        range_high=high,
        p_u_shape=p,
        worst_end_percent=100 * float(np.expm1(max(loss.values()) - best)),
        degrees_of_freedom=freedom,
        confidence=confidence,
    )


def _slope_t(theta: FloatArray, covariance: FloatArray, at: float) -> float:
    """t of the slope c1 - c2 / v at v = `at`, in units of the middle."""
    weights = np.array([1.0, -1.0 / at])
    error = float(np.sqrt(max(weights @ covariance @ weights, 1e-300)))
    return float(weights @ theta) / error


def _interval(
    theta: FloatArray, covariance: FloatArray, freedom: int, confidence: float,
    low: float, high: float,
) -> tuple[float | None, float | None]:  # fmt: skip
    """Bounds of the values whose slope is not told from zero, inside [low, high].

    Outside them the slope falls on the left and rises on the right; where one side has no such
    part inside the range, its bound is None.
    """
    quantile = float(stdtrit(freedom, 0.5 + confidence / 2))
    grid = np.geomspace(low, high, 2001)
    weights = np.stack([np.ones_like(grid), -1.0 / grid], axis=1)
    error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", weights, covariance, weights), 1e-300))
    t = (weights @ theta) / error
    falls, rises = np.flatnonzero(t < -quantile), np.flatnonzero(t > quantile)
    left = float(grid[falls[-1]]) if len(falls) and falls[0] == 0 else None
    right = float(grid[rises[0]]) if len(rises) and rises[-1] == len(grid) - 1 else None
    return left, right


def _middle(values: Sequence[float] | FloatArray) -> float:
    return float(np.exp(np.mean(np.log(values))))
