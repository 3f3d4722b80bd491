"""How often criteria would be met at the measured noise: by a right law, and if shape is nothing.

A criterion that a right law meets in half of all repetitions says little when it is missed, and one
that a law without any knowledge meets as often says little when it is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from suffice.architecture.laws import ConditionalLaw
from suffice.recipes.ladder.criteria import JUDGED, Criteria, judge_ladder, relative_loss
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import DIMENSIONS, ladder_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionPower:
    """Shares of repetitions in which a criterion is met."""

    criterion: str
    if_right: float
    if_flat: float
    noise_percent: float

    def sentence(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.criterion}: at {self.noise_percent:.1f} % between seeds a law that is right "
            f"meets it in {self.if_right:.0%} of repetitions, one of shapes that are all alike in "
            f"{self.if_flat:.0%}"
        )


def seed_noise_percent(records: Sequence[RunRecord]) -> float | None:
    """Standard deviation of ln loss over seeds of a shape and budget, pooled, per cent."""
    groups: dict[tuple[object, ...], list[float]] = {}
    for r in records:
        if r.status == "finished" and r.loss is not None:
            key = (*(getattr(r, name) for name in DIMENSIONS), r.tokens, r.recipe,
                   r.learning_rate_factor)  # fmt: skip
            groups.setdefault(key, []).append(float(np.log(r.loss)))
    freedom = sum(len(values) - 1 for values in groups.values())
    if not freedom:
        return None
    squares = sum(float(np.var(values)) * len(values) for values in groups.values())
    return float(100 * (squares / freedom) ** 0.5)


def criteria_power(
    criteria: Criteria,
    law: ConditionalLaw,
    records: Sequence[RunRecord],
    *,
    repetitions: int = 200,
    seed: int = 0,
) -> tuple[CriterionPower, ...]:
    """Power of each criterion that is judged: losses of the judged runs made up anew.

    Each is level x ratio x exp(noise): the law's own ratio where it is right, 1 where shape does
    nothing. Empty where no seeds differ, or nothing is judged yet.
    """
    noise = seed_noise_percent(records)
    mine = [r for r in records if r.purpose in JUDGED and r.status == "finished" and r.loss]
    names = [
        each.criterion for each in judge_ladder(criteria, law, mine) if each.outcome != "not yet"
    ]
    if noise is None or not names:
        return ()
    level = float(np.mean([r.loss for r in mine if r.loss]))
    right = np.array([
        relative_loss(law, ladder_shape(**{name: getattr(r, name) for name in DIMENSIONS}))
        for r in mine
    ])  # fmt: skip
    shares = []
    for ratio in (right / right.mean(), np.ones(len(mine))):
        rng = np.random.default_rng(seed)
        met = dict.fromkeys(names, 0)
        for _ in range(repetitions):
            losses = level * ratio * np.exp(noise / 100 * rng.standard_normal(len(mine)))
            made = [replace(r, loss=float(v)) for r, v in zip(mine, losses, strict=True)]
            for each in judge_ladder(criteria, law, made):
                if each.criterion in met:
                    met[each.criterion] += each.outcome == "met"
        shares.append({name: count / repetitions for name, count in met.items()})
    return tuple(
        CriterionPower(
            criterion=name, if_right=shares[0][name], if_flat=shares[1][name], noise_percent=noise
        )
        for name in names
    )
