"""What does the choice of mode buy? Short, think, the model's own choice, the optimum.

Each problem is answered greedily in both modes; every router is then a rule that picks one of the
two answers, so all of them are compared on the same answers. Tokens count the whole response:
control token, steps, answer and end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.vocabulary import END, SHORT, THINK
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.recipes.modes.simple_routers import (
    auroc_at_equal_length,
    halves,
    length_rule,
    regression,
)
from suffice.tasks.puzzles import Problem
from suffice.training.modes.rewards import Reward

Cell = tuple[str, int]
BIASES = tuple(float(b) for b in np.arange(-12.0, 12.5, 1.0))
_RESAMPLES = 2000
_AUROC_RESAMPLES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One problem answered in both modes. `think_logit` is log p(think) - log p(short)."""

    cell: Cell
    think_logit: float
    short_right: bool
    short_tokens: int
    think_right: bool
    think_tokens: int
    short_ended: bool = True
    think_ended: bool = True
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One task at one difficulty: both modes, and what the model and the optimum choose."""

    task: str
    difficulty: int
    problems: int
    short_accuracy: Estimate
    think_accuracy: Estimate
    short_tokens: float
    think_tokens: float
    p_think: float
    optimum_thinks: bool
    cut_share: float = 0.0  # of both modes' responses: reached max_tokens, which counts as wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterResult:
    """One router over all problems; intervals are paired bootstraps over problems within cells."""

    router: str
    accuracy: Estimate
    tokens: Estimate
    token_share: Estimate  # of always-think's tokens
    accuracy_difference: Estimate  # to always-think
    think_share: float
    reward: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """One of the gateway's policies, from sampled answers; `refused` says why there is none."""

    policy: str
    accuracy: Estimate | None = None
    tokens: Estimate | None = None
    token_share: Estimate | None = None  # of always-think's tokens on the same problems
    samples: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModesResult:
    """Everything that `suffice eval modes` prints and writes."""

    cells: tuple[CellResult, ...]
    routers: tuple[RouterResult, ...]
    bias_curve: tuple[tuple[float, float, float], ...]  # logit bias, tokens, accuracy
    saving_by_easy_share: tuple[tuple[float, float, float], ...]  # share, saving, accuracy lost
    policies: tuple[PolicyResult, ...] = ()
    # Of p(think) for "short is wrong", over pairs of one task and equally long prompts.
    auroc_at_equal_length: Estimate | None = None


def answer_both(
    model: NanoModel, problems: Sequence[Problem], *, max_tokens: int
) -> list[Answered]:
    """Greedy answers to every problem in both modes."""
    vocabulary = model.vocabulary
    short, think = vocabulary.id(SHORT), vocabulary.id(THINK)
    found = []
    for problem in problems:
        cache = model.start()
        logits_V = model.advance(vocabulary.prompt(problem.prompt), cache)
        sides = []
        for mode in (short, think):
            drawn = greedy(model, [mode], max_tokens=max_tokens - 1, cache=cache.copy())
            ended = drawn[-1:] == [vocabulary.id(END)]
            text = vocabulary.decode(drawn[:-1] if ended else drawn)
            right = problem.is_right(text, think=mode == think, ended=ended)
            sides.append((right, 1 + len(drawn), ended))
        found.append(
            Answered(
                cell=(problem.task, problem.difficulty),
                think_logit=float(logits_V[think] - logits_V[short]),
                short_right=sides[0][0],
                short_tokens=sides[0][1],
                think_right=sides[1][0],
                think_tokens=sides[1][1],
                short_ended=sides[0][2],
                think_ended=sides[1][2],
                prompt=problem.prompt,
            )
        )
    return found


