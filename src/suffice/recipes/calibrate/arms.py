"""The safe arm, and the cheap arms that may stand in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import InputError
from suffice.evals.traces import TraceSet
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.fixed import SelfConsistency
from suffice.policies.thinking import Rewired
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.families import GatePart, Part, SamplerPart
from suffice.recipes.calibrate.fit import Fitted, fit_predictor, predictions
from suffice.recipes.calibrate.path import Evidence
from suffice.recipes.calibrate.play import Outcomes, Recorded, TokenWeights, play
from suffice.recipes.calibrate.prepare import Split, arm_of, complete
from suffice.recipes.calibrate.tables import Strong
from suffice.recipes.calibrate.votes import Votes, count_votes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Pairs of models whose agreement is tried; more would make choosing slow and lucky.
MOST_PAIRS = 6
LARGEST_CAP = 40
QUESTIONS_PER_CLUSTER = 80
MOST_CLUSTERS = 8
# Orders of the recorded samples that tables are fitted on.
ORDERS = 12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """The traces with the questions that all their arms share."""

    traces: TraceSet
    recorded: Recorded
    weights: TokenWeights
    questions: IntArray

    @classmethod
    def of(cls, traces: TraceSet, weights: TokenWeights) -> Table:
        """The table of a trace set."""
        recorded = Recorded(traces)
        return cls(
            traces=traces,
            recorded=recorded,
            weights=weights,
            questions=complete(traces, traces.models),
        )

    def samples(self, model: str) -> int:
        """Samples that every question has of a model."""
        return int(self.traces.count[self.questions, self.recorded.arm(model)].min())

    def accuracy(self, model: str, split: Split) -> float:
        """Mean correctness of a model's samples on the fitting questions."""
        traces = self.traces
        inside = (traces.arm == self.recorded.arm(model)) & np.isin(traces.question, split.fit)
        return float(np.nanmean(traces.correct[inside]))

    def play(self, policy: Any) -> Outcomes:
        """A policy on every question, in `questions`' order."""
        return play(policy, self.recorded, self.questions, weights=self.weights)

    def index(self, questions: IntArray) -> IntArray:
        """Rows of questions."""
        return np.searchsorted(self.questions, questions)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Safe:
    """The arm that the others are measured against."""

    text: str
    models: tuple[str, ...]
    outcomes: Outcomes
    votes: int | None  # samples, if it is a vote of one model


def safe_arm(table: Table, split: Split, config: CalibrateConfig) -> Safe:
    """The safe arm: as asked, else a vote over all samples of the most accurate model.

    Only the fitting questions choose it: the others test a claim that must not depend on them.
    """
    text = config.safe or _most_accurate(table, split)
    text, policy, models = arm_of(text, table.traces)
    bare: Any = policy.inner if isinstance(policy, Rewired) else policy
    votes = bare.samples if isinstance(bare, SelfConsistency) and len(models) == 1 else None
    if votes is not None and votes > table.samples(models[0]):
        raise InputError(
            f"safe arm {text!r} draws {votes} samples, the traces hold {table.samples(models[0])}"
        )
    outcomes = table.play(policy)
    if not outcomes.correct.any():
        raise InputError(f"the safe arm {text} is never right: it is no standard to hold to")
    _check_answers(text, outcomes)
    return Safe(text=text, models=models, outcomes=outcomes, votes=votes)


def _check_answers(text: str, outcomes: Outcomes) -> None:
    """Raise InputError for an arm without a single answer: nothing of it could ever stand."""
    if not outcomes.answered.any():
        raise InputError(
            f"the traces hold verdicts on {text} but not one answer of it (column answer), and "
            "only answers that can be compared are certified: record it with an answer format"
        )


