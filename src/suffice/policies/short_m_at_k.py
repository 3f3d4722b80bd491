"""short-m@k: stop everything when the first few samples are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from suffice.core.decisions import Actions, Answer, Need
from suffice.core.errors import InputError
from suffice.policies.sampling_state import Pool, PoolPolicy, is_count, option


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortMAtK(PoolPolicy):
    """Draw k at once, stop all when m are done, vote among those; ties go to the shortest."""

    k: int = option(8, "samples drawn at once")
    m: int = option(3, "samples that may finish")

    name: ClassVar[str] = "short_m_at_k"
    paper: ClassVar[str] = "2505.17813"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("m", self.m, 1)
        is_count("k", self.k, 1)
        if self.m > self.k:
            raise InputError(f"m must be at most k = {self.k}, got {self.m}")

    def opening(self) -> tuple[Pool, Actions]:
        return Pool().launch(self.k)

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        if len(state.seen) < self.m and state.running:
            return state, ()
        counts = state.counts
        if not counts:
            return state, state.give_up("no sample gave an answer that can be compared")
        most = counts[0][1]
        tied = {answer for answer, votes in counts if votes == most}
        chosen = min(
            (seen for seen in state.seen if seen.answer in tied),
            key=lambda seen: (seen.tokens, seen.sample),
        )
        share = most / sum(votes for _, votes in counts)
        why = f"first {len(state.seen)} of {state.launched} to finish"
        return state, (Answer(sample=chosen.sample, why=why, measure=share),)
