"""Plain rules that anyone would try first, with the same models: nothing tuned, nothing certified.

They stand beside every saving: where a certified rule is no cheaper than a plain one that loses as
little, what the certificate adds is the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from suffice.recipes.calibrate.certify import RuleEffect
from suffice.recipes.calibrate.chains import (
    LARGEST_VOTE,
    MOST_SMALL,
    settled,
    small_models,
    unanimous,
)
from suffice.recipes.calibrate.inputs import Inputs

CUSTOMARY = 0.95  # Adaptive-Consistency's threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """One plain rule on all questions."""

    name: str
    rule: str  # as --policy takes it
    saving: float
    drop: float
    accuracy: float


def plain_rules(ground: Inputs) -> tuple[Plain, ...]:
    """What the plain rules save and lose."""
    found = [(name, rule) for name, rule in _rules(ground) if rule != ground.baseline.text]
    return tuple(_plain(ground, name, rule) for name, rule in found)


def _rules(ground: Inputs) -> list[tuple[str, str]]:
    behind = ground.baseline.text
    found = []
    if ground.votes is not None and ground.votes > 2:
        model = ground.baseline.models[0]
        text = f"{settled(CUSTOMARY, ground.votes)}@{model}"
        found += [(f"Adaptive-Consistency at {CUSTOMARY}", text), ("one sample", f"single@{model}")]
        if ground.large is not None:
            found += [
                (f"{n} of {model} agree, else {ground.large}",
                 f"{unanimous(n)}@{model} > {ground.large}")
                for n in (2, 3)
            ]  # fmt: skip
    small = small_models(ground)[:MOST_SMALL]
    for model in small:
        found.append((f"{model} alone", f"single@{model}"))
        samples = ground.samples(model)
        found += [
            (f"{n} of {model} agree, else baseline", f"{unanimous(n)}@{model} > {behind}")
            for n in (2, 3)
            if samples >= n
        ]
        if samples >= 3 and ground.votes is None:
            cap = min(samples, LARGEST_VOTE)
            text = f"{settled(CUSTOMARY, cap)}@{model}"
            found.append((f"Adaptive-Consistency of {model} at {CUSTOMARY}", text))
    for size in (2, 3):
        for group in combinations(small, size):
            rule = f"agreement:models={'+'.join(group)} > {behind}"
            found.append((f"{' and '.join(group)} agree, else baseline", rule))
    return found


def _plain(ground: Inputs, name: str, rule: str) -> Plain:
    option, baseline = ground.played(rule), ground.played(ground.baseline.text)
    costs = ground.cost(option), ground.cost(baseline)
    step = RuleEffect.of(option, baseline, costs, reverts=ground.reverts(rule))
    drop = float(step.losses("drop").mean())
    return Plain(
        name=name,
        rule=rule,
        saving=step.saving,
        drop=drop,
        accuracy=float(baseline.correct.mean()) - drop,
    )
