"""Alarms of a fit: units that cannot be, rows that contradict each other, fits that explain little.

They are sentences for people; what they are about is in the result's own fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suffice.architecture.fitting.evaluation import Evaluation
from suffice.architecture.fitting.problem import Problem
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError

# Below this share of explained variance a law is not worth its name.
LEAST_R_SQUARED = 0.5
# Root mean square of ln loss above which a fit is bad whatever its method: published ones are .01.
LARGEST_LOG_RMSE = 0.05
# Rows of equal N and D contradict each other from so many residual deviations on, and by 2 %.
CONTRADICTION_SDS = 8.0
LEAST_CONTRADICTION = 0.02
WORST_ROWS = 5
# N or D that differ by so much inside a scale, in ln, and go with a shape variable by so much.
DRIFT, DRIFT_CORRELATION = 0.02, 0.5
# From here on a conditional fit is refused: at published exponents 10 % of D are .6 % of the loss.
REFUSED_DRIFT, REFUSED_CORRELATION = 0.1, 0.9
# Beyond these a column is in other units than its name says.
FEWEST_PARAMETERS = 1e4
FEWEST_TOKENS = 1e6
LARGEST_LOSS_NATS = 7.0
LARGEST_E_NATS = 5.0
SMALLEST_LOSS_NATS = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResidual:
    """A run's row in the file, from 1, and ln(measured / predicted loss)."""

    row: int
    log_residual: float


def worst_rows(problem: Problem, runs: RunsTable, predicted: FloatArray) -> tuple[RowResidual, ...]:
    """The runs that the law misses by most, largest first."""
    residual = np.log(problem.loss) - np.log(predicted)
    order = np.argsort(-np.abs(residual), kind="stable")[:WORST_ROWS]
    return tuple(RowResidual(row=runs.row(int(i)), log_residual=float(residual[i])) for i in order)


def unit_warnings(runs: RunsTable, law_e: float | None) -> list[str]:
    """Columns that look as if they were in other units; `law_e` is a fitted E in nats."""
    found = []
    if runs.has("N") and float(runs.column("N").max()) < FEWEST_PARAMETERS:
        most = float(runs.column("N").max())
        found.append(f"N reaches {most:g} at most: it counts parameters, not millions of them")
    if runs.has("D") and float(runs.column("D").max()) < FEWEST_TOKENS:
        most = float(runs.column("D").max())
        found.append(f"D reaches {most:g} at most: it counts tokens, not billions of them")
    loss = runs.column("loss")
    if float(np.median(loss)) > LARGEST_LOSS_NATS:
        found.append(
            f"half of the losses are above {float(np.median(loss)):.3g}: a loss is in nats per "
            "token; a perplexity is its exponential"
        )
    if float(np.median(loss)) < SMALLEST_LOSS_NATS:
        found.append(
            f"half of the losses are below {float(np.median(loss)):.3g}: bits per byte have "
            "exponents of their own, and shares of N* and D* carry over, losses do not"
        )
    if law_e is not None and law_e > LARGEST_E_NATS:
        found.append(f"E is {law_e:.3g} nats: no text has so much entropy a token; check the units")
    if runs.assumed_tokens:
        found.append(
            "D is made up as C / (6 N): attention and the head are left out, which at small sizes "
            "moves B by a fifth; give D, or what your C counts with --flops-per-token"
        )
    return found


def misfit_warnings(evaluation: Evaluation) -> list[str]:
    """A fit that explains little of the losses."""
    found = []
    r_squared = evaluation.r_squared
    if r_squared is not None and r_squared < LEAST_R_SQUARED:
        found.append(
            f"R² is {r_squared:.3f}: the law explains less than half of what the losses differ by"
        )
    if evaluation.log_rmse > LARGEST_LOG_RMSE:
        found.append(
            f"losses scatter by {100 * evaluation.log_rmse:.0f} % about the law, where published "
            "fits are within 1: look at the rows that are missed by most"
        )
    return found


def contradictions(
    problem: Problem, runs: RunsTable, predicted: FloatArray, variables: Sequence[str]
) -> list[str]:
    """Rows alike in all of the law's variables whose losses differ by more than the scatter."""
    columns = [name for name in ("N", "D", *variables) if runs.has(name)]
    if not columns:
        return []
    keys = np.stack([runs.column(name) for name in dict.fromkeys(columns)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    log_loss = np.log(problem.loss)
    residual = log_loss - np.log(predicted)
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    limit = max(CONTRADICTION_SDS * spread, LEAST_CONTRADICTION)
    widest: tuple[float, int, int] = (0.0, 0, 0)
    count = 0
    for number in np.flatnonzero(np.bincount(group) > 1):
        rows = np.flatnonzero(group == number)
        low, high = rows[np.argmin(log_loss[rows])], rows[np.argmax(log_loss[rows])]
        gap = float(log_loss[high] - log_loss[low])
        count += gap > limit
        widest = max(widest, (gap, int(low), int(high)))
    if not count:
        return []
    _, low, high = widest
    several = f" ({count} such groups)" if count > 1 else ""
    alike = ", ".join(dict.fromkeys(columns))
    losses = f"{problem.loss[low]:.4g} and {problem.loss[high]:.4g}"
    return [
        f"rows {runs.row(low)} and {runs.row(high)} have equal {alike} and losses of {losses}"
        f"{several}: a sweep or a broken run? --best-per N,D keeps the best of each"
    ]


def drifts(problem: Problem, runs: RunsTable) -> list[str]:
    """Sizes or budgets that go with the shape inside a scale of a conditional fit.

    Their effect on the loss is then taken for the shape's. Raises TableError where they go with it
    so closely that an optimum means nothing, unless a `scale` column says that they are one scale.
    """
    if not problem.family.conditional:
        return []
    found = []
    for number, scale in enumerate(problem.scale_names):
        rows = problem.scale_of == number
        for size in (name for name in ("N", "D") if runs.has(name)):
            logs = np.log(runs.column(size)[rows])
            spread = float(np.ptp(logs))
            if rows.sum() < 4 or spread <= DRIFT:
                continue
            for name in problem.family.shape_variables:
                together = _together(logs, np.log(problem.variables[name][rows]))
                if abs(together) <= DRIFT_CORRELATION:
                    continue
                percent = f"{100 * np.expm1(spread):.0f} %"
                what = (
                    f"inside the scale {scale} {size} differs by {percent} and goes with {name} "
                    f"(correlation {together:+.2f})"
                )
                severe = spread > REFUSED_DRIFT and abs(together) > REFUSED_CORRELATION
                if severe and "scale" not in runs.labels:
                    raise TableError(
                        f"{runs.source}: {what}: its effect would be taken for that of {name}; "
                        f"keep runs of equal {size}, or add a `scale` column that names it"
                    )
                found.append(f"{what}: part of its effect is taken for that of {name}")
    return found


def _together(first: FloatArray, second: FloatArray) -> float:
    if np.ptp(first) < 1e-9 or np.ptp(second) < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
