"""Whether a ladder's law kept its word, by criteria that were written down before the first run.

The criteria file is fixed and committed before training; `judge_ladder` reads it, the law and the
store, and says of each criterion whether it is met, missed or not measured yet. Nothing in it can
be chosen afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.special import stdtrit

from suffice.architecture.fitting.evaluation import rank_correlation
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.predict import shape_variables
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.core.files import read_json
from suffice.recipes.ladder.pick import EQUAL_REFERENCE, PICK, REFERENCE
from suffice.recipes.ladder.plan import HELD_OUT
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import DIMENSIONS, ladder_shape

Outcome = Literal["met", "missed", "not yet"]
# Purposes of the runs that criteria are about.
JUDGED = (HELD_OUT, PICK, REFERENCE, EQUAL_REFERENCE)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeldOut(_Section):
    """Shapes of a new size, far apart in the law's prediction, and the order they must be in."""

    size: int = Field(gt=0)
    shapes: int = Field(ge=2)
    seeds_each: int = Field(ge=1)
    chosen_by: str
    least_spearman: float = Field(ge=-1, le=1)
    note: str = ""


class Intervals(_Section):
    """How many of the held-out shapes' ratios to the best one the law's intervals must hold."""

    confidence: float = Field(gt=0.5, lt=1)
    pairs: str
    least_held: int = Field(ge=0)
    of: int = Field(ge=1)


class Pick(_Section):
    """The law's best shape against a reference: the sign and the size of their difference."""

    size: int = Field(gt=0)
    seeds: int = Field(ge=2)
    pick: str
    reference: str
    sign: str
    size_of_difference: str


class FittedOn(_Section):
    """Which runs make the law."""

    sizes: tuple[int, ...]
    purposes: tuple[str, ...]
    seeds_each: int


class FullLadder(_Section):
    """The larger plan under the same criteria."""

    plan: str
    cpu_hours: float
    same_criteria_at: int


