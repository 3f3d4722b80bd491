"""Stop when sure, and stop when hopeless: Adaptive-Consistency with a second exit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from suffice.core.coverage import Exit, Note
from suffice.core.decisions import Actions
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.sampling_state import Pool, at_least, is_share, option


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSided(AdaptiveConsistency):
    """Sample until the majority is stable, or until the answers scatter so much that more is waste.

    After `patience` samples a leader with at most the share `hopeless` of all samples ends the
    search: the vote over `max_samples` would rarely be right there. Its answer is the plurality.
    """

    hopeless: float = option(0.25, "share of the leader, of all samples, at which to give in")
    patience: int = option(8, "samples before giving in")

    name: ClassVar[str] = "two_sided"
    paper: ClassVar[str] = "2602.03814"

    def __post_init__(self) -> None:
        AdaptiveConsistency.__post_init__(self)
        is_share("hopeless", self.hopeless)
        at_least("patience", self.patience, 1)

    @property
    def _all_end(self) -> bool:
        """Giving in takes back what runs."""
        return False

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        if self.gives_in(state) and self.agreement(state) < self.threshold:
            share = state.counts[0][1] / len(state.seen) if state.counts else 0.0
            why = f"hopeless: the leader has {share:.0%} of {len(state.seen)} samples"
            early: Exit = "hopeless" if len(state.seen) < self.max_samples else "safe"
            note: Note | None = "all_different" if state.all_differ and state.counts else None
            return state, state.majority(why, share, early, note)
        return AdaptiveConsistency.decide(self, state)

    def gives_in(self, state: Pool) -> bool:
        """Whether the answers scatter too much to go on."""
        n = len(state.seen)
        lead = state.counts[0][1] if state.counts else 0
        return n >= self.patience and lead <= self.hopeless * n
