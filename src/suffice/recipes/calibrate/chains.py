"""Paths of rules from the most cautious to the boldest, fixed before any recording was seen.

A chain is a path. What needs no fitting is tested on all questions: votes ended by customary
thresholds, samples that all agree, two or three models that agree, answers of customary
confidence, and the option alone at the end. Fitted rules (fitted.py) come behind them, with a share
of the error probability of their own.

    stop     the baseline is a vote: the same samples, until their agreement is high enough
    hand on  a vote of a small model that is settled stands, else the baseline is asked
    agree    all of n samples of a small model agree, else the baseline; at last one sample alone
    models   two or three models agree, else the baseline
    sure     a single answer of high token confidence stands, else the baseline
    vote     a vote of a small model, without the baseline
    named    an option that the operator named, alone or with the baseline behind it
    fitted   thresholds, tables and question groups fitted on a part of the questions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from suffice.core.arrays import IntArray
from suffice.core.errors import InputError
from suffice.policies.agreement import AdaptiveConsistency, Agreement
from suffice.policies.cascade import Cascade
from suffice.policies.fixed import Single
from suffice.policies.thinking import Overrides
from suffice.recipes.calibrate.certify import RuleEffect, Test
from suffice.recipes.calibrate.gates_and_samplers import THRESHOLDS
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.options import PlayedOption
from suffice.recipes.calibrate.prepare import certifiable_arm_of
from suffice.recipes.calibrate.spending import Spending

Kind = Literal["stop", "hand on", "agree", "models", "sure", "vote", "named", "fitted"]

# Shares of the error probability, before they are scaled to the chains that there are: what saves
# most often in front of a large model gets most.
WEIGHTS: dict[Kind, float] = {
    "stop": 3.0, "hand on": 2.0, "agree": 3.0, "models": 3.0, "sure": 2.0, "vote": 1.0,
    "named": 3.0, "fitted": 3.0,
}  # fmt: skip
# Token confidences from which a single answer stands.
CONFIDENCES = (*THRESHOLDS, 0.7, 0.6, 0.5)
BOLDEST_OF_VOTES = 0.999
MOST_AGREEING = 5  # samples that must all agree, at most
LARGEST_HAND_ON = 8  # samples of a small model before the baseline is asked
LARGEST_VOTE = 40
MOST_SMALL = 3  # small models that are tried where none is named


Plan = tuple[Kind, str, tuple[str, ...]]  # kind, name, rules


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RuleChain:
    """One path; `index` are the questions that certify it, `share` its part of alpha."""

    name: str
    kind: Kind
    share: float
    rules: tuple[str, ...]  # as --policy takes them, or in words where they are fitted
    index: IntArray
    make: Callable[[int], RuleEffect]
    spent: Callable[[int], Spending]
    fitted: Any = None  # what a fitted chain's rules are made of
    _steps: dict[int, RuleEffect] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rules)

    def tested_by(self, test: Test) -> Test:
        """The test of its rules: of votes over the same samples, with the boldest bets.

        Such rules hardly ever lose all plays of a question, which is what would ruin them.
        """
        return replace(test, boldest=BOLDEST_OF_VOTES) if self.kind == "stop" else test

    def step(self, number: int) -> RuleEffect:
        """What rule `number` does to the certifying questions."""
        found = self._steps.get(number)
        if found is None:
            found = self._steps[number] = self.make(number)
        return found


def chain_of(
    ground: Inputs, kind: Kind, name: str, rules: Sequence[str], index: IntArray | None = None
) -> RuleChain:
    """A chain of policies that need no fitting, on all questions or on those of `index`."""
    chosen = np.arange(len(ground.questions)) if index is None else index

    def played(number: int) -> PlayedOption:
        return ground.played(rules[number]).at(chosen)

    def make(number: int) -> RuleEffect:
        option, baseline = played(number), ground.played(ground.baseline.text).at(chosen)
        costs = ground.cost(option), ground.cost(baseline)
        return RuleEffect.of(option, baseline, costs, reverts=ground.reverts(rules[number]))

    return RuleChain(
        name=name, kind=kind, share=WEIGHTS[kind], rules=tuple(rules), index=chosen, make=make,
        spent=lambda number: played(number).spending,
    )  # fmt: skip


def fixed_chains(ground: Inputs, pilot: IntArray) -> list[Plan]:
    """Every sensible chain that needs no fitting; `pilot` questions choose among many models."""
    if ground.config.options:
        return [found for text in ground.config.options for found in _named(ground, text)]
    found: list[Plan] = []
    if ground.votes is not None and ground.votes > 2:
        found.append(_stopping(ground, ground.votes))
    behind, small = ground.baseline.text, small_models(ground)
    small = small if len(small) <= MOST_SMALL else most_accurate(ground, small, pilot)
    for model in small:
        found += _of_small(ground, model, behind)
    groups = [g for size in (3, 2) for g in combinations(small, size)]
    if groups:
        rules = tuple(f"agreement:models={'+'.join(group)} > {behind}" for group in groups)
        found.append(("models", f"{' and '.join(small)} agree, else {behind}", rules))
    if ground.large is not None and ground.votes is not None:
        found += _handed_to(ground, ground.votes, ground.large)
    return found


def small_models(ground: Inputs) -> tuple[str, ...]:
    """Models that may answer in the baseline's place, the cheapest first.

    With prices, those of which a sample costs less than the baseline.
    """
    cost = {m: float(ground.cost(ground.played(f"single@{m}")).mean()) for m in ground.others}
    standard = float(ground.cost(ground.played(ground.baseline.text)).mean())
    priced = bool(ground.config.prices)
    cheaper = [m for m in ground.others if cost[m] < standard or not priced]
    return tuple(sorted(cheaper, key=lambda m: cost[m]))


def most_accurate(ground: Inputs, small: Sequence[str], pilot: IntArray) -> tuple[str, ...]:
    """Of many models, those that are most often right on the pilot questions."""
    right = {m: float(ground.played(f"single@{m}").correct[pilot].mean()) for m in small}
    best = sorted(small, key=lambda m: -right[m])[:MOST_SMALL]
    return tuple(m for m in small if m in best)


def _stopping(ground: Inputs, cap: int) -> Plan:
    model = ground.baseline.models[0]
    rules = tuple(f"{settled(t, cap)}@{model}" for t in THRESHOLDS)
    return "stop", f"the vote of {cap} of {model}, ended once it is settled", rules


def settled(threshold: float, cap: int) -> str:
    """Adaptive-Consistency as it was published: it never gives in because answers scatter."""
    return f"adaptive_consistency:threshold={threshold:g},max_samples={cap},scatter=none"


def _handed_to(ground: Inputs, cap: int, large: str) -> list[Plan]:
    """A vote that is settled stands, or samples that all agree; else the large model is asked."""
    text, _, _ = certifiable_arm_of(large, ground.traces)
    if ">" in text:
        raise InputError(f"--large {text!r} is a cascade: name one policy")
    model, most = ground.baseline.models[0], min(cap, LARGEST_HAND_ON)
    rules = tuple(f"{unanimous(n)}@{model} > {text}" for n in range(min(cap, MOST_AGREEING), 1, -1))
    return [
        ("hand on", f"a vote of {model} that is settled, else {text}",
         _hand_on(model, most, text)),
        ("agree", f"samples of {model} that all agree, else {text}", rules),
    ]  # fmt: skip


def _hand_on(model: str, most: int, behind: str) -> tuple[str, ...]:
    return tuple(
        f"adaptive_consistency:threshold={t:g},max_samples={most},accept={t:g}@{model} > {behind}"
        for t in THRESHOLDS
    )


def _of_small(ground: Inputs, model: str, behind: str) -> list[Plan]:
    samples, single = ground.samples(model), f"single@{model}"
    found: list[Plan] = []
    if samples >= 2:
        most = min(samples, MOST_AGREEING)
        rules = [f"{unanimous(n)}@{model} > {behind}" for n in range(most, 1, -1)]
        name = f"samples of {model} that all agree, else {behind}"
        found.append(("agree", name, (*rules, single)))
    if samples >= 3:
        most = min(samples, LARGEST_HAND_ON)
        name = f"a vote of {model} that is settled, else {behind}"
        found.append(("hand on", name, _hand_on(model, most, behind)))
        cap = min(samples, LARGEST_VOTE)
        rules = [f"{settled(t, cap)}@{model}" for t in THRESHOLDS]
        found.append(("vote", f"a vote of up to {cap} of {model} alone", tuple(rules)))
    return found + _confident(ground, model, behind)


def _confident(ground: Inputs, model: str, behind: str) -> list[Plan]:
    """Single answers that are sure enough, at last all of them."""
    single = f"single@{model}"
    if bool(np.isfinite(ground.played(single).confidence).all()):
        rules = [f"single:accept={c:g}@{model} > {behind}" for c in CONFIDENCES]
        return [("sure", f"confident answers of {model}, else {behind}", (*rules, single))]
    if ground.samples(model) < 2:
        return [("sure", f"{model} alone", (single,))]
    return []


def unanimous(count: int) -> str:
    """The policy "all of so many samples agree, or give up", drawn one after the other."""
    answer = "+".join(["-"] * (count - 1) + [str(count)])
    give_up = "+".join(
        ["-", *(str(n - 1) * (n // 2 + 1) for n in range(2, count + 1))]
    )  # any sample that differs, or says nothing
    return f"vote_table:answer={answer},escalate={give_up}"


def _named(ground: Inputs, text: str) -> list[Plan]:
    """Chains of an option that the operator named."""
    text, policy, models = certifiable_arm_of(text, ground.traces)
    behind = ground.baseline.text
    bare: Any = policy.inner if isinstance(policy, Overrides) else policy
    if isinstance(policy, Cascade):
        return [("named", text, (text,))]
    if ground.votes is not None and models == ground.baseline.models:
        if not isinstance(bare, AdaptiveConsistency):
            raise InputError(
                f"option {text!r} draws from the baseline's own model: in front of {behind} only "
                "adaptive_consistency or two_sided can save anything"
            )
        return [_stopping(ground, ground.votes)]
    match bare:
        case Single():
            return _confident(ground, models[0], behind) or [
                ("sure", f"{models[0]} alone", (text,))
            ]
        case AdaptiveConsistency():
            cap = min(bare.max_samples, ground.samples(models[0]))
            name = f"a vote of {models[0]} that is settled, else {behind}"
            return [("hand on", name, _hand_on(models[0], cap, behind)), ("named", text, (text,))]
        case Agreement():
            return [("models", f"{text}, else {behind}", (f"{text} > {behind}",))]
    return [("named", f"{text}, else {behind}", (f"{text} > {behind}", text))]
