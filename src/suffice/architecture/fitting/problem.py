"""What a fit minimises: a family, the runs it sees, and the losses it predicts for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.laws import Family
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, TableError

IntArray = NDArray[np.intp]

# L_opt per scale: the best measured run (as arXiv:2510.18245 below 1B), or one free level each.
OptimalLoss = Literal["best", "free"]

# Runs of one scale have N (and D) without a gap wider than this, in ln: 16 %.
_SCALE_GAP = 0.15
# A chain of small gaps that spans more than this is no scale: it is cut into bins of one gap.
_SCALE_SPAN = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Runs in the form a fit needs; predicted loss = offset + factor * family's formula.

    `scale_of` numbers the scale (equal N and D) of each run, `scale_names` describe them.
    `has_shapes`: the runs say what shape they are, so that picks among them can be judged;
    `shape_of` numbers the shape of each run, seeds and budgets together.
    `above` weighs residuals of runs that are predicted too high.
    With `free_levels`, the parameters are followed by one ln(level) per scale that multiplies
    L_opt.
    """

    family: Family
    variables: Mapping[str, FloatArray]
    loss: FloatArray
    weights: FloatArray
    offset: FloatArray
    factor: FloatArray
    scale_of: IntArray
    scale_names: tuple[str, ...]
    shape_of: IntArray
    free_levels: bool = False
    has_shapes: bool = False
    above: float = 1.0

    @property
    def num_scales(self) -> int:
        """Distinct scales."""
        return len(self.scale_names)

    def predict(self, theta: FloatArray) -> FloatArray:
        """Loss (B, runs) under parameter vectors `theta` (B, parameters [+ levels])."""
        wanted = len(self.family.parameters)
        columns = [theta[:, i, None] for i in range(wanted)]
        with np.errstate(over="ignore", invalid="ignore"):
            value = self.family.evaluate(columns, self.variables)
            if not self.free_levels:
                result: FloatArray = self.offset + self.factor * value
                return result
            level = np.exp(theta[:, wanted:])[:, self.scale_of]
            if self.family.target == "ratio":
                result = level * self.factor * value
            else:
                result = level * self.offset + value
            return result

    def take(self, rows: IntArray | NDArray[np.bool_]) -> Problem:
        """The problem on some of its runs; scales keep their numbers."""
        return replace(
            self,
            variables={name: column[rows] for name, column in self.variables.items()},
            loss=self.loss[rows],
            weights=self.weights[rows],
            offset=self.offset[rows],
            factor=self.factor[rows],
            scale_of=self.scale_of[rows],
            shape_of=self.shape_of[rows],
        )


def build_problem(
    runs: RunsTable,
    family: Family,
    *,
    weights: FloatArray | None = None,
    optimal_loss: OptimalLoss = "best",
    above: float = 1.0,
) -> Problem:
    """The problem of fitting `family` to `runs`; raises TableError where a column is missing."""
    variables = {name: runs.column(name) for name in family.variables}
    loss = runs.column("loss")
    scale_of, scale_names = scales(runs)
    offset, factor = np.zeros_like(loss), np.ones_like(loss)
    if family.conditional:
        reference = _reference_losses(runs, scale_of)
        if family.target == "ratio":
            factor = reference
        else:
            offset = reference
    return Problem(
        family=family,
        variables=variables,
        loss=loss,
        weights=_weights(runs, weights),
        offset=offset,
        factor=factor,
        scale_of=scale_of,
        scale_names=scale_names,
        shape_of=shape_clusters(runs),
        free_levels=family.conditional and optimal_loss == "free" and not runs.has("loss_opt"),
        above=above,
        has_shapes=any(runs.has(n) for n in ("hidden_size", "x", "r", "width_per_layer")),
    )


