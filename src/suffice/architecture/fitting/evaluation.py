"""How good a law is on runs: errors, rank correlation with its p value, and regret."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from suffice.architecture.fitting.problem import Problem
from suffice.architecture.laws import NOISE_FLOOR_NATS
from suffice.core.arrays import FloatArray, IntArray

# All orders of this many runs are counted; beyond, a sample of them.
_EXACT_UP_TO = 8
_NUM_SAMPLED = 9_999


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's ρ over `n` runs and its one-sided permutation p: chance of ρ this high.

    `exact` p values count all orders: n = 4 can never go below 1/24. None where a side is
    constant or n < 2.
    """

    rho: float | None
    n: int
    p: float | None
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleEvaluation:
    """One scale: rank correlation of its shapes, and the loss given up by the law's pick (nats).

    Runs of one shape (seeds) count as their mean. `n` shapes; `regret_nats` = mean loss of the
    shape with the lowest prediction − lowest mean loss; `picked` and `best` are positions of the
    first runs of these two shapes.
    """

    name: str
    n: int
    spearman: RankCorrelation
    regret_nats: float
    picked: int
    best: int

    @property
    def tie(self) -> bool:
        """Whether the regret is within what repeated runs differ by."""
        return self.regret_nats <= NOISE_FLOOR_NATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Errors of predictions on `n` runs, losses in nats."""

    n: int
    mse: float
    log_rmse: float
    r_squared: float | None
    max_relative_error: float
    spearman: RankCorrelation
    scales: tuple[ScaleEvaluation, ...]

    @property
    def regret_nats(self) -> float | None:
        """Largest regret over the scales that hold at least two shapes."""
        return max((scale.regret_nats for scale in self.scales), default=None)


def evaluate(problem: Problem, predicted: FloatArray, *, seed: int = 0) -> Evaluation:
    """The evaluation of `predicted` losses on the problem's runs."""
    loss = problem.loss
    error = predicted - loss
    spread = float(((loss - loss.mean()) ** 2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        log_error = np.log(predicted) - np.log(loss)
    return Evaluation(
        n=len(loss),
        mse=float((error**2).mean()),
        log_rmse=float(np.sqrt((log_error**2).mean())),
        r_squared=1.0 - float((error**2).sum()) / spread if spread > 0 else None,
        max_relative_error=float(np.abs(error / loss).max()),
        spearman=rank_correlation(predicted, loss, seed=seed),
        scales=_by_scale(problem, predicted, seed),
    )


def rank_correlation(first: FloatArray, second: FloatArray, *, seed: int = 0) -> RankCorrelation:
    """Spearman's ρ of two columns with an exact p for up to 8 runs, a sampled one beyond."""
    n = len(first)
    exact = n <= _EXACT_UP_TO
    a, b = (_standardised_ranks(values) for values in (first, second))
    if a is None or b is None:
        return RankCorrelation(rho=None, n=n, p=None, exact=exact)
    rho = float(a @ b)
    if exact:
        p = float(((b[_orders(n)] @ a) >= rho - 1e-12).sum()) / factorial(n)
    else:
        draws = np.random.default_rng(seed).permuted(np.tile(b, (_NUM_SAMPLED, 1)), axis=1)
        p = (1.0 + float((draws @ a >= rho - 1e-12).sum())) / (1.0 + _NUM_SAMPLED)
    return RankCorrelation(rho=rho, n=n, p=p, exact=exact)


@cache
def _orders(n: int) -> NDArray[np.intp]:
    return np.array(list(permutations(range(n))), dtype=np.intp)


def _by_scale(problem: Problem, predicted: FloatArray, seed: int) -> tuple[ScaleEvaluation, ...]:
    if not problem.has_shapes:
        return ()
    results = []
    for number, name in enumerate(problem.scale_names):
        rows = np.flatnonzero(problem.scale_of == number)
        shapes = shape_means(problem.shape_of[rows], problem.loss[rows], predicted[rows])
        if len(shapes.first) < 2:
            continue
        picked, best = int(np.argmin(shapes.predicted)), int(np.argmin(shapes.loss))
        results.append(
            ScaleEvaluation(
                name=name,
                n=len(shapes.first),
                spearman=rank_correlation(shapes.predicted, shapes.loss, seed=seed),
                regret_nats=float(shapes.loss[picked] - shapes.loss[best]),
                picked=int(rows[shapes.first[picked]]),
                best=int(rows[shapes.first[best]]),
            )
        )
    return tuple(results)


class ShapeMeans(NamedTuple):
    """Mean loss and mean prediction of each shape, and the position of its first run."""

    loss: FloatArray
    predicted: FloatArray
    first: NDArray[np.intp]


def shape_means(shape_of: IntArray, loss: FloatArray, predicted: FloatArray) -> ShapeMeans:
    """Means over the runs of each shape, shapes in the order of their first runs."""
    _, first, number = np.unique(shape_of, return_index=True, return_inverse=True)
    counts = np.bincount(number)
    order = np.argsort(first)
    loss_means = np.bincount(number, loss) / counts
    predicted_means = np.bincount(number, predicted) / counts
    return ShapeMeans(loss_means[order], predicted_means[order], first[order])


def _standardised_ranks(values: FloatArray) -> FloatArray | None:
    # Rounded so that predictions equal up to arithmetic tie.
    ranks = rankdata(np.round(values, 12))
    ranks = ranks - ranks.mean()
    norm = float(np.linalg.norm(ranks))
    return ranks / norm if len(values) > 1 and norm > 0 else None
