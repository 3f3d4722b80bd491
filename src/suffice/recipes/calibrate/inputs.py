"""What a calibration works with: distinct questions, their plays, prices, and the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.core.model_names import billions
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.certified import ends_in, in_front_of
from suffice.policies.fixed import SelfConsistency
from suffice.policies.registry import parse_policy
from suffice.policies.thinking import Overrides
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.evaluate_options import played_by_executor
from suffice.recipes.calibrate.options import PlayedOption, Unplayable, played
from suffice.recipes.calibrate.plays import Plays, check_judged
from suffice.recipes.calibrate.prepare import certifiable_arm_of, check_sets, complete
from suffice.recipes.calibrate.questions import DistinctQuestions
from suffice.recipes.calibrate.spending import Tariff
from suffice.recipes.recordings import WholeSource

# Largest vote that is taken for the baseline where none is named.
LARGEST_VOTE = 40
# Plays of a question that go through the executor: it is exact for every policy, and slow.
MOST_EXECUTED = 4
# Samples of a question from which its mean is tested rather than one of them.
LEAST_SAMPLES_FOR_MEANS = 4


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NamedPolicy:
    """A policy by its text, and the models it runs on."""

    text: str
    policy: AnyPolicy
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Inputs:
    """Everything that options are judged on."""

    traces: TraceSet
    config: CalibrateConfig
    questions: DistinctQuestions
    plays: Plays
    executed: Plays  # the same, fewer: for policies that the executor has to play
    tariff: Tariff
    baseline: NamedPolicy
    means: bool  # whether per-question means are tested, or one play of each question
    _played: dict[str, PlayedOption] = field(default_factory=dict)

    @classmethod
    def of(cls, traces: TraceSet, config: CalibrateConfig) -> Inputs:
        """The ground of a recording; raises InputError for one that supports no certificate."""
        check_sets(traces, config)
        config.prices.check(traces.models, where="recorded")
        recorded = complete(traces, traces.models)
        questions = DistinctQuestions.of(traces, recorded.tolist())
        check_judged(traces, recorded.tolist(), traces.models)
        means = _means(traces, questions, config)
        count = config.plays if means else 1
        plays = Plays(traces, questions, count=count, seed=config.seed)
        fewer = Plays(traces, questions, count=min(count, MOST_EXECUTED), seed=config.seed)
        missing = bool(np.isnan(traces.completion_tokens).any())
        text, policy, models = certifiable_arm_of(
            config.baseline or _default_baseline(plays, config), traces
        )
        found = cls(
            traces=traces,
            config=config,
            questions=questions,
            plays=plays,
            executed=fewer,
            tariff=Tariff.of(config.prices, traces.models, by_sample=missing),
            baseline=NamedPolicy(text=text, policy=policy, models=models),
            means=means,
        )
        standard = found.played(text)
        if not standard.correct.any():
            raise InputError(f"the baseline {text} is never right: it is no standard to hold to")
        asked = np.sum([spent.samples for spent in standard.spending.values()], axis=0)
        if not standard.answered.any() and bool((asked > 1).any()):
            raise InputError(
                f"the baseline {text} compares answers, and the recording holds verdicts alone: "
                "record the answers, or name a single call (--baseline single@MODEL)"
            )
        return found

    @property
    def votes(self) -> int | None:
        """Samples of the baseline, if it is a plain vote of one model."""
        policy = self.baseline.policy
        bare = policy.inner if isinstance(policy, Overrides) else policy
        plain = isinstance(bare, SelfConsistency) and len(self.baseline.models) == 1
        return bare.samples if plain and isinstance(bare, SelfConsistency) else None

    @property
    def others(self) -> tuple[str, ...]:
        """Recorded models that the baseline does not run on."""
        return tuple(m for m in self.traces.models if m not in self.baseline.models)

    @property
    def large(self) -> str | None:
        """Whom an unsettled vote of the baseline may be handed to: as named, or the only other."""
        if self.config.large is not None or self.votes is None:
            return self.config.large
        return f"single@{self.others[0]}" if len(self.others) == 1 else None

    def samples(self, model: str) -> int:
        """Samples that every question has of a model."""
        return self.plays.samples(model)

    def played(self, text: str) -> PlayedOption:
        """A policy on every question and play; worked out once.

        Policies that the executor has to play have fewer plays, and then everything has.
        """
        found = self._played.get(text)
        if found is None:
            policy = in_front_of(parse_policy(text), self.baseline.policy)
            model = self.traces.models[0]
            try:
                found = played(policy, self.plays, model)
            except Unplayable:
                found = played_by_executor(policy, WholeSource(self.traces), self.executed)
            self._played[text] = found
        return found

    @property
    def has_answers(self) -> bool:
        """Whether wrong answers can be told apart; a recording of verdicts has only one."""
        wrong = self.traces.answer[self.traces.correct == 0.0]
        return len(np.unique(wrong)) > 1

    def reverts(self, text: str) -> bool:
        """Whether a policy that does not end early gives the baseline's answer."""
        return ends_in(parse_policy(text), self.baseline.policy)

    def cost(self, option: PlayedOption) -> FloatArray:
        """Its cost, by question and play."""
        return self.tariff.cost(option.spending)

    def prompts(self, index: IntArray) -> list[str]:
        """Text of the last user turn of some questions."""
        copies = self.questions.copies
        return [self.traces.questions[copies[number][0]].prompt for number in index.tolist()]


def _means(traces: TraceSet, questions: DistinctQuestions, config: CalibrateConfig) -> bool:
    """Whether most questions were sampled often enough that their means are worth testing."""
    if config.test != "auto" or config.method == "crc":
        return config.test == "means"
    sampled = [max(traces.count[list(c)].sum(axis=0)) for c in questions.copies]
    return float(np.median(sampled)) >= LEAST_SAMPLES_FOR_MEANS


def _default_baseline(plays: Plays, config: CalibrateConfig) -> str:
    """A single call of the dearest model, else of the largest; with one model, its vote."""
    models = plays.traces.models
    if len(models) == 1:
        samples = min(plays.samples(models[0]), LARGEST_VOTE)
        return f"self_consistency:samples={samples}@{models[0]}" if samples > 2 else (
            f"single@{models[0]}"
        )  # fmt: skip
    dearest = _dearest(plays, config)
    return f"single@{dearest}"


def _dearest(plays: Plays, config: CalibrateConfig) -> str:
    """By price; without prices by the size in its name; without sizes the most accurate one."""
    models = plays.traces.models
    prices = {m: p.completion_usd for m in models if (p := config.prices.of(m)) is not None}
    if len(prices) == len(models) and len(set(prices.values())) > 1:
        return max(models, key=lambda m: prices[m])
    sizes = {m: size for m in models if (size := billions(m)) is not None}
    if len(sizes) == len(models) and len(set(sizes.values())) > 1:
        return max(models, key=lambda m: sizes[m])
    right = {m: float((plays.traces.correct[plays.rows(m)] == 1.0).mean()) for m in models}
    return max(models, key=lambda m: right[m])
