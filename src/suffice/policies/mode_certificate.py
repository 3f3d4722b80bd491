"""CITE: draw until an e-process shows that an answer is the model's most frequent one.

    c        the target: the answer of the first draws, fixed before the evidence
    a, b     later draws that gave the target, and that gave one other answer

Reference: 2605.05873 (CITE), of which the abstract was read. The mixture below is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from suffice.core.coverage import Exit
from suffice.core.decisions import Actions, Answer, Need
from suffice.core.errors import InputError
from suffice.policies.sampling_state import (
    MOST_SAMPLES,
    PATIENCE,
    SCATTER,
    Pool,
    PoolPolicy,
    Seen,
    is_count,
    option,
)
from suffice.policies.votes import beta_agreement, tally


@lru_cache(maxsize=65536)
def evidence(a: int, b: int) -> float:
    """E-value against "the rival is at least as frequent", after `a` targets and `b` rivals.

    Formula: E = ∫_{1/2}^1 2 (2 θ)^a (2 (1 - θ))^b dθ
               = 2^(n+1) a! b! / (n+1)! · P(Beta(a + 1, b + 1) > 1/2),  n = a + b.
    Among the draws that give one of the two, the target's share is at most 1/2 under the null, so
    that every factor has a mean of at most 1: E is a nonnegative supermartingale from 1, and
    P(E ever reaches 1/α) <= α (Ville), however long one draws and whenever one looks.
    """
    n = a + b
    scale = 2 ** (n + 1) * math.factorial(a) * math.factorial(b) / math.factorial(n + 1)
    return float(scale * beta_agreement(a, b))


def least_evidence(target: str, answers: tuple[str | None, ...]) -> float:
    """The least e-value of the target over all rivals, those nobody has given yet among them.

    All of "a rival is at least as frequent" are to be rejected, so each is tested at the full level
    (intersection-union). An answer that was never given has b = 0: more evidence than any that was.
    """
    counts = dict(tally(answers))
    rival = max((votes for answer, votes in counts.items() if answer != target), default=0)
    return evidence(counts.get(target, 0), rival)


@lru_cache(maxsize=65536)
def draws_needed(a: int, b: int, level: float, limit: int) -> int:
    """Least further draws, all of them the target, that certify it; at most `limit`."""
    return next((n for n in range(limit) if evidence(a + n, b) >= 1.0 / level), limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeCertificate(PoolPolicy):
    """Sample until the answer is shown to be the model's most frequent one, at a stated level.

    The first `pilot` answers name a target; later draws are evidence for it, whose e-process may be
    looked at after every draw. It says that endless samples would vote for this answer, which is
    not to say that the answer is right. Draws come in waves of what the best case still needs, and
    count in the order of their numbers: quick samples are not the first to be heard.
    """

    level: float = option(0.05, "probability at most of certifying an answer that is not the mode")
    max_samples: int = option(40, "cap on samples")
    pilot: int = option(1, "answers that name the target; they are no evidence")

    name: ClassVar[str] = "cite"
    paper: ClassVar[str] = "2605.05873"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise InputError(f"level must lie strictly between 0 and 1, got {self.level}")
        is_count("max_samples", self.max_samples, 1)
        is_count("pilot", self.pilot, 1)

    def opening(self) -> tuple[Pool, Actions]:
        needed = self.pilot + draws_needed(0, 0, self.level, MOST_SAMPLES)
        # Where the cap is too low for any certificate there is a vote of that many.
        return Pool().launch(min(self.max_samples, needed), whole=True)

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        if state.running:
            return state, ()
        target, later = self._split(state)
        value = 0.0 if target is None else least_evidence(target, later)
        if target is not None and value >= 1.0 / self.level:
            why = f"{target!r} is the most frequent answer at level {self.level:g}, e = {value:.3g}"
            return state, self._answer(state, target, why, value)
        if state.all_differ and len(state.seen) >= SCATTER:
            return state, state.scattered(self.max_samples)
        left = 0 if state.closed else self.max_samples - state.launched
        if left > 0:
            return state.launch(min(left, self._needed(state, target, later)), whole=True)
        why = f"cap of {self.max_samples} samples, nothing certified"
        leads = target is not None and bool(state.counts) and state.counts[0][0] == target
        return state, state.majority(why, _measure(value) if leads else 0.0, "safe")

    def _needed(self, state: Pool, target: str | None, later: tuple[str | None, ...]) -> int:
        if target is None:
            return max(1, PATIENCE - len(state.seen))
        counts = dict(tally(later))
        rival = max((votes for answer, votes in counts.items() if answer != target), default=0)
        return max(1, draws_needed(counts.get(target, 0), rival, self.level, MOST_SAMPLES))

    def _split(self, state: Pool) -> tuple[str | None, tuple[str | None, ...]]:
        """The target, and what was drawn after it was named, both in the order of drawing."""
        drawn = sorted(state.seen, key=_number)
        named = [at for at, seen in enumerate(drawn) if seen.answer is not None][: self.pilot]
        if len(named) < self.pilot:
            return None, ()
        target = tally(drawn[at].answer for at in named)[0][0]
        return target, tuple(seen.answer for seen in drawn[named[-1] + 1 :])

    def _answer(self, state: Pool, target: str, why: str, value: float) -> Actions:
        ended: Exit = "accepted" if len(state.seen) < self.max_samples else "safe"
        first = min((each for each in state.seen if each.answer == target), key=_number)
        return (Answer(sample=first.sample, why=why, measure=_measure(value), exit=ended),)


def _number(seen: Seen) -> int:
    return seen.sample


def _measure(value: float) -> float:
    """One minus the anytime p-value that another answer is as frequent."""
    return max(0.0, 1.0 - 1.0 / value) if value > 0 else 0.0
