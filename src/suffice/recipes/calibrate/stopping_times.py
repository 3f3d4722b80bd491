"""Every stopping time of a vote at once: counts after each recorded sample, then array arithmetic.

Gives exactly what playing `two_sided` sample by sample would (a test compares them), for all
thresholds in the time of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.evals.traces.trace_set import MISSING, TraceSet
from suffice.policies.sampling_state import PATIENCE, SCATTER
from suffice.policies.votes import beta_agreement, votes_needed
from suffice.recipes.calibrate.spending import Spent

# Votes are counted for so many numbers at a time (votes x samples²): memory stays bounded.
CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Votes:
    """Votes by samples: the state of each vote after each sample, in drawing order."""

    lead: IntArray  # votes of the leading answer
    second: IntArray  # votes of the runner-up
    agreement: FloatArray  # Beta criterion, leader against runner-up
    # The leading answer is right; where no sample said anything that can be compared, the last one
    # is: that is what a vote falls back on.
    right: BoolArray
    answer: IntArray  # code of the leading answer; MISSING where there is none
    given: IntArray  # answers that can be compared, among all samples
    tokens: FloatArray  # completion tokens, summed so far
    prompt: FloatArray  # prompt tokens of a sample

    @property
    def cap(self) -> int:
        """Samples of each vote."""
        return int(self.lead.shape[1])

    def at(self, index: IntArray) -> Votes:
        """Some of the votes."""
        names = ("lead", "second", "agreement", "right", "answer", "given", "tokens", "prompt")
        return Votes(**{name: getattr(self, name)[index] for name in names})

    def stop(
        self,
        threshold: float,
        hopeless: float | None,
        patience: int,
        scatter: int | None = SCATTER,
    ) -> IntArray:
        """Samples drawn by `two_sided` with these options; None never gives in."""
        drawn = np.arange(1, self.cap + 1)
        ends = (self.agreement >= threshold) | self._futile(threshold, scatter)
        if hopeless is not None:
            # Without any answer the vote waits for what runs: that exit is the other one's.
            open_to_it = (self.lead > 0) | (drawn < PATIENCE)
            ends |= open_to_it & (drawn >= patience) & (self.lead <= hopeless * drawn)
        ends[:, -1] = True
        stop: IntArray = np.argmax(ends, axis=1).astype(np.int64) + 1
        return stop

    def _futile(self, threshold: float, scatter: int | None) -> BoolArray:
        """Where nothing can be compared, or so many answers all differ: the vote gives in."""
        drawn = np.arange(1, self.cap + 1)
        at_once = votes_needed(0, 0, threshold, self.cap)
        found: BoolArray = (self.lead == 0) & (drawn >= max(PATIENCE, at_once))
        if scatter is not None:
            found = found | ((self.lead <= 1) & (drawn >= max(scatter, at_once)))
        return found

    def right_after(self, stop: IntArray) -> BoolArray:
        """Whether the leading answer is right after `stop` samples."""
        found: BoolArray = self.right[np.arange(len(stop)), stop - 1]
        return found

    def answered_after(self, stop: IntArray) -> BoolArray:
        """Whether there is a leading answer after `stop` samples."""
        found: BoolArray = self.lead[np.arange(len(stop)), stop - 1] > 0
        return found

    def answer_after(self, stop: IntArray) -> IntArray:
        """Code of the leading answer after `stop` samples."""
        found: IntArray = self.answer[np.arange(len(stop)), stop - 1]
        return found

    def spent(self, stop: IntArray, shape: tuple[int, ...]) -> Spent:
        """What `stop` samples take: each reads the prompt, all but the first from the cache."""
        return Spent(
            samples=stop.astype(np.float64).reshape(shape),
            prompt_tokens=(self.prompt * stop).reshape(shape),
            cached_tokens=(self.prompt * (stop - 1)).reshape(shape),
            completion_tokens=self.tokens[np.arange(len(stop)), stop - 1].reshape(shape),
        )


def votes_of(traces: TraceSet, rows: IntArray) -> Votes:
    """The votes over recorded samples; a row of `rows` holds one vote's, in drawing order."""
    count, cap = rows.shape
    lead = np.zeros((count, cap), np.int64)
    second, answer = np.zeros_like(lead), np.zeros_like(lead)
    right = np.zeros((count, cap), bool)
    size = max(1, CHUNK // (cap * cap))
    for start in range(0, count, size):
        part = slice(start, start + size)
        lead[part], second[part], right[part], answer[part] = _counted(traces, rows[part])
    # What was not recorded costs nothing that could be counted.
    completion = np.nan_to_num(traces.completion_tokens[rows])
    return Votes(
        lead=lead,
        second=second,
        agreement=_agreements(cap)[lead, second],
        right=right,
        answer=answer,
        given=(traces.answer[rows] >= 0).sum(axis=1),
        tokens=np.cumsum(completion, axis=1),
        prompt=np.nan_to_num(traces.prompt_tokens[rows[:, 0]]),
    )


def _counted(traces: TraceSet, rows: IntArray) -> tuple[IntArray, IntArray, BoolArray, IntArray]:
    """(lead, runner-up, leader is right, its code) after each sample; the earliest of equals."""
    codes = traces.answer[rows]
    cap = codes.shape[1]
    # Answers are named by the sample that gave them first.
    first = np.argmax(codes[:, None, :] == codes[:, :, None], axis=2)
    given = (first[:, :, None] == np.arange(cap)) & (codes >= 0)[:, :, None]
    counts = np.cumsum(given, axis=1, dtype=np.int16)
    leader = np.argmax(counts, axis=2)
    lead = np.take_along_axis(counts, leader[:, :, None], axis=2)[:, :, 0].astype(np.int64)
    np.put_along_axis(counts, leader[:, :, None], -1, axis=2)
    second = np.maximum(counts.max(axis=2), 0).astype(np.int64)
    correct = traces.correct[rows] == 1.0
    right = np.where(lead > 0, np.take_along_axis(correct, leader, axis=1), correct)
    answer = np.where(lead > 0, np.take_along_axis(codes, leader, axis=1), MISSING)
    return lead, second, right, answer.astype(np.int64)


@cache
def _agreements(cap: int) -> FloatArray:
    """Beta agreement by (votes of the leader, of the runner-up); 0 without a vote."""
    found = np.zeros((cap + 1, cap + 1))
    for lead in range(1, cap + 1):
        for second in range(min(lead, cap - lead) + 1):
            found[lead, second] = beta_agreement(lead, second)
    return found


def count_votes(
    traces: TraceSet,
    model: str,
    questions: Iterable[int],
    cap: int,
    *,
    seed: int | None = None,
) -> Votes:
    """Votes of a model's first `cap` samples per question, or of a shuffle of all by `seed`."""
    arm = traces.arm_index(model)
    found = []
    for question in questions:
        rows = traces.rows(int(question), arm)
        listed = np.arange(rows.start, rows.stop)
        if len(listed) < cap:
            name = traces.questions[question].name
            raise InputError(f"question {name!r} has {len(listed)} samples of {model}, not {cap}")
        if seed is not None:
            np.random.default_rng((seed, int(question))).shuffle(listed)
        found.append(listed[:cap])
    return votes_of(traces, np.array(found, dtype=np.int64))