def scales(runs: RunsTable) -> tuple[IntArray, tuple[str, ...]]:
    """Scale number of each run and the scales' names: the `scale` column, else equal N and D."""
    if "scale" in runs.labels:
        labels, numbers = np.unique(np.array(runs.labels["scale"]), return_inverse=True)
        return numbers.astype(np.intp), tuple(str(label) for label in labels)
    keys = [gap_groups(np.log(runs.column(n))) for n in ("N", "D") if runs.has(n)]
    if not keys:
        return np.zeros(len(runs), dtype=np.intp), ("all runs",)
    # Gap groups are numbered by size, and so are their pairs.
    _, numbers = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    names = tuple(_scale_name(runs, numbers == number) for number in range(numbers.max() + 1))
    return numbers.astype(np.intp), names


def largest_size(runs: RunsTable, problem: Problem) -> tuple[NDArray[np.bool_], str]:
    """The runs of the largest N, whatever their tokens, and a name for them.

    In a table without N, the scale with the lowest loss.
    """
    if runs.has("N"):
        groups = gap_groups(np.log(runs.column("N")))
        chosen = groups == groups.max()
    else:
        best = [problem.loss[problem.scale_of == k].min() for k in range(problem.num_scales)]
        chosen = problem.scale_of == int(np.argmin(best))
    inside = np.unique(problem.scale_of[chosen])
    if len(inside) == 1:
        return chosen, problem.scale_names[int(inside[0])]
    return chosen, f"N {_short(float(np.median(runs.column('N')[chosen])))}"


def shape_clusters(runs: RunsTable) -> IntArray:
    """Cluster number of each run: equal shapes together, whatever their tokens and seeds."""
    if "shape" in runs.labels:
        _, numbers = np.unique(np.array(runs.labels["shape"]), return_inverse=True)
        return numbers.astype(np.intp)
    names = [
        name
        for name in (
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "N", "x", "r", "width_per_layer",
        )
        if name in runs.numbers
    ]  # fmt: skip
    if not names:
        return np.arange(len(runs), dtype=np.intp)
    table = np.stack([runs.numbers[name] for name in names], axis=1)
    _, numbers = np.unique(table, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.intp)


def _reference_losses(runs: RunsTable, scale_of: IntArray) -> FloatArray:
    if runs.has("loss_opt"):
        return runs.column("loss_opt")
    loss = runs.column("loss")
    best = np.full(int(scale_of.max()) + 1, np.inf)
    np.minimum.at(best, scale_of, loss)
    result: FloatArray = best[scale_of]
    return result


def _weights(runs: RunsTable, weights: FloatArray | None) -> FloatArray:
    if weights is None:
        weights = runs.column("weight") if runs.has("weight") else np.ones(len(runs))
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(runs),):
        raise InputError(f"weights must be one per run, {len(runs)}, got shape {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise TableError("weights must be finite, not negative, and not all zero")
    result: FloatArray = weights * (len(weights) / weights.sum())
    return result


def gap_groups(logs: FloatArray, gap: float = _SCALE_GAP) -> IntArray:
    """Numbers of groups of `logs` without a gap wider than `gap`, ascending.

    A chain of small gaps that spans more than `_SCALE_SPAN` is cut into bins of one gap.
    """
    order = np.argsort(logs, kind="stable")
    steps = np.r_[0, np.cumsum(np.diff(logs[order]) > gap)]
    groups = np.empty(len(logs), dtype=np.intp)
    groups[order] = steps
    if any(np.ptp(logs[groups == group]) > _SCALE_SPAN for group in range(int(steps[-1]) + 1)):
        groups = np.floor((logs - logs.min()) / gap).astype(np.intp)
    return groups


def _scale_name(runs: RunsTable, chosen: NDArray[np.bool_]) -> str:
    parts = []
    for name in ("N", "D"):
        if runs.has(name):
            values = runs.column(name)[chosen]
            parts.append(f"{name} {_short(float(np.median(values)))}")
    return ", ".join(parts)


def _short(value: float) -> str:
    for suffix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
