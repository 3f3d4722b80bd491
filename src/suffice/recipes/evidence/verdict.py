"""From a result to figures, and from figures to a verdict: nothing here is typed in by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from suffice.core.errors import InputError
from suffice.core.figures import Step, figure_at
from suffice.core.files import read_json, read_text
from suffice.recipes.evidence.claim import Claim, Condition, Measure, Scale, Seed

# A test is a toy if the largest thing in it is smaller than this share of the paper's smallest.
TOY_SHARE = 0.1
# What a prediction or a simulation says was not seen to happen.
NOT_SEEN = ("predicted", "simulated")


class Verdict(StrEnum):
    """What a test says of a claim."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    TOY = "toy"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured number; low and high are the ends of its interval, if it has one."""

    measure: Measure
    estimate: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def bound(self, name: str) -> float:
        """An end of the interval, or the estimate; raises InputError where there is no interval."""
        found = {"estimate": self.estimate, "low": self.low, "high": self.high}[name]
        if found is None:
            raise InputError(f"{self.measure.name} has no interval, and a rule asks for its {name}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim's verdict. `holds`: whether the figures speak for it; None if they do not tell."""

    verdict: Verdict
    holds: bool | None
    figures: tuple[Figure, ...] = ()

    @property
    def word(self) -> str:
        """The verdict in a word; a toy says for or against."""
        if self.verdict is Verdict.TOY:
            return f"toy, {'holds' if self.holds else 'fails'}"
        return str(self.verdict)


def judge(claim: Claim, root: Path) -> Judged:
    """Figures and verdict of a claim from its committed result; none there: not tested."""
    if claim.test is None or not (root / claim.test.result).exists():
        return Judged(verdict=Verdict.NOT_TESTED, holds=None)
    try:
        return judge_figures(claim, figures_of(claim, root))
    except InputError as error:
        raise InputError(f"{claim.test.result}: {error}") from None


def judge_figures(claim: Claim, figures: Sequence[Figure]) -> Judged:
    """The rule of the claim, applied to its figures."""
    by_name = {each.measure.name: each for each in figures}
    holds = bool(claim.holds_if) and all(met(each, by_name) for each in claim.holds_if)
    fails = bool(claim.fails_if) and all(met(each, by_name) for each in claim.fails_if)
    if holds and fails:
        raise InputError(f"{claim.title}: the rule says that it holds and that it fails")
    if not holds and not fails:
        return Judged(verdict=Verdict.INCONCLUSIVE, holds=None, figures=tuple(figures))
    assert claim.scale is not None  # the registry refuses a test without it
    refuted = fails and claim.universal and claim.scale.by not in NOT_SEEN
    if is_toy(claim.scale) and not refuted:
        verdict = Verdict.TOY
    else:
        verdict = Verdict.VERIFIED if holds else Verdict.FALSIFIED
    return Judged(verdict=verdict, holds=holds, figures=tuple(figures))


def is_toy(scale: Scale) -> bool:
    """Whether a test says more about small things than about the paper's, or only predicts."""
    small = scale.paper is not None and scale.ours[1] < TOY_SHARE * scale.paper[0]
    return small or scale.by in NOT_SEEN


def met(condition: Condition, figures: dict[str, Figure]) -> bool:
    """Whether a condition of a rule holds."""
    value = figures[condition.measure].bound(condition.bound)
    if condition.above is not None:
        return value > condition.above
    if condition.below is not None:
        return value < condition.below
    if condition.above_measure is not None:
        return value > figures[condition.above_measure].estimate
    assert condition.below_measure is not None
    return value < figures[condition.below_measure].estimate


def figures_of(claim: Claim, root: Path, result: Any = None) -> tuple[Figure, ...]:
    """Every figure of a claim; `result` is a fresh one instead of the committed file."""
    assert claim.test is not None
    if result is None:
        result = document(root / claim.test.result)
    return tuple(
        over_seeds(measure, result, root) if measure.seeds else figure_of(measure, result)
        for measure in claim.measures
    )


def document(path: Path) -> Any:
    """A JSON file; the lines of a .jsonl file as a list."""
    if path.suffix == ".jsonl":
        lines = read_text(path, what="result").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    return read_json(path, what="result")


def figure_of(measure: Measure, result: Any) -> Figure:
    """The figure at the measure's place, in its unit. A difference of two has no interval."""
    found = figure_at(result, measure.at)
    estimate, low, high = _interval(found, measure.at, measure.key)
    if measure.minus:
        estimate -= _interval(figure_at(result, measure.minus), measure.minus, measure.key)[0]
        low = high = None
    n = measure.n
    if measure.n_at:
        n = int(figure_at(result, measure.n_at))
    elif isinstance(found, dict) and "n" in found:
        n = int(found["n"])
    ends = [None if end is None else measure.scale * end for end in (low, high)]
    if measure.scale < 0:
        ends.reverse()
    return Figure(
        measure=measure, estimate=measure.scale * estimate, low=ends[0], high=ends[1], n=n
    )


def over_seeds(measure: Measure, result: Any, root: Path) -> Figure:
    """Mean over runs that differ in their seed alone, with Student's 95 % interval."""
    values = np.array([_of_seed(measure, seed, result, root) for seed in measure.seeds])
    half = float(student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return Figure(measure=measure, estimate=mean, low=mean - half, high=mean + half, n=len(values))


def _of_seed(measure: Measure, seed: Seed, result: Any, root: Path) -> float:
    one = replace(measure, at=seed.at or measure.at, minus=seed.minus or measure.minus)
    return figure_of(one, document(root / seed.file) if seed.file else result).estimate


def _interval(found: Any, at: Sequence[Step], key: str) -> tuple[float, float | None, float | None]:
    """(estimate, low, high) of a number, of three numbers, or of an object that names them."""
    match found:
        case bool() | int() | float():
            return float(found), None, None
        case [int() | float() as estimate, int() | float() as low, int() | float() as high]:
            return float(estimate), float(low), float(high)
        case {"low": low, "high": high}:
            estimate = found.get(key or "estimate", found.get("mean"))
            if estimate is not None:
                return float(estimate), float(low), float(high)
    raise InputError(f"what stands at {' '.join(map(str, at))} is no figure: {str(found)[:60]!r}")
