"""Rules that are fitted: thresholds on a predictor's judgement, tables of votes, by question group.

They choose on a third of the questions and are tested on the others, with a share of the error
probability of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.policies.cascade import Cascade
from suffice.policies.certified import Exits
from suffice.policies.thinking import Overrides
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.chains import (
    LARGEST_VOTE,
    MOST_SMALL,
    WEIGHTS,
    RuleChain,
    most_accurate,
    small_models,
)
from suffice.recipes.calibrate.config import LEAST_TO_FIT, USUAL_LIMITS
from suffice.recipes.calibrate.fit_predictor import (
    Fitted,
    fit_groups,
    fit_predictor,
    groups_of,
    predictions,
)
from suffice.recipes.calibrate.fit_vote_tables import Strong
from suffice.recipes.calibrate.gates_and_samplers import (
    GatePart,
    SamplerPart,
    Setting,
    SplitSide,
    Stopping,
    lay_group_paths,
    lay_path,
)
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.options import PlayedOption
from suffice.recipes.calibrate.prepare import certifiable_arm_of
from suffice.recipes.calibrate.stopping_times import Votes, votes_of
from suffice.recipes.calibrate.threshold_path import JudgedQuestions

QUESTIONS_PER_GROUP = 80
MOST_GROUPS = 8
# Orders of the recorded samples that tables are fitted on.
MOST_ORDERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSplit:
    """Questions that choose, and questions that test."""

    fit: IntArray
    certify: IntArray


def split_questions(ground: Inputs) -> QuestionSplit:
    """A part of the questions to choose on; the same whatever accuracy limit is asked for."""
    n, config = len(ground.questions), ground.config
    order = np.random.default_rng(config.seed).permutation(n)
    wanted = max(LEAST_TO_FIT, round(config.fit_share * n))
    return QuestionSplit(fit=np.sort(order[:wanted]), certify=np.sort(order[wanted:]))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittedOption:
    """A fitted option: its two parts, and what file and report need of them."""

    text: str  # the option, as --policy takes it
    models: tuple[str, ...]
    split: QuestionSplit
    groups: int
    fitted: Fitted | None  # None: one group, and no answer is judged
    fit: SplitSide
    certify: SplitSide
    fit_baseline_cost: FloatArray
    baseline_cost: FloatArray  # certifying, questions by plays
    group: IntArray  # of the certifying questions
    sure: FloatArray | None  # P(right) of the certifying questions' first play
    option_right: BoolArray | None
    cap: int = 0
    large: str | None = None

    @property
    def closed(self) -> Any:
        """The choice that leaves a group to the baseline."""
        found: Any = self.fit
        return found.closed

    def sampler(self, choice: Any) -> str | None:
        """A group's rule as a policy; None for thresholds of a gate."""
        if isinstance(choice, Stopping):
            return choice.text(self.cap, self.models[0])
        if isinstance(choice, VoteTable):
            own = f"{choice.text}@{self.models[0]}"
            return f"{own} > {self.large}" if self.large else own
        return None

    def chain(self, path: tuple[Setting, ...]) -> RuleChain:
        """The path as a chain."""
        return RuleChain(
            name=f"{self.text}, fitted thresholds",
            kind="fitted",
            share=WEIGHTS["fitted"],
            rules=tuple(self.said(setting) for setting in path),
            index=self.split.certify,
            make=lambda number: self.certify.step(path[number]),
            spent=lambda number: self.certify.spending(path[number]),
            fitted=(self, path),
        )

    def said(self, setting: Setting) -> str:
        """A setting in words."""
        choice = setting[0]
        if len(setting) > 1:
            return f"{self.text}, by {len(setting)} question groups"
        if isinstance(choice, Exits):
            told = [] if choice.accept is None else [f"P(right) from {choice.accept:.4g}"]
            if choice.hopeless is not None:
                told.append(f"P(the baseline would help) to {choice.hopeless:.4g}")
            return f"{self.text}: {' or '.join(told) or 'never'}"
        return self.sampler(choice) or self.text


def candidates(ground: Inputs, split: QuestionSplit) -> list[FittedOption]:
    """Every fitted option that there is something to tell apart for."""
    if ground.votes is not None and (not ground.config.options or _own_votes(ground)):
        return [_votes(ground, split)]
    found = [_gate(ground, split, text) for text in _gated(ground, split)]
    return [candidate for candidate in found if candidate is not None]


def _own_votes(ground: Inputs) -> bool:
    """Whether an option was named that draws from the baseline's own model."""
    named = [certifiable_arm_of(text, ground.traces)[2] for text in ground.config.options]
    return any(models == ground.baseline.models for models in named)


