"""Greedy likelihood-preserving deletion (arXiv:2601.03066, algorithm 1), and cheaper forms of it.

    S = all places;  repeat: j* = argmax over j in S of F(S without j);  S loses j*

Every step scores |S| candidates, so a trace of n tokens cut to m costs about (n² - m²) / 2 rows.
`per_step` deletes that many at once; `rescored` scores only the candidates that looked best the
last time they were scored, since ranks change slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suffice.core.errors import InputError
from suffice.training.pruning.scoring import Example, Objective, Pruner


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
    """How the greedy pruner deletes."""

    objective: Objective = "answer"
    per_step: int = 1
    rescored: int | None = None  # None scores every candidate in every step
    reuse_prefix: bool = True

    def __post_init__(self) -> None:
        if self.per_step < 1 or (self.rescored is not None and self.rescored < self.per_step):
            raise InputError(
                f"per_step must be 1 or more and rescored at least per_step, got {self.per_step} "
                f"and {self.rescored}"
            )

    def order(self, pruner: Pruner, example: Example, *, left: int = 0) -> list[int]:
        """Places in the order in which they are deleted, until `left` are left; ties go left."""
        kept = list(range(len(example.trace)))
        stale: dict[int, float] = {}
        deleted: list[int] = []
        while len(kept) > left:
            tried = self._tried(kept, stale)
            if self.reuse_prefix:
                scores = pruner.without_each(example, kept, tried)
            else:
                rows = [[p for n, p in enumerate(kept) if n != at] for at in tried]
                scores = pruner.scores(example, rows)
            for at, value in zip(tried, scores.of(self.objective).tolist(), strict=True):
                stale[kept[at]] = value
            ranked = sorted((kept[at] for at in tried), key=lambda place: (-stale[place], place))
            for place in ranked[: min(self.per_step, len(kept) - left)]:
                deleted.append(place)
                kept.remove(place)
        return deleted

    def _tried(self, kept: Sequence[int], stale: dict[int, float]) -> list[int]:
        if self.rescored is None or not stale:
            return list(range(len(kept)))
        best = sorted(range(len(kept)), key=lambda at: (-stale[kept[at]], at))
        return sorted(best[: self.rescored])


def kept_after(order: Sequence[int], length: int, share: float) -> list[int]:
    """Places that are left, in their own order, where `share` of `length` tokens stay."""
    if not 0 <= share <= 1:
        raise InputError(f"the share kept must lie in [0, 1], got {share}")
    gone = set(order[: length - round(share * length)])
    return [place for place in range(length) if place not in gone]
