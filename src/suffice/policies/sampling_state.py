"""What a sampling policy remembers: the samples it numbered, and how they ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from suffice.core.completions import SENTINEL_LOGPROB, Completion
from suffice.core.coverage import Exit, Note
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
# Samples without a comparable answer after which there will hardly be one.
PATIENCE = 4
# So many answers, no two of them equal, end a vote. On recorded samples of one model this changed
# no result, on pools of 43 models at most .7 points (docs/policies.md); prose and code end here.
SCATTER = 16
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
    alone: bool = False  # one sample is all there will be, nothing is compared
    note: Note | None = None  # why it is alone

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
            note=self.note,
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
                    note=self.note,
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
        self,
        why: str,
        measure: float | None = None,
        exit: Exit | None = None,
        note: Note | None = None,
    ) -> Actions:
        """Answer with the first sample of the most frequent answer; Escalate if there is none.

        The measure is that answer's share of the votes unless the policy has one of its own.
        """
        counts = self.counts
        if counts:
            answer, votes = counts[0]
            share = votes / sum(count for _, count in counts)
            sure = share if measure is None else measure
            first = self.first_with(answer).sample
            return (Answer(sample=first, why=why, measure=sure, exit=exit, note=note),)
        none: Note | None = "nothing_comparable" if self.seen else None
        return self.give_up("no sample gave an answer that can be compared", exit, note or none)

    def give_up(self, why: str, exit: Exit | None = None, note: Note | None = None) -> Actions:
        """Escalate with the last finished sample, if any."""
        best = self.seen[-1].sample if self.seen else None
        return (Escalate(why=why, best=best, exit=exit, note=note),)

    @property
    def is_mute(self) -> bool:
        """Whether no sample held an answer that can be compared."""
        return all(seen.answer is None for seen in self.seen)

    @property
    def all_differ(self) -> bool:
        """Whether no two answers are equal."""
        counts = self.counts
        return not counts or counts[0][1] == 1

    def scattered(self, most: int) -> Actions:
        """Give in: no two samples agreed; the first that answered stands. `most` is the cap."""
        n = len(self.seen)
        why = f"no two of {n} samples gave the same answer"
        return self.majority(why, 1 / n, "hopeless" if n < most else "safe", "all_different")

    def mute(self, most: int) -> Actions:
        """Give in: nothing can be compared; the last sample stands. `most` is the cap."""
        n = len(self.seen)
        why = f"none of {n} samples gave an answer that can be compared"
        return self.give_up(why, "hopeless" if n < most else "safe", "nothing_comparable")

    def sole(self, why: str, note: Note | None = None) -> Actions:
        """Answer with the last finished sample; its measure is its mean token probability."""
        if not self.seen:
            return (Escalate(why="the sample failed", note=note),)
        last = self.seen[-1]
        # A vote of copies would have settled nothing, so this must not pass for one that did.
        sure = None if note == "greedy" else last.probability
        return (Answer(sample=last.sample, why=why, measure=sure, note=note),)


def one_sample(note: Note | None = None, **how: Any) -> tuple[Pool, Actions]:
    """The pool and action of a policy that draws one sample and answers with it.

    `note` says why it does, where the policy would otherwise compare several.
    """
    pool, actions = Pool(alone=True, note=note).launch(1, final=True, whole=True, **how)
    return pool, actions


_WHY_ALONE: dict[Note | None, str] = {
    None: "one sample",
    "free_form": "free-form text is not voted on",
    "greedy": "at temperature 0 samples are copies: one is enough",
}


def step_alone(pool: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
    """The step of a policy that drew `one_sample`."""
    pool = pool.settle(evidence)
    if not ended(evidence):
        return pool, ()
    return pool, pool.sole(_WHY_ALONE[pool.note], pool.note)


def why_alone(request: Request) -> Note | None:
    """Why several samples of a request need not be compared; None if they may be."""
    if request.answer_format is None:
        return "free_form"
    return "greedy" if request.sampling.is_greedy else None


class PoolPolicy(WholeSamples):
    """Base of policies over a pool of whole samples whose answers are compared.

    Free-form text cannot be compared, and samples at temperature 0 need not be: one answers. Where
    the first samples hold nothing that can be compared, the last of them stands. A policy says how
    it begins and what it makes of the pool whenever a sample has ended.
    """

    __slots__ = ()

    def opening(self) -> tuple[Pool, Actions]:
        """The first samples."""
        raise NotImplementedError

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        """What follows now that a sample has ended."""
        raise NotImplementedError

    @property
    def most_samples(self) -> int:
        """The cap, where there is one."""
        return int(getattr(self, "max_samples", MOST_SAMPLES))

    @property
    def patience(self) -> int | None:
        """Samples without any comparable answer after which it draws no more; None: never."""
        return PATIENCE

    def compares(self, request: Request) -> Note | None:
        """Why one sample is enough for this request; None if it is not."""
        return why_alone(request)

    def alone(self, note: Note) -> tuple[Pool, Actions]:
        """The one sample that answers what is not compared."""
        return one_sample(note)

    def settle(self, state: Pool, evidence: Evidence) -> Pool:
        """The pool after a sample ended."""
        return state.settle(evidence)

    def draws_once(self, request: Request) -> bool:
        """It does where there is nothing to compare."""
        return self.compares(request) is not None

    def start(self, request: Request) -> tuple[Pool, Actions]:
        note = self.compares(request)
        return self.opening() if note is None else self.alone(note)

    def step(self, state: Pool, evidence: Evidence) -> tuple[Pool, Actions]:
        if state.alone:
            return step_alone(state, evidence)
        if not ended(evidence):
            return state, ()
        state = self.settle(state, evidence)
        patience = self.patience
        if patience is not None and len(state.seen) >= patience and state.is_mute:
            # What still runs ends by itself, and may hold an answer.
            return state, () if state.running else state.mute(self.most_samples)
        return self.decide(state)


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
