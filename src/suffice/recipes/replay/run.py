"""Every recorded question through a policy, several times over with the samples reshuffled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.completions import Budget, CostModel, count_tokens_only
from suffice.core.coverage import Note
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, LacksCapability, NoAnswer
from suffice.core.prices import Prices
from suffice.core.savings import Saving
from suffice.evals.statistics.binomial import Interval
from suffice.evals.statistics.bootstrap import clustered_mean, of_share
from suffice.evals.traces.trace_set import TraceSet
from suffice.executors.replay import Span, play
from suffice.recipes.recordings import Source
from suffice.recipes.replay.needs import check_recorded
from suffice.recipes.replay.spent import Spent, saving_of, spent_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """`draws` shuffles of the samples of each question; `limit` takes the first questions."""

    draws: int = 4
    seed: int = 0
    model: str | None = None
    limit: int | None = None
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"draws must be 1 or more, got {self.draws}")


# Fields of a request that are 0 or 1.
SHARES = frozenset({"correct", "gave_up", "to_large"})


class ReplayedRequest(NamedTuple):
    """One request: what the policy accepted and what it took."""

    question: int
    draw: int
    correct: float  # 1 right, 0 wrong, NaN not known
    samples: int
    cancelled: int
    tokens: float  # completion tokens; NaN where the recording does not count them
    gave_up: bool  # no answer was found: the completion is the best so far, if there is one
    to_large: float  # 1 if the last step was asked, 0 if not; NaN of a policy without steps
    confidence: float  # NaN where the policy gave none
    usd: float
    gpu_s: float
    prompt_tokens: int
    ticks: int
    spans: tuple[Span, ...]  # by sample: when it ran, in ticks
    spent: Spent | None = ()  # by sample: model and usage; None: tokens are not known
    note: Note | None = None  # why nothing, or no more, was compared


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Replayed:
    """All requests of a replay."""

    policy: str
    requests: tuple[ReplayedRequest, ...]

    def column(self, name: str) -> FloatArray:
        """One field of every request."""
        return np.array([getattr(each, name) for each in self.requests], dtype=np.float64)

    def mean(self, name: str, *, seed: int = 0) -> Interval | None:
        """Mean of a field with its 95 % interval over questions; None where it is not known."""
        values = self.column(name)
        known = ~np.isnan(values)
        if not known.any():
            return None
        questions = [each.question for each in self.requests]
        kept = [q for q, keep in zip(questions, known, strict=True) if keep]
        found = clustered_mean(values[known], kept, seed=seed)
        return of_share(found, len(set(kept))) if name in SHARES else found

    def saving(self, baseline: Replayed, *, text: str, prices: Prices) -> Saving | None:
        """What was spent beside the same requests under `baseline`, which `text` names.

        None where that cannot be compared (suffice.recipes.replay.spent).
        """
        own, other = ([each.spent for each in side.requests] for side in (self, baseline))
        if any(each is None for each in (*own, *other)):
            return None
        return saving_of(
            [each or () for each in own], [each or () for each in other], text=text, prices=prices
        )

    @property
    def counts_tokens(self) -> bool:
        """Whether the tokens of every request are known."""
        return all(each.spent is not None for each in self.requests)


def replay_traces(
    traces: TraceSet,
    policy: AnyPolicy,
    config: ReplayConfig,
    *,
    cost_model: CostModel = count_tokens_only,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Replayed:
    """Every question `draws` times; deterministic in the seed."""
    source = Source(traces, model=config.model)
    questions = chosen_questions(traces, source, config.limit)
    check_recorded(policy, traces, model=source.model, questions=questions)
    found = []
    total = config.draws * len(questions)
    for draw in range(config.draws):
        for question in questions:
            found.append(
                answer(source, policy, question, draw, config=config, cost_model=cost_model)
            )
            if len(found) % 200 == 0:
                tell(len(found), total)
    tell(total, total)
    if found and all(each.note == "free_form" for each in found):
        raise LacksCapability(
            f"policy {policy.name} compares answers, and this recording has none that can be: it "
            "would be one sample everywhere. Verdicts alone do for policies that choose a model; "
            "where there are texts, suffice traces rejudge FILE --checker number finds answers"
        )
    return Replayed(policy=policy.name, requests=tuple(found))


def chosen_questions(traces: TraceSet, source: Source, limit: int | None) -> Sequence[int]:
    """Questions with samples of the model that is asked, the first `limit` of them."""
    arms = [index for index, arm in enumerate(traces.arms) if arm.model == source.model]
    having = np.flatnonzero(traces.count[:, arms].sum(axis=1) > 0).tolist()
    return having if limit is None else having[:limit]


def answer(
    source: Source,
    policy: AnyPolicy,
    question: int,
    draw: int,
    *,
    config: ReplayConfig,
    cost_model: CostModel = count_tokens_only,
) -> ReplayedRequest:
    """One request under a policy, in ticks of one token."""
    drawer = source.drawer(question, (config.seed, draw))
    try:
        outcome, ticks, spans = play(
            policy,
            source.request(question),
            drawer,
            budget=config.budget,
            cost_model=cost_model,
            token_s=0.0 if config.budget.elapsed_s is None else 1.0,
        )
    except NoAnswer:
        return _nothing(question, draw)
    row = drawer.rows[outcome.sample]
    nothing = float("nan")
    counted = drawer.counted()
    last = nothing if outcome.exit is None else float(outcome.exit == "safe")
    return ReplayedRequest(
        question=question,
        draw=draw,
        correct=float(source.traces.correct[row]),
        samples=outcome.samples_run,
        cancelled=outcome.samples_cancelled,
        tokens=outcome.usage.completion_tokens if counted else nothing,
        gave_up=outcome.escalated,
        to_large=last,
        confidence=nothing if outcome.confidence is None else outcome.confidence,
        usd=nothing if outcome.cost.usd is None else outcome.cost.usd,
        gpu_s=nothing if outcome.cost.gpu_s is None else outcome.cost.gpu_s,
        prompt_tokens=max((record.usage.prompt_tokens for record in outcome.records), default=0),
        ticks=ticks,
        spans=spans,
        spent=spent_of(outcome.records) if counted else None,
        note=outcome.note,
    )


def _nothing(question: int, draw: int) -> ReplayedRequest:
    """A request that was answered with nothing at all."""
    nan = float("nan")
    return ReplayedRequest(
        question=question,
        draw=draw,
        correct=0.0,
        samples=0,
        cancelled=0,
        tokens=0,
        gave_up=True,
        to_large=nan,
        confidence=nan,
        usd=nan,
        gpu_s=nan,
        prompt_tokens=0,
        ticks=0,
        spans=(),
    )
