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
from suffice.recipes.ladder.pick import PICK, REFERENCE
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import DIMENSIONS, ladder_shape

Outcome = Literal["met", "missed", "not yet"]


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
class _ShapeRuns:
    shape: Shape
    losses: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.losses.mean())


def judge_ladder(
    criteria: Criteria, law: ConditionalLaw, records: Sequence[RunRecord]
) -> tuple[Judged, ...]:
    """Every criterion of the file, in its order."""
    held = _by_shape(records, ("held-out",), criteria.held_out.seeds_each)
    return (
        _order(criteria, law, held),
        _intervals(criteria, law, held),
        *_pick(criteria, law, records),
    )


def _order(criteria: Criteria, law: ConditionalLaw, held: list[_ShapeRuns]) -> Judged:
    asked, name = criteria.held_out, "order of held-out shapes"
    if len(held) < asked.shapes:
        return Judged(
            criterion=name, outcome="not yet",
            why=f"{len(held)} of {asked.shapes} shapes have {asked.seeds_each} finished runs",
        )  # fmt: skip
    predicted = np.array([_relative(law, each.shape) for each in held])
    found = rank_correlation(predicted, np.array([each.mean for each in held]))
    rho = -1.0 if found.rho is None else found.rho
    return Judged(
        criterion=name,
        outcome="met" if rho >= asked.least_spearman - 1e-9 else "missed",
        why=f"Spearman {rho:+.2f} over {len(held)} shapes (p {found.p:.2g}); at least "
        f"{asked.least_spearman:g} was asked for",
    )


def _intervals(criteria: Criteria, law: ConditionalLaw, held: list[_ShapeRuns]) -> Judged:
    asked, name = criteria.interval, "intervals of held-out ratios"
    if len(held) < criteria.held_out.shapes:
        return Judged(criterion=name, outcome="not yet", why="held-out shapes are not trained")
    best = min(held, key=lambda each: _relative(law, each.shape))
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
    sides = [_by_shape(records, (purpose,), criteria.pick.seeds) for purpose in (PICK, REFERENCE)]
    if not all(sides):
        trained = [len(_by_shape(records, (p,), 1)) for p in (PICK, REFERENCE)]
        why = f"{criteria.pick.seeds} finished runs of each are needed; begun: {sum(trained)} of 2"
        first, second = (Judged(criterion=name, outcome="not yet", why=why) for name in names)
        return first, second
    mine, theirs = sides[0][0], sides[1][0]
    difference = mine.mean - theirs.mean
    low, high = _predicted(law, mine.shape, theirs.shape, criteria.interval.confidence)
    expected = _relative(law, mine.shape) / _relative(law, theirs.shape)
    wide = _welch(mine.losses, theirs.losses, criteria.interval.confidence)
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


def _by_shape(
    records: Sequence[RunRecord], purposes: tuple[str, ...], least: int
) -> list[_ShapeRuns]:
    """Shapes of these purposes with at least `least` finished runs, in the order of the store."""
    found: dict[tuple[int, ...], list[float]] = {}
    for r in records:
        if r.purpose in purposes and r.status == "finished" and r.loss is not None:
            found.setdefault(tuple(getattr(r, name) for name in DIMENSIONS), []).append(r.loss)
    return [
        _ShapeRuns(ladder_shape(**dict(zip(DIMENSIONS, key, strict=True))), np.array(losses))
        for key, losses in found.items()
        if len(losses) >= least
    ]


def _relative(law: ConditionalLaw, shape: Shape) -> float:
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


def _welch(a: np.ndarray, b: np.ndarray, confidence: float) -> float:
    first, second = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if first + second == 0:
        return 0.0
    freedom = (first + second) ** 2 / (first**2 / (len(a) - 1) + second**2 / (len(b) - 1))
    return float(stdtrit(freedom, 0.5 + confidence / 2) * np.sqrt(first + second))
