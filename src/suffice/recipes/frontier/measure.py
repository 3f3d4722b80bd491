"""What a policy gets and spends on recorded samples: accuracy, tokens, FLOPs, GPU time, money."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from suffice.core.completions import CostModel
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, NoAnswer
from suffice.core.savings import CostUnit
from suffice.executors.play import play
from suffice.recipes.replay.needs import check_recorded
from suffice.recipes.replay.source import Source
from suffice.recipes.replay.spent import Spent, spent_of

FloatArray = NDArray[np.float64]

# `samples` is the axis where tokens were not counted.
AXES = ("tokens", "flops", "gpu_s", "usd", "samples")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """Means over shuffles, one entry per question; an axis is NaN where its cost is not known."""

    policy: str
    correct: FloatArray
    samples: FloatArray
    tokens: FloatArray  # completion tokens
    flops: FloatArray
    gpu_s: FloatArray
    usd: FloatArray
    all_tokens: FloatArray  # prompt and completion tokens
    models: frozenset[str] = frozenset()  # that were asked

    def axis(self, name: str) -> FloatArray:
        """Cost per question on an axis."""
        found: FloatArray = getattr(self, name)
        return found

    def known(self, name: str) -> bool:
        """Whether an axis is known for every question."""
        return bool(np.isfinite(self.axis(name)).all())


def measure(
    text: str, policy: AnyPolicy, source: Source, questions: Iterable[int], *,
    cost_model: CostModel, shuffles: int = 1, seed: int = 0,
) -> Measured:  # fmt: skip
    """A policy on each question, each of `shuffles` times with its samples in another order.

    The first sample of a model pays its prompt; later ones find it in the prefix cache. A sample
    that is cancelled on the way costs what it had drawn.
    """
    chosen = [int(question) for question in questions]
    cost_of = lru_cache(maxsize=None)(cost_model)
    traces = source.traces
    check_recorded(policy, traces, model=source.model, questions=chosen)
    sums = np.zeros((len(chosen), 7))
    models: set[str] = set()
    for shuffle in range(shuffles):
        for i, question in enumerate(chosen):
            right, usages, counted = _played(policy, source, question, (seed, shuffle))
            costs = [cost_of(model, usage) for model, usage in usages]
            unknown = 0.0 if counted else float("nan")
            models.update(model for model, _ in usages)
            # A model without a price or a shape leaves an axis unknown.
            sums[i] += (
                right,
                len(usages),
                unknown + sum(usage.completion_tokens for _, usage in usages),
                unknown + _sum([each.flops for each in costs]),
                unknown + _sum([each.gpu_s for each in costs]),
                unknown + _sum([each.usd for each in costs]),
                unknown + sum(usage.total_tokens for _, usage in usages),
            )
    means = sums / shuffles
    return Measured(
        policy=text,
        correct=means[:, 0],
        samples=means[:, 1],
        tokens=means[:, 2],
        flops=means[:, 3],
        gpu_s=means[:, 4],
        usd=means[:, 5],
        all_tokens=means[:, 6],
        models=frozenset(models),
    )


def compared(
    policy: Measured, baseline: Measured
) -> tuple[FloatArray, FloatArray, CostUnit] | None:
    """Costs per question of a policy and of the baseline: in money, else in tokens of one model.

    None where that cannot be told, or where both did the same.
    """
    unit: CostUnit = "usd" if policy.known("usd") and baseline.known("usd") else "tokens"
    if unit == "tokens" and len(policy.models | baseline.models) > 1:
        return None
    name = "usd" if unit == "usd" else "all_tokens"
    costs: tuple[FloatArray, FloatArray] = getattr(policy, name), getattr(baseline, name)
    same = policy.models == baseline.models and all(
        np.array_equal(getattr(policy, name), getattr(baseline, name))
        for name in ("all_tokens", "tokens", "samples")
    )
    if same or not costs[1].sum() or not all(np.isfinite(cost).all() for cost in costs):
        return None
    return (*costs, unit)


def _sum(values: Sequence[float | None]) -> float:
    """Sum, NaN if anything is unknown."""
    return float("nan") if any(value is None for value in values) else float(
        sum(value or 0.0 for value in values)
    )  # fmt: skip


def _played(
    policy: AnyPolicy, source: Source, question: int, seed: tuple[int, int]
) -> tuple[bool, Spent, bool]:
    """As live: whether it was right, what was drawn, and whether its tokens are known."""
    drawer = source.drawer(question, seed)
    try:
        outcome, _, _ = play(policy, source.request(question), drawer)
    except NoAnswer:
        return False, (), True
    right = source.traces.correct[drawer.rows[outcome.sample]]
    if np.isnan(right):
        name = source.traces.questions[question].name
        raise InputError(f"a sample of question {name!r} has no verdict (column correct)")
    return bool(right), spent_of(outcome.records), drawer.counted()
