"""What a change of shape that a loss law does not model does to the loss, with its uncertainty.

Published comparisons are pooled by source. The next model is one more draw of the same population:
its effect per doubling of the axis has the sources' mean and, with k sources of standard deviation
s, the standard deviation s sqrt(1 + 1/k) at k - 1 degrees of freedom (the usual prediction interval
for one further observation). Seed noise of the comparisons is part of s.
"""

from __future__ import annotations

import math
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean, stdev
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedChange:
    """One published comparison: ln(loss after / loss before) of a step along an axis."""

    source: str
    models: str
    before: float
    after: float
    relative_change: float
    measured: str

    def __post_init__(self) -> None:
        if not (self.before > 0 and self.after > 0 and self.before != self.after):
            raise InputError(f"evidence of {self.source!r}: before and after must differ")

    @property
    def per_doubling(self) -> float:
        """Relative change of loss for each doubling of the axis."""
        return self.relative_change / math.log2(self.after / self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Relative change of loss per doubling of an axis: mean, standard deviation, evidence."""

    axis: str
    mean: float
    sd: float
    degrees_of_freedom: int
    evidence: tuple[PublishedChange, ...]

    def change(self, before: float, after: FloatArray | float) -> FloatArray:
        """Expected ln(loss after / loss before)."""
        return self.mean * np.log2(np.asarray(after, dtype=np.float64) / before)

    def change_sd(self, before: float, after: FloatArray | float) -> FloatArray:
        """Standard deviation of ln(loss after / loss before); 0 where the axis does not move."""
        return self.sd * np.abs(np.log2(np.asarray(after, dtype=np.float64) / before))

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose comparisons these are."""
        return tuple(dict.fromkeys(each.source for each in self.evidence))


def pooled(axis: str, evidence: tuple[PublishedChange, ...]) -> Effect:
    """The effect that `evidence` of at least three sources predicts for the next model."""
    by_source: dict[str, list[float]] = defaultdict(list)
    for each in evidence:
        by_source[each.source].append(each.per_doubling)
    means = [fmean(values) for values in by_source.values()]
    if len(means) < 3:
        raise InputError(f"{axis}: {len(means)} sources say too little of their spread")
    count = len(means)
    return Effect(
        axis=axis,
        mean=fmean(means),
        sd=stdev(means) * math.sqrt(1 + 1 / count),
        degrees_of_freedom=count - 1,
        evidence=evidence,
    )


@cache
def grouping_effect() -> Effect:
    """Of query heads per KV head (data/effects/grouping.toml)."""
    text = files("suffice.architecture").joinpath("data/effects/grouping.toml").read_text("utf-8")
    table: dict[str, Any] = tomllib.loads(text)
    return pooled(table["axis"], tuple(PublishedChange(**row) for row in table["evidence"]))
