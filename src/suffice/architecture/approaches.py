"""N* and D* from runs without a law: the envelope of losses and parabolas at equal compute.

Approaches 1 and 2 of arXiv:2203.15556, section 3; approach 3 is a fitted law
(`suffice.architecture.optimum`). Both give N* = k C^a by least squares in logarithms.

1  For each budget the run with the lowest loss at no more compute: the lower envelope.
2  For each group of runs at equal compute a parabola of the loss in ln N; its lowest point is N*.
   Parabolas are biased where a curve is not symmetric in ln N (arXiv:2603.22339).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from suffice.architecture.fitting.problem import gap_groups
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, TableError

# Runs of equal compute differ in it by less than this, in ln.
SAME_BUDGET = 0.15
_FEWEST_OF_A_BUDGET = 3
_FEWEST_BUDGETS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptimum:
    """The best N (parameters) and D (tokens) of one budget, FLOPs, by the runs near it."""

    flops: float
    N: float
    D: float
    loss: float
    runs: int
    inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """N* = `scale` C^`exponent` through the optima of several budgets.

    `low` and `high` bound the exponent two-sidedly at `confidence`, by Student's t over the
    budgets; None with two of them. `approach` is 1 (envelope) or 2 (parabolas).
    """

    approach: int
    optima: tuple[BudgetOptimum, ...]
    scale: float
    exponent: float
    low: float | None
    high: float | None
    confidence: float
    notes: tuple[str, ...]

    def parameters(self, flops: float) -> float:
        """N* at a budget."""
        return float(self.scale * flops**self.exponent)


def parabolas(
    runs: RunsTable, *, flops_per_token: float = 6.0, confidence: float = 0.9
) -> Frontier:
    """Approach 2: the lowest point of a parabola in ln N at each compute that the runs share.

    Raises TableError where fewer than two budgets have three sizes and a lowest point.
    """
    n, _, loss, flops = _columns(runs, flops_per_token)
    groups = gap_groups(np.log(flops), SAME_BUDGET)
    optima, notes = [], []
    for group in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups == group)
        if len(np.unique(n[rows])) < _FEWEST_OF_A_BUDGET:
            continue
        logs = np.log(n[rows])
        a, b, c = np.polyfit(logs - logs.mean(), loss[rows], 2)
        budget = float(np.exp(np.log(flops[rows]).mean()))
        if a <= 0:
            notes.append(f"at {budget:.3g} FLOPs the losses bend downwards: no lowest point")
            continue
        at = float(-b / (2 * a) + logs.mean())
        inside = bool(logs.min() < at < logs.max())
        if not inside:
            notes.append(
                f"at {budget:.3g} FLOPs the lowest point lies outside the sizes: left out of the "
                "exponent"
            )
        size = float(np.exp(at))
        optima.append(
            BudgetOptimum(
                flops=budget, N=size, D=budget / (flops_per_token * size),
                loss=float(c - b**2 / (4 * a)), runs=len(rows), inside=inside,
            )
        )  # fmt: skip
    return _frontier(2, optima, notes, confidence, runs.source)


def envelope(runs: RunsTable, *, flops_per_token: float = 6.0, confidence: float = 0.9) -> Frontier:
    """Approach 1: the runs that no other run beats at equal or less compute.

    The paper takes whole loss curves; with final losses alone the envelope is coarser.
    """
    n, d, loss, flops = _columns(runs, flops_per_token)
    # Equal budgets that differ by rounding alone are one.
    order = np.lexsort((loss, np.round(np.log(flops), 6)))
    lowest = np.inf
    optima = []
    for row in order.tolist():
        if loss[row] < lowest:
            lowest = float(loss[row])
            optima.append(
                BudgetOptimum(
                    flops=float(flops[row]), N=float(n[row]), D=float(d[row]), loss=lowest,
                    runs=1, inside=True,
                )
            )  # fmt: skip
    return _frontier(1, optima, [], confidence, runs.source)


def _columns(
    runs: RunsTable, flops_per_token: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    if not np.isfinite(flops_per_token) or flops_per_token <= 0:
        raise InputError(f"FLOPs per token must be positive, got {flops_per_token:g}")
    n, d = runs.column("N"), runs.column("D")
    flops = runs.column("C") if runs.has("C") else flops_per_token * n * d
    return n, d, runs.column("loss"), flops


def _frontier(
    approach: int, optima: list[BudgetOptimum], notes: list[str], confidence: float, source: str
) -> Frontier:
    used = [each for each in optima if each.inside]
    if len(used) < _FEWEST_BUDGETS:
        raise TableError(
            f"{source}: approach {approach} finds a best size at {len(used)} budgets, two are "
            "needed: it takes runs of three sizes and more at equal compute"
            if approach == 2
            else f"{source}: {len(used)} runs lie on the envelope, two are needed"
        )
    x = np.log([each.flops for each in used])
    y = np.log([each.N for each in used])
    slope, level = np.polyfit(x - x.mean(), y, 1)
    low, high = _bounds(x, y, float(slope), float(level), confidence)
    return Frontier(
        approach=approach,
        optima=tuple(optima),
        scale=float(np.exp(level - slope * x.mean())),
        exponent=float(slope),
        low=low,
        high=high,
        confidence=confidence,
        notes=tuple(notes),
    )


def _bounds(
    x: FloatArray, y: FloatArray, slope: float, level: float, confidence: float
) -> tuple[float, float] | tuple[None, None]:
    freedom = len(x) - 2
    if freedom < 1:
        return None, None
    centred = x - x.mean()
    rest = y - level - slope * centred
    error = float(np.sqrt(rest @ rest / freedom / (centred @ centred)))
    wide = float(stdtrit(freedom, 0.5 + confidence / 2)) * error
    return slope - wide, slope + wide