def evaluate_modes(answered: Sequence[Answered], reward: Reward, *, seed: int = 0) -> ModesResult:
    """Tables of cells and routers; every cell weighs the same, however many problems it has."""
    if not answered:
        raise InputError("there is no problem to evaluate on: ask for more, or another task")
    table = _Table.of(answered)
    optimum = _optimum(table, reward)
    rules: dict[str, FloatArray] = {
        "always-short": np.zeros(len(answered)),
        "always-think": np.ones(len(answered)),
        "learned": (table.logit > 0).astype(float),
        "learned, sampled": _sigmoid(table.logit),
        "analytic optimum": optimum,
    }
    rewards, prompts = _rewards(table, reward), [a.prompt for a in answered]
    gain, half = rewards[:, 1] - rewards[:, 0], halves(table.cell)
    rules["prompt-length rule"] = length_rule(prompts, gain, table.weight, half)
    rules["regression on the prompt"] = regression(prompts, gain, table.weight, half)
    weights = resampled_weights(table.cell, np.random.default_rng(seed))
    return ModesResult(
        cells=tuple(_cell(table, cell, optimum) for cell in table.cells),
        routers=tuple(_router(name, table, p, reward, weights) for name, p in rules.items()),
        bias_curve=tuple(
            (bias, _mean(table, _pick(table.tokens, p)), _mean(table, _pick(table.right, p)))
            for bias in BIASES
            for p in [(table.logit + bias > 0).astype(float)]
        ),
        saving_by_easy_share=_by_easy_share(table, optimum),
        auroc_at_equal_length=_auroc(answered, table, weights[:_AUROC_RESAMPLES]),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """The answers as arrays; `right` and `tokens` have a column per mode, short first."""

    cells: tuple[Cell, ...]
    cell: NDArray[np.intp]
    logit: FloatArray
    right: FloatArray
    tokens: FloatArray
    weight: FloatArray  # one over the number of problems in the cell, over the number of cells
    cut: FloatArray  # share of a problem's two responses that were cut

    @classmethod
    def of(cls, answered: Sequence[Answered]) -> _Table:
        cells = tuple(sorted({a.cell for a in answered}))
        index = np.array([cells.index(a.cell) for a in answered])
        counts = np.bincount(index, minlength=len(cells))
        return cls(
            cells,
            index,
            np.array([a.think_logit for a in answered]),
            np.array([[a.short_right, a.think_right] for a in answered], dtype=float),
            np.array([[a.short_tokens, a.think_tokens] for a in answered], dtype=float),
            1.0 / counts[index] / len(cells),
            np.array([1 - (a.short_ended + a.think_ended) / 2 for a in answered]),
        )


def _optimum(table: _Table, reward: Reward) -> FloatArray:
    """Which mode the reward prefers, from success rates of the *other* half of each cell."""
    chosen = np.zeros(len(table.cell))
    for index in range(len(table.cells)):
        rows = np.flatnonzero(table.cell == index)
        halves = (rows[::2], rows[1::2])
        for mine, other in (halves, halves[::-1]):
            seen = other if len(other) else mine
            right, tokens = table.right[seen].mean(axis=0), table.tokens[seen].mean(axis=0)
            chosen[mine] = reward.worth_thinking(right[0], right[1], tokens[0], tokens[1])
    return chosen


def _cell(table: _Table, cell: Cell, optimum: FloatArray) -> CellResult:
    rows = np.flatnonzero(table.cell == table.cells.index(cell))
    right, tokens = table.right[rows], table.tokens[rows].mean(axis=0)
    return CellResult(
        task=cell[0],
        difficulty=cell[1],
        problems=len(rows),
        short_accuracy=wilson(int(right[:, 0].sum()), len(rows)),
        think_accuracy=wilson(int(right[:, 1].sum()), len(rows)),
        short_tokens=float(tokens[0]),
        think_tokens=float(tokens[1]),
        p_think=float(_sigmoid(table.logit[rows]).mean()),
        optimum_thinks=bool(optimum[rows].mean() >= 0.5),
        cut_share=float(table.cut[rows].mean()),
    )


def _router(
    name: str, table: _Table, p_think: FloatArray, reward: Reward, weights: FloatArray
) -> RouterResult:
    accuracy, tokens = _pick(table.right, p_think), _pick(table.tokens, p_think)
    worth = _pick(_rewards(table, reward), p_think)
    always = table.tokens[:, 1]

    def estimate(of: Callable[[FloatArray], Any]) -> Estimate:
        low, high = np.percentile(of(weights), [2.5, 97.5])
        return Estimate(mean=float(of(table.weight)), low=float(low), high=float(high))

    return RouterResult(
        router=name,
        accuracy=estimate(lambda w: w @ accuracy),
        tokens=estimate(lambda w: w @ tokens),
        token_share=estimate(lambda w: (w @ tokens) / (w @ always)),
        accuracy_difference=estimate(lambda w: w @ (accuracy - table.right[:, 1])),
        think_share=_mean(table, p_think),
        reward=estimate(lambda w: w @ worth),
    )


def _auroc(answered: Sequence[Answered], table: _Table, weights: FloatArray) -> Estimate | None:
    asked = [a.prompt for a in answered], [a.cell[0] for a in answered]
    wrong = 1 - table.right[:, 0]
    found = auroc_at_equal_length(*asked, table.logit, wrong, weights)
    mean = auroc_at_equal_length(*asked, table.logit, wrong, table.weight[None])
    if found is None or mean is None:
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(mean=float(mean[0]), low=float(low), high=float(high))


def _rewards(table: _Table, reward: Reward) -> FloatArray:
    return np.array(
        [
            [reward(right=bool(r), think=bool(m), tokens=int(t))
             for m, (r, t) in enumerate(zip(right, tokens, strict=True))]
            for right, tokens in zip(table.right, table.tokens, strict=True)
        ]
    )  # fmt: skip


def resampled_weights(cell: NDArray[np.intp], rng: np.random.Generator) -> FloatArray:
    """(resamples, problems): weights of bootstraps that draw problems within each cell."""
    cells = int(cell.max()) + 1
    weights = np.zeros((_RESAMPLES, len(cell)))
    for index in range(cells):
        rows = np.flatnonzero(cell == index)
        counts = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_RESAMPLES)
        weights[:, rows] = counts / len(rows) / cells
    return weights


