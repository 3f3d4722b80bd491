"""Spend on the questions where it helps: by difficulty bin, by marginal gain over a batch.

Shape suffixes: Q questions, B budgets in samples (index = samples, from 0), A arms.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.decisions import Actions, Answer, Need
from suffice.core.errors import InputError
from suffice.policies.sampling_state import Pool, PoolPolicy, is_count, option


def success_curve(success: ArrayLike, most: int) -> FloatArray:
    """P(at least one of b samples is right), b = 0..most, for success rates; shape (Q, most + 1).

    Formula: 1 - (1 - p)^b. It is concave in b, so greedy allocation over it is optimal.
    """
    rates = np.asarray(success, dtype=np.float64)
    if ((rates < 0) | (rates > 1)).any():
        raise InputError("success rates must lie in [0, 1]")
    missed: FloatArray = (1.0 - rates[:, None]) ** np.arange(most + 1)
    return 1.0 - missed


def allocate(values_QB: ArrayLike, total: int) -> IntArray:
    """Samples for each question, at most `total` together, that maximise the summed value.

    `values_QB[q, b]` is the expected value of question q with b samples. Steps are taken greedily
    along each row's concave hull: optimal where rows are concave, and where they are not, short of
    the optimum by less than one hull step of one question.
    Reference: 2410.04707 (Damani et al.), §3.1.
    """
    values = np.asarray(values_QB, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError("values must be a finite table: one row per question, one column per b")
    if total < 0:
        raise InputError(f"total must be 0 or more samples, got {total}")
    steps = [_hull_steps(row) for row in values]
    spent = np.zeros(len(values), dtype=np.int64)
    queue = [(-path[0][1], q, 0) for q, path in enumerate(steps) if path]
    heapq.heapify(queue)
    left = total
    while queue and left > 0:
        _, q, at = heapq.heappop(queue)
        size, _ = steps[q][at]
        if size > left:
            continue
        left -= size
        spent[q] += size
        if at + 1 < len(steps[q]):
            heapq.heappush(queue, (-steps[q][at + 1][1], q, at + 1))
    return spent


def _hull_steps(row: FloatArray) -> list[tuple[int, float]]:
    """(samples, gain per sample) along the concave hull of one row, gains falling and positive."""
    hull = [0]
    for b in range(1, len(row)):
        while len(hull) > 1 and _slope(row, hull[-2], hull[-1]) < _slope(row, hull[-1], b):
            hull.pop()
        hull.append(b)
    steps = [(after - before, _slope(row, before, after)) for before, after in pairwise(hull)]
    return [(size, gain) for size, gain in steps if gain > 0]


def _slope(row: FloatArray, before: int, after: int) -> float:
    return float((row[after] - row[before]) / (after - before))


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultyBinned(PoolPolicy):
    """A few pilot samples place the question in a difficulty bin; the bin says how many more.

    Easiness is the pilots' mean score with a verifier, else the share of their leading answer. The
    pilots are part of the budget, unlike in the paper, and they vote.
    """

    pilot: int = option(4, "samples that estimate the difficulty")
    edges: tuple[float, ...] = option((0.3, 0.9), "easiness between bins, rising, e.g. .3+.9")
    more: tuple[int, ...] = option((0, 12, 0), "further samples by bin, hardest first, e.g. 0+12+0")

    name: ClassVar[str] = "difficulty_binned"
    paper: ClassVar[str] = "2408.03314"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("pilot", self.pilot, 1)
        if len(self.more) != len(self.edges) + 1 or list(self.edges) != sorted(self.edges):
            raise InputError(
                f"edges {self.edges} must rise and more {self.more} must have one entry more"
            )
        for extra in self.more:
            is_count("more", extra, 0)

    def opening(self) -> tuple[Pool, Actions]:
        return Pool().launch(self.pilot, whole=True)

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        if state.running:
            return state, ()
        if state.launched == self.pilot and not state.closed:
            extra = self.more[self.bin_of(state)]
            if extra:
                return state.launch(extra, whole=True)
        return state, self._choose(state)

    def bin_of(self, state: Pool) -> int:
        """Difficulty bin of the pilots, 0 hardest."""
        easiness = self.easiness(state)
        return sum(easiness >= edge for edge in self.edges)

    def easiness(self, state: Pool) -> float:
        """Mean score, or share of the leading answer among all pilots."""
        pilots = [seen for seen in state.seen if seen.sample < self.pilot]
        scores = [seen.score for seen in pilots if seen.score is not None]
        if scores:
            return sum(scores) / len(scores)
        return state.counts[0][1] / self.pilot if state.counts else 0.0

    def _choose(self, state: Pool) -> Actions:
        scored = [seen for seen in state.seen if seen.score is not None]
        why = f"difficulty bin {self.bin_of(state) + 1} of {len(self.more)}"
        if not scored:
            return state.majority(why)
        best = max(scored, key=lambda seen: seen.score or 0.0)
        return (Answer(sample=best.sample, why=f"best score; {why}"),)
