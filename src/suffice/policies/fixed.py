"""A number of samples fixed in advance: single, self-consistency, best-of-n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from suffice.core.decisions import Actions, Answer, Evidence, Need, WholeSamples
from suffice.core.requests import Request
from suffice.core.thinking import Thinking
from suffice.policies.sampling_state import (
    Pool,
    PoolPolicy,
    ended,
    is_count,
    one_sample,
    option,
    step_alone,
    why_alone,
)
from suffice.policies.votes import decided, weighted_tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Single(WholeSamples):
    """One sample, streamed as it comes; its measure is its mean token probability."""

    effort: str | None = option(None, "thinking effort: none, minimal, low, medium, high, xhigh")
    max_tokens: int | None = option(None, "completion tokens; the request's own by default")
    logprobs: bool = option(
        False, "ask for logprobs in any case; a cascade asks where `accept` needs a measure"
    )

    name: ClassVar[str] = "single"
    paper: ClassVar[str] = "the baseline"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        if self.effort is not None:
            Thinking.of_effort(self.effort)

    def draws_once(self, request: Request) -> bool:
        """It does, whatever is asked."""
        del request
        return True

    def start(self, request: Request) -> tuple[Pool, Actions]:
        return one_sample(
            max_tokens=self.max_tokens,
            thinking=None if self.effort is None else Thinking.of_effort(self.effort),
            top_logprobs=0 if self.logprobs else None,
        )

    def step(self, state: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
        state = state.settle(evidence)
        return state, state.sole("one sample") if ended(evidence) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfConsistency(PoolPolicy):
    """A fixed number of samples at once, majority vote."""

    samples: int = option(16, "samples to draw")
    stop_when_decided: bool = option(
        False, "stop once the samples still running cannot change the winner"
    )

    name: ClassVar[str] = "self_consistency"
    paper: ClassVar[str] = "2203.11171"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("samples", self.samples, 1)

    @property
    def patience(self) -> None:
        """Their number is fixed, and all of them run at once."""
        return None

    def opening(self) -> tuple[Pool, Actions]:
        return Pool().launch(self.samples, whole=not self.stop_when_decided)

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        if not state.running:
            return state, state.majority(f"majority of {len(state.seen)} samples")
        if self.stop_when_decided and decided(state.counts, len(state.running)):
            return state, state.majority("the rest cannot change the majority")
        return state, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN(WholeSamples):
    """The best of a fixed number of samples by a verifier or reward function.

    Weighted: the answer whose samples have the largest summed score, as in Snell et al.
    With `enough`, samples come in waves and the first score that reaches it ends the search.
    """

    samples: int = option(4, "samples to draw at most")
    weighted: bool = option(False, "sum scores over equal answers instead of taking the maximum")
    enough: float | None = option(None, "score at which a sample is accepted and the rest stopped")
    wave: int | None = option(None, "samples in flight at once; all by default")

    name: ClassVar[str] = "best_of_n"
    paper: ClassVar[str] = "2408.03314"
    needs: ClassVar[frozenset[Need]] = frozenset({"score"})

    def __post_init__(self) -> None:
        is_count("samples", self.samples, 1)
        if self.wave is not None:
            is_count("wave", self.wave, 1)

    def start(self, request: Request) -> tuple[Pool, Actions]:
        # Without comparable answers there is nothing to sum over: scores alone decide.
        note = why_alone(request)
        if note == "greedy":
            return one_sample(note)
        state = Pool(alone=note is not None, note=note)
        return state.launch(min(self.samples, self.wave or self.samples), whole=self._all_end)

    def step(self, state: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
        if state.note == "greedy":
            return step_alone(state, evidence)
        state = state.settle(evidence)
        if not ended(evidence):
            return state, ()
        if self.enough is not None and state.seen:
            last = state.seen[-1]
            if last.score is not None and last.score >= self.enough:
                why = f"score {last.score:.3g} reaches {self.enough:.3g}"
                return state, (Answer(sample=last.sample, why=why, measure=_bounded(last.score)),)
        free = (self.wave or self.samples) - len(state.running)
        more = 0 if state.closed else min(free, self.samples - state.launched)
        if more > 0:
            return state.launch(more, whole=self._all_end)
        return state, () if state.running else self._choose(state)

    @property
    def _all_end(self) -> bool:
        """Whether no sample is stopped before its end."""
        return self.enough is None

    def _choose(self, state: Pool) -> Actions:
        scored = [seen for seen in state.seen if seen.score is not None]
        if not scored:
            return state.give_up("no sample was scored")
        best = max(scored, key=lambda seen: seen.score or 0.0)
        why = f"best of {len(scored)} by score"
        if self.weighted and not state.alone:
            sums = weighted_tally((seen.answer, seen.score or 0.0) for seen in scored)
            if sums:
                of_answer = [seen for seen in scored if seen.answer == sums[0][0]]
                best = max(of_answer, key=lambda seen: seen.score or 0.0)
                why = f"largest summed score of {len(scored)} samples"
        return (Answer(sample=best.sample, why=why, measure=_bounded(best.score)),)


def _bounded(score: float | None) -> float | None:
    """A score as a measure, where it can be read as one."""
    return score if score is not None and 0.0 <= score <= 1.0 else None
