"""Which form of law predicts runs that it has not seen: other shapes, and the next size.

Two tests, both on ln loss. Leave-one-shape-out: every run is predicted by a fit without any run of
its shape. Next size: all runs of the largest N are predicted by a fit without them; there the
level of the loss is the new scale's own, which a law of shape cannot know, so errors are given
both with the level taken from the best measured run (as arXiv:2510.18245 does) and without level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from suffice.architecture.fitting.evaluation import RankCorrelation, rank_correlation, shape_means
from suffice.architecture.fitting.problem import (
    Problem,
    build_problem,
    largest_size,
    shape_clusters,
)
from suffice.architecture.fitting.solve import Method, Solution, bootstrap, solve
from suffice.architecture.laws import Family, load_family
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray, IntArray
from suffice.core.errors import TableError


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSize:
    """The largest size, predicted without it. Losses in nats.

    `mse` is with the level of the best measured run, or the law's own for absolute laws;
    `log_rmse` is the error of ln loss about the level that suits the runs best. `regret_nats` is
    what the law's pick loses against the best run. `rows` are the runs' positions in the table.
    """

    scale: str
    n: int
    mse: float
    log_rmse: float
    spearman: RankCorrelation
    regret_nats: float
    rows: tuple[int, ...] = field(repr=False)
    measured: FloatArray = field(repr=False)
    predicted: FloatArray = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormResult:
    """How one family does. `cross_validated` is the RMSE of ln loss over shapes left out in turn.

    `squared_errors` are those of ln loss, one per run, NaN where a run's scale has no other shape;
    `shape_of` numbers the runs' shapes.
    """

    family: str
    formula: str
    free_coefficients: int
    log_rmse: float
    cross_validated: float
    squared_errors: FloatArray = field(repr=False)
    shape_of: IntArray = field(repr=False)
    next_size: NextSize | None = None


def compare_forms(
    runs: RunsTable,
    families: Sequence[str | Family],
    *,
    method: Method = "huber",
    delta: float = 1e-3,
    seed: int = 0,
) -> tuple[FormResult, ...]:
    """Each family on `runs`, in the order given; conditional ones with a free level per scale.

    Raises TableError where a column is missing or the runs are too few for a family.
    """
    results = []
    for item in families:
        family = load_family(item) if isinstance(item, str) else item
        problem = build_problem(runs, family, optimal_loss="free")
        levels = problem.num_scales - 1 if problem.free_levels else 0
        if len(runs) <= family.num_free + levels + 1:
            raise TableError(
                f"{runs.source}: {len(runs)} runs are too few to compare {family.name} with "
                f"{family.num_free} coefficients"
            )
        solution = solve(problem, method, delta=delta)
        inside = np.log(problem.predict(solution.theta[None])[0]) - np.log(problem.loss)
        squared = _left_out(runs, problem, solution, method, delta)
        results.append(
            FormResult(
                family=family.name,
                formula=family.formula,
                free_coefficients=family.num_free,
                log_rmse=float(np.sqrt((inside**2).mean())),
                cross_validated=float(np.sqrt(np.nanmean(squared))),
                squared_errors=squared,
                shape_of=shape_clusters(runs),
                next_size=_next_size(runs, problem, method, delta, seed),
            )
        )
    return tuple(results)


def simplest_within_error(results: Sequence[FormResult]) -> FormResult:
    """The form with the fewest coefficients that is not told from the best one.

    Breiman's rule with the standard error of the *paired* difference of left-out squared errors,
    over shapes: repeats and budgets of a shape err alike, and what is hard for all forms cancels.
    Next-size results play no part.
    """
    best = min(results, key=lambda result: result.cross_validated)
    alike = [result for result in results if _not_worse(result, best)]
    return min(alike, key=lambda result: (result.free_coefficients, result.cross_validated))


def _not_worse(result: FormResult, best: FormResult) -> bool:
    """Whether the mean difference of squared errors is within its standard error.

    Over shapes, each counting once with the mean of its runs.
    """
    if result is best:
        return True
    difference = result.squared_errors - best.squared_errors
    known = np.isfinite(difference)
    _, shape = np.unique(best.shape_of[known], return_inverse=True)
    shape = shape.reshape(-1)
    means = np.bincount(shape, difference[known]) / np.bincount(shape)
    if len(means) < 2:
        return bool(means.mean() <= 0)
    return bool(means.mean() <= means.std(ddof=1) / np.sqrt(len(means)))


def _left_out(
    runs: RunsTable, problem: Problem, solution: Solution, method: Method, delta: float
) -> FloatArray:
    """Squared error of ln loss of each run under the fit without its shape.

    The fits go together, each from the full fit: a weight of zero leaves a run out.
    """
    clusters = shape_clusters(runs)
    names = np.unique(clusters)
    keep = (clusters[None] != names[:, None]).astype(np.float64)
    thetas = bootstrap(problem, solution, method, keep * problem.weights, delta=delta)
    squared = np.full(len(runs), np.nan)
    for name, theta in zip(names, thetas, strict=True):
        out = clusters == name
        if problem.free_levels:
            # A scale without another shape has no level to predict from.
            out &= np.isin(problem.scale_of, problem.scale_of[clusters != name])
        if out.any() and np.isfinite(theta).all():
            error = np.log(problem.predict(theta[None])[0][out]) - np.log(problem.loss[out])
            squared[out] = error**2
    return squared


def _next_size(
    runs: RunsTable, problem: Problem, method: Method, delta: float, seed: int
) -> NextSize | None:
    largest, name = largest_size(runs, problem)
    if largest.all() or largest.sum() < 2 or (~largest).sum() <= problem.family.num_free + 1:
        return None
    trained = solve(problem.take(~largest), method, delta=delta)
    held = problem.take(largest)
    theta = trained.theta.copy()
    if problem.free_levels:
        theta[len(problem.family.parameters) :] = 0.0
    predicted = held.predict(theta[None])[0]
    log_error = np.log(predicted) - np.log(held.loss)
    if problem.family.conditional:
        # The best measured run sets the level: its own prediction is made exact.
        # Repeats of a shape count as their mean, so that the luckiest seed does not set it.
        means = shape_means(held.shape_of, np.log(held.loss), log_error)
        level = float(means.predicted[int(np.argmin(means.loss))])
        predicted = predicted * np.exp(-level)
    shapes = shape_means(held.shape_of, held.loss, predicted)
    picked = int(np.argmin(shapes.predicted))
    return NextSize(
        scale=name,
        n=int(largest.sum()),
        mse=float(((predicted - held.loss) ** 2).mean()),
        log_rmse=float(np.std(log_error)),
        spearman=rank_correlation(shapes.predicted, shapes.loss, seed=seed),
        regret_nats=float(shapes.loss[picked] - shapes.loss.min()),
        rows=tuple(int(row) for row in np.flatnonzero(largest)),
        measured=held.loss,
        predicted=predicted * np.exp(-float((np.log(predicted) - np.log(held.loss)).mean())),
    )