class Criteria(_Section):
    """A criteria file, format 1."""

    format: Literal[1]
    fixed_on: str
    question: str
    fitted_on: FittedOn
    form: str
    held_out: HeldOut
    interval: Intervals
    pick: Pick
    lowest_points: str
    learning_rate: str
    also_reported: tuple[str, ...] = ()
    full_ladder: FullLadder | None = None

    @classmethod
    def load(cls, path: Path) -> Criteria:
        """Read a criteria file; unknown and missing fields are errors."""
        try:
            return cls.model_validate(read_json(path, what="criteria of a ladder"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"criteria {str(path)!r}: {where}: {first['msg']}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One criterion, how it came out, and the figures behind it in a sentence."""

    criterion: str
    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class ShapeRuns:
    """A shape, what it was trained on, and the losses of its seeds, nats."""

    shape: Shape
    tokens: int
    losses: np.ndarray

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.losses.mean())


def judge_ladder(
    criteria: Criteria, law: ConditionalLaw, records: Sequence[RunRecord]
) -> tuple[Judged, ...]:
    """Every criterion of the file, in its order."""
    # A shape may be held out and the law's pick: its runs are made once and count for both.
    held = [
        ShapeRuns(each.shape, each.tokens, each.losses[: criteria.held_out.seeds_each])
        for each in runs_of(records, HELD_OUT, least=criteria.held_out.seeds_each)
    ]
    return (
        _order(criteria, law, held),
        _intervals(criteria, law, held),
        *_pick(criteria, law, records),
    )


def _order(criteria: Criteria, law: ConditionalLaw, held: list[ShapeRuns]) -> Judged:
    asked, name = criteria.held_out, "order of held-out shapes"
    if len(held) < asked.shapes:
        return Judged(
            criterion=name, outcome="not yet",
            why=f"{len(held)} of {asked.shapes} shapes have {asked.seeds_each} finished runs",
        )  # fmt: skip
    predicted = np.array([relative_loss(law, each.shape) for each in held])
    found = rank_correlation(predicted, np.array([each.mean for each in held]))
    if found.rho is None or found.p is None:
        return Judged(
            criterion=name, outcome="missed",
            why=f"the {len(held)} shapes cannot be ordered: all are predicted, or measured, equal",
        )  # fmt: skip
    return Judged(
        criterion=name,
        outcome="met" if found.rho >= asked.least_spearman - 1e-9 else "missed",
        why=f"Spearman {found.rho:+.2f} over {len(held)} shapes (p {found.p:.2g}); at least "
        f"{asked.least_spearman:g} was asked for",
    )


def _intervals(criteria: Criteria, law: ConditionalLaw, held: list[ShapeRuns]) -> Judged:
    asked, name = criteria.interval, "intervals of held-out ratios"
    if len(held) < criteria.held_out.shapes:
        return Judged(criterion=name, outcome="not yet", why="held-out shapes are not trained")
    best = min(held, key=lambda each: relative_loss(law, each.shape))
    count, texts = 0, []
    for each in held:
        if each is best:
            continue
        low, high = _predicted(law, each.shape, best.shape, asked.confidence)
        ratio = each.mean / best.mean
        count += low <= ratio <= high
        texts.append(f"{ratio:.4f} in [{low:.4f}, {high:.4f}]")
    return Judged(
        criterion=name,
        outcome="met" if count >= asked.least_held else "missed",
        why=f"{count} of {asked.of} held: {'; '.join(texts)}",
    )


def _pick(
    criteria: Criteria, law: ConditionalLaw, records: Sequence[RunRecord]
) -> tuple[Judged, Judged]:
    names = ("sign of pick less reference", "size of pick over reference")
    asked = criteria.pick.seeds
    sides = [runs_of(records, purpose, least=asked) for purpose in (PICK, REFERENCE)]
    if not all(sides):
        begun = [
            f"{purpose} {max((len(r.losses) for r in runs_of(records, purpose)), default=0)}"
            for purpose in (PICK, REFERENCE)
        ]
        why = f"{asked} finished runs of each are needed; there are: {', '.join(begun)}"
        first, second = (Judged(criterion=name, outcome="not yet", why=why) for name in names)
        return first, second
    mine, theirs = sides[0][0], sides[1][0]
    difference = mine.mean - theirs.mean
    low, high = _predicted(law, mine.shape, theirs.shape, criteria.interval.confidence)
    expected = relative_loss(law, mine.shape) / relative_loss(law, theirs.shape)
    wide = welch(mine.losses, theirs.losses, criteria.interval.confidence)
    measured = (
        1 + (difference - wide) / theirs.mean, 1 + (difference + wide) / theirs.mean
    )  # fmt: skip
    right = bool(np.sign(difference) == np.sign(expected - 1))
    overlap = max(low, measured[0]) <= min(high, measured[1])
    figures = (
        f"law {expected:.4f} [{low:.4f}, {high:.4f}], measured {mine.mean / theirs.mean:.4f} "
        f"[{measured[0]:.4f}, {measured[1]:.4f}]"
    )
    return (
        Judged(criterion=names[0], outcome="met" if right else "missed", why=figures),
        Judged(criterion=names[1], outcome="met" if overlap else "missed", why=figures),
    )


def runs_of(records: Sequence[RunRecord], purpose: str, *, least: int = 1) -> list[ShapeRuns]:
    """Shapes that have a run of `purpose`, with the losses of at least `least` seeds, by seed.

    A run is made once whatever it is for, so that seeds of the same shape and tokens count that
    carry another of the purposes judged here.
    """
    found: dict[tuple[int, ...], dict[int, float]] = {}
    asked = {_key(r) for r in records if r.purpose == purpose and r.loss is not None}
    for r in records:
        if r.purpose in JUDGED and r.status == "finished" and r.loss is not None:
            found.setdefault(_key(r), {}).setdefault(r.seed, r.loss)
    return [
        ShapeRuns(
            ladder_shape(**dict(zip(DIMENSIONS, key[:-1], strict=True))),
            key[-1],
            np.array([seeds[seed] for seed in sorted(seeds)]),
        )
        for key, seeds in found.items()
        if key in asked and len(seeds) >= least
    ]


def _key(r: RunRecord) -> tuple[int, ...]:
    return (*(getattr(r, name) for name in DIMENSIONS), r.tokens)


def relative_loss(law: ConditionalLaw, shape: Shape) -> float:
    """L / L_opt of `shape` by `law`."""
    return float(np.squeeze(law.relative_loss(**_variables(law, shape))))


def _predicted(
    law: ConditionalLaw, shape: Shape, other: Shape, confidence: float
) -> tuple[float, float]:
    """Two-sided bounds of the ratio of losses; the law's own are one-sided at each end."""
    found = law.compare(
        **_variables(law, shape), versus=_variables(law, other), confidence=0.5 + confidence / 2
    )
    return float(np.squeeze(found.low)), float(np.squeeze(found.high))


def _variables(law: ConditionalLaw, shape: Shape) -> dict[str, float]:
    values = shape_variables(shape)
    return {name: values[name] for name in law.family.variables}


def welch(a: np.ndarray, b: np.ndarray, confidence: float) -> float:
    """Half the width of the two-sided interval of the difference of two means (Welch's t)."""
    first, second = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if first + second == 0:
        return 0.0
    freedom = (first + second) ** 2 / (first**2 / (len(a) - 1) + second**2 / (len(b) - 1))
    return float(stdtrit(freedom, 0.5 + confidence / 2) * np.sqrt(first + second))
