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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError

# A lowest point counts as located from this level on: in 200 flat truths none passed it.
LOCATED_LEVEL = 0.001
# Variables that conditional laws have a curve in.
CURVED = ("x", "r", "layers", "width_per_layer")
# Range of a logarithm below which a variable has no curve to fit.
CONSTANT = 0.05
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
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


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
        bent = [
            np.stack([np.log(values), _middle(values) / values], axis=1)
            for values in self.curves.values()
        ]
        straight = [np.log(values)[:, None] for values in self.slopes.values()]
        result: FloatArray = np.concatenate([levels, *bent, *straight], axis=1)
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
        middle = _middle(values)
        bend = _Bend(
            theta[rows], variance * inverse[rows, rows], freedom,
            float(values.min()) / middle, float(values.max()) / middle,
        )  # fmt: skip
        found.append(_turning_point(name, values, bend, confidence))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Bend:
    """c1 and c2 over the middle, their covariance, degrees of freedom, and the range over it."""

    theta: FloatArray
    covariance: FloatArray
    freedom: int
    low: float
    high: float

    def slope_t(self, at: FloatArray) -> FloatArray:
        """Student's t of the slope c1 - c2 / v at each v of `at`."""
        weights = np.stack([np.ones_like(at), -1.0 / at], axis=1)
        variance = np.einsum("ij,jk,ik->i", weights, self.covariance, weights)
        result: FloatArray = (weights @ self.theta) / np.sqrt(np.maximum(variance, 1e-300))
        return result

    def bounds(self, confidence: float) -> tuple[float | None, float | None]:
        """Ends of the values whose slope is not told from zero, inside the range.

        Left of them the slope falls, right of them it rises; where one of these parts is missing,
        its bound is None.
        """
        quantile = float(stdtrit(self.freedom, 0.5 + confidence / 2))
        grid = np.geomspace(self.low, self.high, 2001)
        t = self.slope_t(grid)
        falls, rises = np.flatnonzero(t < -quantile), np.flatnonzero(t > quantile)
        left = float(grid[falls[-1]]) if len(falls) and falls[0] == 0 else None
        right = float(grid[rises[0]]) if len(rises) and rises[-1] == len(grid) - 1 else None
        return left, right


def _turning_point(name: str, values: FloatArray, bend: _Bend, confidence: float) -> TurningPoint:
    low, high, middle = float(values.min()), float(values.max()), _middle(values)
    c1, c2 = float(bend.theta[0]), float(bend.theta[1]) * middle
    falls, rises = bend.slope_t(np.array([bend.low, bend.high]))
    left, right = bend.bounds(confidence)
    value = c2 / c1 if c1 > 0 and c2 > 0 else None
    at = [low, high, *([value] if value is not None and low < value < high else [])]
    loss = [c1 * float(np.log(v)) + c2 / v for v in at]
    return TurningPoint(
        variable=name,
        value=value,
        low=None if left is None else left * middle,
        high=None if right is None else right * middle,
        range_low=low,
        range_high=high,
        p_u_shape=max(float(stdtr(bend.freedom, falls)), float(stdtr(bend.freedom, -rises))),
        worst_end_percent=100 * float(np.expm1(max(loss[:2]) - min(loss))),
        degrees_of_freedom=bend.freedom,
        confidence=confidence,
    )


def _middle(values: FloatArray) -> float:
    return float(np.exp(np.mean(np.log(values))))
