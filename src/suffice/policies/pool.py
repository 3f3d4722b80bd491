"""What a sampling policy remembers: the samples it numbered, and how they ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from suffice.core.completions import SENTINEL_LOGPROB, Completion
from suffice.core.coverage import Exit
from suffice.core.decisions import (
    Actions,
    Answer,
    Escalate,
    Evidence,
    Sample,
    SampleFailed,
    SampleFinished,
    WholeSamples,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.core.series import DrawnLogprobs
from suffice.policies.votes import tally

# Failures without a single success after which the upstream is taken to be down.
MOST_FAILURES = 3
# Samples that one policy may ask for; the papers go to 512. Numbers are kept one by one, and
# whoever sends a request writes its options.
MOST_SAMPLES = 4096


def option(default: Any, doc: str) -> Any:
    """Dataclass field of a policy, with the sentence that `suffice policies` prints for it."""
    return field(default=default, metadata={"doc": doc})


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A finished sample: its comparable answer and what may weigh it."""

    sample: int
    answer: str | None
    tokens: int
    score: float | None = None
    probability: float | None = None  # geometric mean of its tokens' probabilities
    signal: float | None = None  # a confidence signal in nats, where the policy takes one


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Samples so far. Numbers are given out from 0 upwards, each once."""

    launched: int = 0
    running: tuple[int, ...] = ()
    seen: tuple[Seen, ...] = ()
    failed: int = 0
    exhausted: bool = False  # the executor refused a sample for the budget: ask for no more
    alone: bool = False  # free-form text: one sample is all there will be, nothing is compared

    def launch(self, count: int, **how: Any) -> tuple[Pool, Actions]:
        """The pool with `count` further samples running, and the action that draws them."""
        if count <= 0:
            return self, ()
        numbers = tuple(range(self.launched, self.launched + count))
        pool = Pool(  # replace() would take longer than the rest of a vote's step
            launched=self.launched + count,
            running=self.running + numbers,
            seen=self.seen,
            failed=self.failed,
            exhausted=self.exhausted,
            alone=self.alone,
        )
        return pool, (Sample(samples=numbers, **how),)

    def settle(self, evidence: Evidence, signal: float | None = None) -> Pool:
        """The pool after a sample ended (with its `signal`); itself after any other evidence."""
        match evidence:
            case SampleFinished():
                return Pool(
                    launched=self.launched,
                    failed=self.failed,
                    exhausted=self.exhausted,
                    alone=self.alone,
                    running=_without(self.running, evidence.sample),
                    seen=(
                        *self.seen,
                        Seen(
                            sample=evidence.sample,
                            answer=evidence.answer,
                            tokens=evidence.completion.usage.completion_tokens,
                            score=evidence.score,
                            probability=mean_probability(evidence.completion),
                            signal=signal,
                        ),
                    ),
                )
            case SampleFailed():
                return replace(
                    self,
                    running=_without(self.running, evidence.sample),
                    failed=self.failed + 1,
                    exhausted=self.exhausted or evidence.reason == "budget",
                )
            case _:
                return self

    def drop(self, sample: int) -> Pool:
        """The pool after `sample` was cancelled."""
        return replace(self, running=_without(self.running, sample))

    @property
    def closed(self) -> bool:
        """Whether to draw no more: the budget is spent, or only failures have come back."""
        return self.exhausted or (self.failed >= MOST_FAILURES and not self.seen)

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """(answer, votes) of the finished samples."""
        return tally(seen.answer for seen in self.seen)

    def first_with(self, answer: str) -> Seen:
        """The first finished sample that gave `answer`."""
        return next(seen for seen in self.seen if seen.answer == answer)

    def majority(
        self, why: str, confidence: float | None = None, exit: Exit | None = None
    ) -> Actions:
        """Answer with the first sample of the most frequent answer; Escalate if there is none."""
        counts = self.counts
        if counts:
            answer, votes = counts[0]
            share = votes / sum(count for _, count in counts)
            sure = share if confidence is None else confidence
            first = self.first_with(answer).sample
            return (Answer(sample=first, why=why, confidence=sure, exit=exit),)
        return self.give_up("no sample gave an answer that can be compared", exit)

    def give_up(self, why: str, exit: Exit | None = None) -> Actions:
        """Escalate with the last finished sample, if any."""
        best = self.seen[-1].sample if self.seen else None
        return (Escalate(why=why, best=best, exit=exit),)

    def sole(self, why: str) -> Actions:
        """Answer with the last finished sample; its confidence is its mean token probability."""
        if not self.seen:
            return (Escalate(why="the sample failed"),)
        last = self.seen[-1]
        return (Answer(sample=last.sample, why=why, confidence=last.probability),)


def one_sample(**how: Any) -> tuple[Pool, Actions]:
    """The pool and action of a policy that draws one sample and answers with it."""
    pool, actions = Pool(alone=True).launch(1, final=True, **how)
    return pool, actions


def step_alone(pool: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
    """The step of a policy that drew `one_sample`, its answers not being comparable."""
    pool = pool.settle(evidence)
    return pool, pool.sole("free-form text is not voted on") if ended(evidence) else ()


class PoolPolicy(WholeSamples):
    """Base of policies over a pool of whole samples whose answers are compared.

    Free-form text cannot be compared: one sample answers it. A policy says how it begins and what
    it makes of the pool whenever a sample has ended.
    """

    __slots__ = ()

    def opening(self) -> tuple[Pool, Actions]:
        """The first samples."""
        raise NotImplementedError

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        """What follows now that a sample has ended."""
        raise NotImplementedError

    def alone(self) -> tuple[Pool, Actions]:
        """The one sample that answers free-form text."""
        return one_sample(top_logprobs=0)

    def settle(self, state: Pool, evidence: Evidence) -> Pool:
        """The pool after a sample ended."""
        return state.settle(evidence)

    def start(self, request: Request) -> tuple[Pool, Actions]:
        return self.alone() if request.answer_format is None else self.opening()

    def step(self, state: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
        if state.alone:
            return step_alone(state, evidence)
        if not ended(evidence):
            return state, ()
        return self.decide(self.settle(state, evidence))


def at_least(name: str, value: float, least: float) -> None:
    """Raise InputError unless the option `name` is at least `least`."""
    if not value >= least:
        raise InputError(f"{name} must be {least} or more, got {value}")


def is_count(name: str, value: int, least: int) -> None:
    """Raise InputError unless the number of samples `name` lies in [least, MOST_SAMPLES]."""
    at_least(name, value, least)
    if value > MOST_SAMPLES:
        raise InputError(f"{name} must be {MOST_SAMPLES} or less, got {value}")


def is_share(name: str, value: float) -> None:
    """Raise InputError unless the option `name` lies above 0 and at most at 1."""
    if not 0.0 < value <= 1.0:
        raise InputError(f"{name} must be above 0 and at most 1, got {value}")


def mean_probability(completion: Completion) -> float | None:
    """exp of the mean logprob of the drawn tokens; None without logprobs. Not calibrated."""
    drawn = completion.logprobs
    if not drawn:
        return None
    if isinstance(drawn, DrawnLogprobs):
        values = drawn.values
    else:
        values = np.array([entry.logprob for entry in drawn], dtype=np.float64)
    kept = values[values > SENTINEL_LOGPROB]
    return math.exp(float(np.add.reduce(kept)) / kept.size) if kept.size else None


def _without(running: tuple[int, ...], sample: int) -> tuple[int, ...]:
    if running == (sample,):
        return ()
    return tuple([number for number in running if number != sample])


def ended(evidence: Evidence) -> bool:
    """Whether a sample ended with this evidence."""
    return isinstance(evidence, SampleFinished | SampleFailed)
