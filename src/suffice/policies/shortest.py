"""short-m@k: stop everything when the first few samples are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from suffice.core.decisions import Actions, Answer, Evidence, Need, watch_nothing
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.policies.pool import Pool, ended, is_count, one_sample, option, step_alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortMAtK:
    """Draw k at once, stop all when m are done, vote among those; ties go to the shortest."""

    k: int = option(8, "samples drawn at once")
    m: int = option(3, "samples that may finish")

    name: ClassVar[str] = "short_m_at_k"
    paper: ClassVar[str] = "2505.17813"
    needs: ClassVar[frozenset[Need]] = frozenset()
    watch = staticmethod(watch_nothing)

    def __post_init__(self) -> None:
        is_count("m", self.m, 1)
        is_count("k", self.k, 1)
        if self.m > self.k:
            raise InputError(f"m must be at most k = {self.k}, got {self.m}")

    @property
    def baseline_samples(self) -> int:
        """A vote over all k."""
        return self.k

    def start(self, request: Request) -> tuple[Pool, Actions]:
        if request.answer_format is None:
            return one_sample(top_logprobs=0)
        return Pool().launch(self.k)

    def step(self, state: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
        if state.alone:
            return step_alone(state, evidence)
        state = state.settle(evidence)
        if not ended(evidence) or (len(state.seen) < self.m and state.running):
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
        return state, (Answer(sample=chosen.sample, why=why, confidence=share),)