def _gated(ground: Inputs, split: QuestionSplit) -> list[str]:
    """Options that a gate may judge: one answer, or a short vote, of each small model; pairs."""
    if ground.config.options:
        return [text for text in ground.config.options if ">" not in text]
    small = small_models(ground)
    if len(small) > MOST_SMALL:
        small = most_accurate(ground, small, split.fit)
    found = []
    for model in small:
        samples = min(ground.samples(model), LARGEST_VOTE)
        found.append(f"single@{model}")
        if samples >= 3:
            found.append(f"adaptive_consistency:max_samples={min(samples, 8)}@{model}")
    found += [f"agreement:models={a}+{b}" for i, a in enumerate(small) for b in small[i + 1 :]]
    return found


def _groups(ground: Inputs, split: QuestionSplit) -> int:
    wanted = ground.config.groups
    return wanted or max(1, min(MOST_GROUPS, len(split.fit) // QUESTIONS_PER_GROUP))


def _gate(ground: Inputs, split: QuestionSplit, text: str) -> FittedOption | None:
    """A gate over an option; None where all its fitting answers are right, or all wrong."""
    text, policy, models = certifiable_arm_of(text, ground.traces)
    bare: Any = policy.inner if isinstance(policy, Overrides) else policy
    if isinstance(bare, Cascade):
        return None
    option, baseline = ground.played(text), ground.played(ground.baseline.text)
    if not option.answered.any() or not baseline.answered.any():
        return None
    fit, certify = split.fit, split.certify
    right = option.correct[fit, 0]
    if not right.any() or right.all():
        return None
    fitted = fit_predictor(
        ground.prompts(fit),
        option.confidence[fit, 0],
        right,
        baseline.correct[fit, 0] & ~right,
        groups=_groups(ground, split),
        dimensions=ground.config.dimensions,
        seed=ground.config.seed,
    )
    assert fitted.right is not None
    assert fitted.rescue is not None
    plays = min(option.correct.shape[1], baseline.correct.shape[1])
    group, sure, rescue = predictions(
        fitted.predictor, ground.prompts(certify), option.confidence[certify, :plays]
    )
    sides = (
        _gate_part(ground, fit, option, baseline, fitted.group,
                   (fitted.right[:, None], fitted.rescue[:, None])),
        _gate_part(ground, certify, option, baseline, group, (sure, rescue)),
    )  # fmt: skip
    cost = ground.cost(baseline)
    return FittedOption(
        text=text,
        models=tuple(dict.fromkeys((*models, *ground.baseline.models))),
        split=split,
        groups=_groups(ground, split),
        fitted=fitted,
        fit=sides[0],
        certify=sides[1],
        fit_baseline_cost=cost[fit, :1].ravel(),
        baseline_cost=cost[certify, :plays],
        group=group,
        sure=sure[:, 0],
        option_right=option.correct[certify, 0],
    )


def _gate_part(  # noqa: PLR0917 - one caller, all of it in hand
    ground: Inputs, index: IntArray, option: PlayedOption, baseline: PlayedOption, group: IntArray,
    judged: tuple[FloatArray, FloatArray],
) -> GatePart:  # fmt: skip
    plays = judged[0].shape[1]

    def cut(values: Any) -> Any:
        return values[index, :plays]

    answered, standing = cut(option.answered), cut(baseline.answered)
    right = cut(option.correct)
    # A baseline without any answer leaves the option's standing, as the cascade does.
    stands = answered & ~standing
    standard = cut(baseline.correct) | (stands & right)
    harmed = standard & ~right
    own, theirs = option.at(index), baseline.at(index)
    evidence = JudgedQuestions(
        group=np.repeat(group, plays),
        right=judged[0].ravel(),
        rescue=judged[1].ravel(),
        answered=answered.ravel(),
        harmed=harmed.ravel(),
        helped=(~standard & right).ravel(),
        unsaved=(harmed & stands).ravel(),
        differs=(cut(option.answer) != cut(baseline.answer)).ravel(),
        option_cost=cut(ground.cost(option)).ravel(),
        baseline_cost=cut(ground.cost(baseline)).ravel(),
    )
    return GatePart(
        evidence=evidence,
        shape=(len(index), plays),
        baseline_right=cut(baseline.correct),
        option={m: _first(spent, plays) for m, spent in own.spending.items()},
        baseline={m: _first(spent, plays) for m, spent in theirs.spending.items()},
    )


def _first(spent: Any, plays: int) -> Any:
    fields = ("samples", "prompt_tokens", "cached_tokens", "completion_tokens")
    return type(spent)(**{name: getattr(spent, name)[:, :plays] for name in fields})


def _votes(ground: Inputs, split: QuestionSplit) -> FittedOption:
    """Stopping rules and tables of the baseline's own vote, with a large model behind if named."""
    cap, model = ground.votes, ground.baseline.models[0]
    assert cap is not None
    groups = ground.config.groups or 1
    fitted = None
    if groups > 1:
        fitted = fit_groups(
            ground.prompts(split.fit), groups=groups, dimensions=ground.config.dimensions,
            seed=ground.config.seed,
        )  # fmt: skip
    certify_group = np.zeros(len(split.certify), dtype=np.int64)
    fit_group = np.zeros(len(split.fit), dtype=np.int64)
    if fitted is not None:
        words = fitted.predictor.featuriser.matrix(ground.prompts(split.certify))
        fit_group, certify_group = fitted.group, groups_of(fitted.predictor, words)
    large, behind = None, None
    if ground.large is not None:
        large, policy, _ = certifiable_arm_of(ground.large, ground.traces)
        if isinstance(policy, Cascade):
            raise InputError(f"--large {large!r} is a cascade: name one policy")
        behind = ground.played(large)
    rows = ground.plays.rows(model)[:, :, :cap]

    def part(index: IntArray, plays: int, group: IntArray, orders: int) -> SamplerPart:
        standard = ground.played(ground.baseline.text).at(index)
        handed = None if behind is None else behind.at(index)
        return SamplerPart(
            model=model,
            votes=votes_of(ground.traces, rows[index][:, :plays].reshape(-1, cap)),
            groups=np.repeat(group, plays),
            shape=(len(index), plays),
            tariff=ground.tariff,
            baseline_right=standard.correct[:, :plays].ravel(),
            baseline_cost=ground.cost(standard)[:, :plays].ravel(),
            large=None if handed is None else Strong(
                right=handed.correct[:, :plays].ravel(),
                answered=handed.answered[:, :plays].ravel(),
                answer=handed.answer[:, :plays].ravel(),
                cost=ground.cost(handed)[:, :plays].ravel(),
            ),
            large_spending=None if handed is None else {
                m: _first(spent, plays) for m, spent in handed.spending.items()
            },
            orders=tuple(_order(ground, rows[index], play) for play in range(orders)),
        )  # fmt: skip

    plays = ground.played(ground.baseline.text).correct.shape[1]
    if behind is not None:
        plays = min(plays, behind.correct.shape[1])
    cost = ground.cost(ground.played(ground.baseline.text))
    models = (model,) if behind is None else tuple(dict.fromkeys((model, *behind.spending)))
    return FittedOption(
        text=f"two_sided:max_samples={cap}@{model}" + (f" > {large}" if large else ""),
        models=models,
        split=split,
        groups=groups,
        fitted=fitted,
        fit=part(split.fit, 1, fit_group, min(MOST_ORDERS, ground.plays.count)),
        certify=part(split.certify, plays, certify_group, 0),
        fit_baseline_cost=cost[split.fit, :1].ravel(),
        baseline_cost=cost[split.certify, :plays],
        group=certify_group,
        sure=None,
        option_right=None,
        cap=cap,
        large=large,
    )


def _order(ground: Inputs, rows: IntArray, play: int) -> Votes:
    return votes_of(ground.traces, rows[:, play])


def laid(candidate: FittedOption, ground: Inputs) -> tuple[Setting, ...]:
    """The path of a candidate over the whole."""
    net = ground.config.used_loss == "drop"
    return lay_path(
        candidate.fit, candidate.fit_baseline_cost, candidate.groups, net=net,
        steps=ground.config.steps,
    )  # fmt: skip


def laid_by_group(candidate: FittedOption, ground: Inputs) -> tuple[tuple[Setting, ...], ...]:
    """A path for every group of a candidate."""
    net = ground.config.used_loss == "drop"
    return lay_group_paths(
        candidate.fit, candidate.fit_baseline_cost, candidate.groups, candidate.closed, net=net,
        steps=ground.config.steps,
    )  # fmt: skip


def promise(candidate: FittedOption, path: tuple[Setting, ...], ground: Inputs) -> float:
    """What a path saves on the fitting questions at half of each usual limit, in the mean."""
    net = ground.config.used_loss == "drop"
    cost, n = candidate.fit_baseline_cost.sum(), len(candidate.split.fit)
    best = np.zeros(len(USUAL_LIMITS))
    for setting in path:
        step = candidate.fit.step(setting)
        lost = float(step.harmed.sum() - (step.helped.sum() if net else 0)) / n
        saved = 1.0 - float(step.cost.sum() / cost)
        fits = lost <= np.array(USUAL_LIMITS) / 2
        best = np.where(fits, np.maximum(best, saved), best)
    return float(best.mean())
