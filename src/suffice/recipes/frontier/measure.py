"""What a policy gets and spends on recorded samples: accuracy, tokens, FLOPs, GPU time, money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.completions import CostModel
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, NoAnswer
from suffice.core.savings import CostUnit
from suffice.evals.traces.trace_set import MISSING, TraceSet
from suffice.executors.replay import play
from suffice.recipes.recordings import Source
from suffice.recipes.replay.needs import check_recorded
from suffice.recipes.replay.spent import Spent, spent_of

AXES = ("tokens", "samples", "flops", "gpu_s", "usd")


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
    # Of the shuffled control: as many samples of as many models, but each question's share of them
    # dealt to another question. None where every question gets the same.
    control: FloatArray | None = None

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
    that is cancelled on the way costs what it had drawn. Where the recording counts no tokens only
    samples are known.
    """
    chosen = [int(question) for question in questions]
    cost_of = lru_cache(maxsize=None)(cost_model)
    traces = source.traces
    check_recorded(policy, traces, model=source.model, questions=chosen)
    sums = np.zeros((len(chosen), 7))
    models: set[str] = set()
    controls = []
    for shuffle in range(shuffles):
        plans = []
        for i, question in enumerate(chosen):
            right, usages, plan, counted = _played(policy, source, question, (seed, shuffle))
            plans.append(plan)
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
        if len(set(plans)) > 1:
            controls.append(shuffled_control(source, chosen, plans, (seed, shuffle)))
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
        control=np.mean(controls, axis=0) if len(controls) == shuffles else None,
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


class Plan(NamedTuple):
    """What a policy spent on a question: samples by arm, and whose answer it gave."""

    samples: tuple[tuple[int, int], ...]  # (arm, samples), by arm
    accepted: int  # arm; -1 where there was no answer


def _played(
    policy: AnyPolicy, source: Source, question: int, seed: tuple[int, int]
) -> tuple[bool, Spent, Plan, bool]:
    """As live: right or not, what was drawn, of whom, and whether its tokens are known."""
    drawer = source.drawer(question, seed)
    traces = source.traces
    try:
        outcome, _, _ = play(policy, source.request(question), drawer)
    except NoAnswer:
        return False, (), _plan(traces, drawer.rows.values(), None), True
    row = drawer.rows[outcome.sample]
    right = traces.correct[row]
    if np.isnan(right):
        name = traces.questions[question].name
        raise InputError(f"a sample of question {name!r} has no verdict (column correct)")
    plan = _plan(traces, drawer.rows.values(), row)
    return bool(right), spent_of(outcome.records), plan, drawer.counted()


def _plan(traces: TraceSet, rows: Iterable[int], accepted: int | None) -> Plan:
    arms = Counter(int(traces.arm[row]) for row in rows)
    whose = -1 if accepted is None else int(traces.arm[accepted])
    return Plan(tuple(sorted(arms.items())), whose)


def shuffled_control(
    source: Source, questions: Sequence[int], plans: Sequence[Plan], seed: tuple[int, int]
) -> FloatArray:
    """Whether each question is right with the samples that another one got.

    The plans are dealt out anew, so the same samples of the same models are spent; a question's
    answer is the majority of its samples of the arm whose answer the plan gave. What a policy gains
    over it comes from knowing where to spend.
    """
    traces = source.traces
    order = np.random.default_rng((*seed, 1)).permutation(len(plans))
    found = np.zeros(len(questions))
    for i, question in enumerate(questions):
        plan = plans[order[i]]
        if plan.accepted < 0:
            continue
        rows = source.drawer(question, seed).dealt(plan.accepted)
        drawn = rows[: dict(plan.samples)[plan.accepted]]
        codes = [int(traces.answer[row]) for row in drawn]
        counts = Counter(code for code in codes if code != MISSING)
        leader = max(counts, key=counts.__getitem__, default=None)
        row = drawn[-1] if leader is None else drawn[codes.index(leader)]
        found[i] = traces.correct[row] == 1.0
    return found
