"""From questions and arms to ratios: each lever, all of them, and what their product predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from suffice.compose.asking import Asked, ask_all, serving
from suffice.compose.config import Arm, ComposeConfig, Role
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.evals.datasets import Item, open_dataset
from suffice.evals.statistics.binomial import Interval
from suffice.evals.statistics.bootstrap import of_share, percentile_interval, question_weights
from suffice.evals.statistics.paired import Pairs, drop_upper_bound

DRAWS = 2000
Unit = Literal["cpu_s", "model_cpu_s", "wall_s", "tokens"]
# The first is what the others are told beside. CPU time of a server elsewhere is not known.
HERE: tuple[Unit, ...] = ("cpu_s", "model_cpu_s", "tokens")
ELSEWHERE: tuple[Unit, ...] = ("wall_s", "tokens")
Figure = Callable[[list[FloatArray]], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm. Costs are by unit and of a right answer: Σ cost / Σ right.

    `times_cheaper` is the baseline's cost over the arm's, on the same questions. `drop_at_most` is
    an exact upper bound of the accuracy lost against the baseline; its confidence is shared out
    among all arms, so that all bounds hold together at the run's confidence.
    """

    name: str
    role: Role
    policy: str
    right: Interval
    cost_per_right: Mapping[Unit, Interval]
    times_cheaper: Mapping[Unit, Interval]
    gain: Interval  # of accuracy over the baseline
    drop_at_most: float | None  # None of the baseline
    certified: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """All arms of one run.

    Units: cpu_s is client, gateway and models in one process, model_cpu_s the models alone; wall_s
    a request's duration, where the models are on a server; tokens all that was generated.
    """

    questions: int
    units: tuple[Unit, ...]
    arms: tuple[ArmResult, ...]
    product: Mapping[Unit, Interval]  # of the levers' single ratios
    whole_over_product: Mapping[Unit, Interval]
    # How many times cheaper all together is than each reference, by its name.
    over_reference: Mapping[str, Mapping[Unit, Interval]]
    goal: float
    max_drop: float
    confidence: float
    notes: tuple[str, ...]

    def of_role(self, role: Role) -> tuple[ArmResult, ...]:
        """The arms of a role."""
        return tuple(arm for arm in self.arms if arm.role == role)

    @property
    def unit(self) -> Unit:
        """The unit of the headline."""
        return self.units[0]

    @property
    def together(self) -> ArmResult:
        """The arm with all levers."""
        return self.of_role("together")[0]

    def left_to_goal(self, unit: Unit) -> float:
        """How many times cheaper the whole would still have to become; 1 or less: reached."""
        return self.goal / self.together.times_cheaper[unit].estimate


def compose(config: ComposeConfig, *, tell: Callable[[str], None] = lambda _: None) -> Composed:
    """Ask every question by every arm through a gateway of this process, and compare."""
    data = open_dataset(config.questions, limit=config.limit, checker=config.checker)
    items = checked(data.items)
    with serving(config) as served:
        asked = ask_all(config, items, served, tell=tell)
    return compared(config, asked, notes=data.notes)


def checked(items: Sequence[Item]) -> Sequence[Item]:
    """The questions; InputError if one has no answer to compare with, or there are too few."""
    if len(items) < 2:
        raise InputError(f"{len(items)} questions: at least 2 are needed, and some hundreds help")
    lacking = next((each for each in items if each.question.reference is None), None)
    if lacking is not None:
        raise InputError(
            f"question {lacking.question.name!r} has no answer, so nobody can tell what is right: "
            "give every question one"
        )
    return items


def compared(
    config: ComposeConfig, asked: Sequence[Sequence[Asked]], *, notes: Sequence[str] = ()
) -> Composed:
    """The figures of what was asked, whole questions resampled together for all arms."""
    units = HERE if config.models else ELSEWHERE
    n = len(asked[0])
    right = [np.array([float(each.right) for each in one]) for one in asked]
    for arm, row in zip(config.arms, right, strict=True):
        if not row.any():
            raise InputError(
                f"arm {arm.name!r} has none of {n} questions right: a right answer has no price"
            )
    cost = {
        unit: [np.array([float(getattr(each, unit)) for each in one]) for one in asked]
        for unit in units
    }
    roles = [arm.role for arm in config.arms]
    base, whole = roles.index("baseline"), roles.index("together")
    levers = [place for place, role in enumerate(roles) if role == "lever"]
    weights = question_weights(n, DRAWS, config.seed)

    def interval(figure: Figure, *columns: FloatArray) -> Interval:
        here = figure([np.array([column.mean()]) for column in columns])
        resampled = figure([weights @ column / n for column in columns])
        return percentile_interval(float(here[0]), resampled, config.confidence)

    def pair(unit: Unit, place: int) -> tuple[FloatArray, ...]:
        return cost[unit][base], right[base], cost[unit][place], right[place]

    def product(m: list[FloatArray]) -> FloatArray:
        singles = [_ratio(m[4 * at : 4 * at + 4]) for at in range(len(levers))]
        found: FloatArray = np.prod(singles, axis=0)
        return found

    def result(place: int, arm: Arm) -> ArmResult:
        drop = None
        if place != base:
            shared = 1.0 - (1.0 - config.confidence) / (len(roles) - 1)
            drop = drop_upper_bound(Pairs.of(right[base], right[place]), shared)
        return ArmResult(
            name=arm.name,
            role=arm.role,
            policy=arm.policy,
            right=of_share(interval(lambda m: m[0], right[place]), n),
            cost_per_right={
                unit: interval(lambda m: m[0] / m[1], cost[unit][place], right[place])
                for unit in units
            },
            times_cheaper={unit: interval(_ratio, *pair(unit, place)) for unit in units},
            gain=interval(lambda m: m[0] - m[1], right[place], right[base]),
            drop_at_most=drop,
            certified=None if drop is None else drop <= config.max_drop,
        )

    def over(place: int) -> dict[Unit, Interval]:
        return {
            unit: interval(_ratio, cost[unit][place], right[place], cost[unit][whole], right[whole])
            for unit in units
        }

    every = {
        unit: [column for place in (*levers, whole) for column in pair(unit, place)]
        for unit in units
    }
    return Composed(
        questions=n,
        units=units,
        arms=tuple(result(place, arm) for place, arm in enumerate(config.arms)),
        product={unit: interval(product, *every[unit]) for unit in units},
        whole_over_product={
            unit: interval(lambda m: _ratio(m[-4:]) / product(m), *every[unit]) for unit in units
        },
        over_reference={
            arm.name: over(place)
            for place, arm in enumerate(config.arms)
            if arm.role == "reference"
        },
        goal=config.goal,
        max_drop=config.max_drop,
        confidence=config.confidence,
        notes=tuple(notes),
    )


def _ratio(m: Sequence[FloatArray]) -> FloatArray:
    """Cost of a right answer of the baseline over the arm's: (c0 / r0) / (c1 / r1)."""
    found: FloatArray = (m[0] / m[1]) / (m[2] / m[3])
    return found