def _most_accurate(table: Table, split: Split) -> str:
    means = {model: table.accuracy(model, split) for model in table.traces.models}
    best = max(means, key=means.__getitem__)
    samples = min(table.samples(best), LARGEST_CAP)
    return f"self_consistency:samples={samples}@{best}" if samples > 2 else f"single@{best}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Candidate:
    """A cheap arm, fitted; its two parts and what the report needs of them."""

    text: str
    safe_text: str
    models: tuple[str, ...]
    is_gate: bool
    cap: int
    clusters: int
    split: Split
    fitted: Fitted
    fit: Part
    certify: Part
    fit_safe_cost: FloatArray
    certify_safe_cost: FloatArray
    certify_safe_right: BoolArray
    certify_cheap_right: BoolArray
    certify_right: FloatArray  # the predictor's P(right)
    strong: str | None = None  # behind the tables of a sampler

    @property
    def closed(self) -> Any:
        """The choice that leaves a cluster to the safe arm."""
        found: Any = self.fit
        return found.closed


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Proposal:
    """A cheap arm, not fitted yet."""

    table: Table
    safe: Safe
    text: str
    policy: Any
    models: tuple[str, ...]
    is_gate: bool
    strong: Safe | None = None

    def planned(self, split: Split, config: CalibrateConfig) -> Candidate | None:
        """The arm fitted on the split; None where nothing is to be told apart.

        That is where all its fitting answers are wrong, or, of an arm that is judged answer by
        answer, all right. A vote that is always right can still be settled earlier.
        """
        table, safe = self.table, self.safe
        cheap = table.play(self.policy)
        _check_answers(self.text, cheap)
        fit, certify = table.index(split.fit), table.index(split.certify)
        right = cheap.correct[fit]
        if not right.any() or (self.is_gate and right.all()):
            return None
        prompts = [table.traces.questions[q].prompt for q in table.questions.tolist()]
        rescued = safe.outcomes.correct & ~cheap.correct
        count = config.clusters or max(
            1, min(MOST_CLUSTERS, len(split.fit) // QUESTIONS_PER_CLUSTER)
        )
        fitted = fit_predictor(
            [prompts[i] for i in fit],
            cheap.confidence[fit],
            right,
            rescued[fit],
            clusters=count,
            dimensions=config.dimensions,
            seed=config.seed,
        )
        cluster, judged, rescue = predictions(
            fitted.predictor, [prompts[i] for i in certify], cheap.confidence[certify]
        )
        parts: tuple[Part, Part]
        if self.is_gate:
            parts = (
                self._gate(fit, cheap, fitted.cluster, fitted.right, fitted.rescue),
                self._gate(certify, cheap, cluster, judged, rescue),
            )
        else:
            parts = (
                self._sampler(fit, fitted.cluster, orders=ORDERS if self.strong else 0),
                self._sampler(certify, cluster, orders=0),
            )
        behind = self.strong
        return Candidate(
            text=self.text if behind is None else f"{self.text} > {behind.text}",
            safe_text=safe.text,
            models=tuple(
                dict.fromkeys((*self.models, *safe.models, *(behind.models if behind else ())))
            ),
            strong=behind.text if behind else None,
            is_gate=self.is_gate,
            cap=safe.votes or 0,
            clusters=count,
            split=split,
            fitted=fitted,
            fit=parts[0],
            certify=parts[1],
            fit_safe_cost=safe.outcomes.cost[fit],
            certify_safe_cost=safe.outcomes.cost[certify],
            certify_safe_right=safe.outcomes.correct[certify],
            certify_cheap_right=cheap.correct[certify],
            certify_right=judged,
        )

    def _gate(
        self, index: IntArray, cheap: Outcomes, cluster: IntArray, right: FloatArray,
        rescue: FloatArray,
    ) -> GatePart:  # fmt: skip
        safe = self.safe.outcomes
        # A safe arm without any answer leaves the cheap one's standing, as the cascade does.
        stands = cheap.answered & ~safe.answered
        safe_right = safe.correct | (stands & cheap.correct)
        harmed = safe_right & ~cheap.correct
        return GatePart(
            Evidence(
                cluster=cluster,
                right=right,
                rescue=rescue,
                answered=cheap.answered[index],
                harmed=harmed[index],
                helped=(~safe_right & cheap.correct)[index],
                unsaved=(harmed & stands)[index],
                cheap_cost=cheap.cost[index],
                safe_cost=safe.cost[index],
            )
        )

    def _sampler(self, index: IntArray, cluster: IntArray, *, orders: int) -> SamplerPart:
        assert self.safe.votes is not None

        def votes(seed: int | None) -> Votes:
            assert self.safe.votes is not None
            return count_votes(
                self.table.traces,
                self.models[0],
                self.table.questions[index],
                self.safe.votes,
                weights=self.table.weights,
                seed=seed,
            )

        safe, behind = self.safe.outcomes, self.strong
        strong = None
        if behind is not None:
            got = behind.outcomes.at(index)
            strong = Strong(right=got.correct, answered=got.answered, cost=got.cost)
        return SamplerPart(
            votes(None),
            cluster,
            safe.correct[index],
            safe.cost[index],
            strong,
            tuple(votes(seed) for seed in range(orders)),
        )


def candidates_of(
    table: Table, safe: Safe, split: Split, config: CalibrateConfig
) -> Iterator[Proposal]:
    """Cheap arms: those asked for, else one or several per model, and agreeing pairs."""
    strong = _strong_arm(table, safe, config)
    for text in config.cheap or _proposed(table, safe, split, config):
        named, policy, models = arm_of(text, table.traces)
        bare: Any = policy.inner if isinstance(policy, Rewired) else policy
        same = safe.votes is not None and models == safe.models
        if same and not isinstance(bare, AdaptiveConsistency):
            raise InputError(
                f"cheap arm {named!r} draws from the safe arm's own model: in front of "
                f"{safe.text} only adaptive_consistency or two_sided can save anything"
            )
        yield Proposal(
            table=table,
            safe=safe,
            text=named,
            policy=policy,
            models=models,
            is_gate=not same,
            strong=strong if same else None,
        )


def _strong_arm(table: Table, safe: Safe, config: CalibrateConfig) -> Safe | None:
    """Whom unsettled votes go to, if anyone was named."""
    if config.strong is None:
        return None
    if safe.votes is None:
        raise InputError(
            f"a strong arm stands behind a vote, and the safe arm is {safe.text}: take "
            "--safe-arm self_consistency:samples=…@MODEL, or name the strong one as --safe-arm"
        )
    text, policy, models = arm_of(config.strong, table.traces)
    if ">" in text:
        raise InputError(f"strong arm {text!r} is a cascade: name one policy")
    return Safe(text=text, models=models, outcomes=table.play(policy), votes=None)


def _proposed(table: Table, safe: Safe, split: Split, config: CalibrateConfig) -> list[str]:
    others = [model for model in table.traces.models if model not in safe.models]
    found = []
    if safe.votes is not None and safe.votes > 2:
        found.append(f"two_sided:max_samples={safe.votes}@{safe.models[0]}")
        if config.strong is not None:
            return found
    for model in others:
        samples = min(table.samples(model), LARGEST_CAP)
        if samples >= 3:
            found.append(f"adaptive_consistency:max_samples={samples}@{model}")
        else:
            found.append(f"single@{model}")
    accuracy = {model: table.accuracy(model, split) for model in others}
    pairs = sorted(combinations(others, 2), key=lambda pair: -min(accuracy[m] for m in pair))
    found += [f"agreement:models={a}+{b}" for a, b in pairs[:MOST_PAIRS]]
    if not found:
        raise InputError(
            f"the traces hold {safe.text} alone: record a cheaper model too, or three samples or "
            "more per question"
        )
    return found