def _by_easy_share(table: _Table, optimum: FloatArray) -> tuple[tuple[float, float, float], ...]:
    """Tokens saved and accuracy lost against always-think, by the share of easy problems.

    Easy are the cells where the optimum answers at once; empty if all or none are.
    """
    thinks = np.array(
        [optimum[table.cell == index].mean() >= 0.5 for index in range(len(table.cells))]
    )
    if thinks.all() or not thinks.any():
        return ()
    hard = thinks[table.cell]
    p = (table.logit > 0).astype(float)
    tokens, right = _pick(table.tokens, p), _pick(table.right, p)
    found = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        weight = table.weight * np.where(
            hard, (1 - share) / table.weight[hard].sum(), share / table.weight[~hard].sum()
        )
        saving = 1 - (weight @ tokens) / (weight @ table.tokens[:, 1])
        lost = weight @ (table.right[:, 1] - right)
        found.append((share, float(saving), float(lost)))
    return tuple(found)


def _pick(columns: FloatArray, p_think: FloatArray) -> FloatArray:
    picked: FloatArray = columns[:, 0] * (1 - p_think) + columns[:, 1] * p_think
    return picked


def _mean(table: _Table, values: FloatArray) -> float:
    return float(table.weight @ values)


def _sigmoid(x: FloatArray) -> FloatArray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def wilson(hits: float, count: int, z: float = 1.959964) -> Estimate:
    """Share of hits with Wilson's 95 % interval."""
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = (z / (1 + z * z / count)) * math.sqrt(
        share * (1 - share) / count + z * z / (4 * count * count)
    )
    return Estimate(mean=share, low=max(0.0, centre - reach), high=min(1.0, centre + reach))


def flatten(cells: Mapping[Cell, Sequence[Problem]]) -> list[Problem]:
    """All problems of all cells, in order."""
    return [problem for problems in cells.values() for problem in problems]
