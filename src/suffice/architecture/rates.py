"""The best learning rate and batch size of a run: power laws in N and D.

    eta = 1.79 N^-0.713 D^0.307      B = 0.58 D^0.571 tokens

arXiv:2503.04715 (Step Law), for AdamW and a peak rate that falls to a fixed 1e-5; N counts
parameters without embeddings. `fit_rates` fits the same form to the best runs of one's own sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, TableError


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """`scale` N^`of_n` D^`of_d`; `intervals` are two-sided bounds of ln scale, of_n and of_d."""

    scale: float
    of_n: float
    of_d: float
    intervals: tuple[tuple[float, float], ...] = ()

    def at(self, n: float, d: float) -> float:
        """The value for N parameters and D tokens."""
        if not (n > 0 and d > 0 and np.isfinite(n) and np.isfinite(d)):
            raise InputError(f"N and D must be positive, got {n:g} and {d:g}")
        return float(self.scale * n**self.of_n * d**self.of_d)


STEP_LAW_RATE = PowerLaw(scale=1.79, of_n=-0.713, of_d=0.307)
STEP_LAW_BATCH_TOKENS = PowerLaw(scale=0.58, of_n=0.0, of_d=0.571)


def fit_rates(
    runs: RunsTable, column: str, *, confidence: float = 0.9, of_n: bool = True
) -> PowerLaw:
    """The power law of `column` (a learning rate, a batch) at the best run of each N and D.

    Least squares in logarithms, with Student's t bounds. `of_n` false leaves N out, as the Step
    Law's batch does. A grid of rates adds half a step of error to each best one: refine it first.

    Raises TableError where fewer sizes and budgets were swept than the form has coefficients.
    """
    best = runs.best_per(("N", "D"))
    logs = {name: np.log(best.column(name)) for name in ("N", "D", column)}
    columns = [np.ones(len(best)), logs["N"], logs["D"]] if of_n else [
        np.ones(len(best)), logs["D"]]  # fmt: skip
    matrix = np.stack(columns, axis=1)
    freedom = len(best) - matrix.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise TableError(
            f"{runs.source}: {len(best)} pairs of N and D cannot tell {matrix.shape[1]} "
            f"coefficients of {column}: sweep it at more sizes and budgets, at several D/N"
        )
    theta, bounds = _least_squares(matrix, logs[column], freedom, confidence)
    if not of_n:
        theta, bounds = np.insert(theta, 1, 0.0), [bounds[0], (0.0, 0.0), bounds[1]]
    return PowerLaw(
        scale=float(np.exp(theta[0])), of_n=float(theta[1]), of_d=float(theta[2]),
        intervals=tuple(bounds),
    )  # fmt: skip


def _least_squares(
    matrix: FloatArray, target: FloatArray, freedom: int, confidence: float
) -> tuple[FloatArray, list[tuple[float, float]]]:
    theta = np.asarray(np.linalg.lstsq(matrix, target, rcond=None)[0], dtype=np.float64)
    rest = target - matrix @ theta
    covariance = np.linalg.inv(matrix.T @ matrix) * float(rest @ rest) / freedom
    wide = float(stdtrit(freedom, 0.5 + confidence / 2)) * np.sqrt(np.diag(covariance))
    return theta, [(float(t - w), float(t + w)) for t, w in zip(theta, wide, strict=True)]
