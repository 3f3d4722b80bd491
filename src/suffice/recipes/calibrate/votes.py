"""Every stopping time of a vote at once: counts after each recorded sample, then array arithmetic.

Gives exactly what playing `two_sided` sample by sample would (a test compares them), for all
thresholds in the time of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import InputError
from suffice.evals.traces import MISSING, TraceSet
from suffice.policies.votes import beta_agreement
from suffice.recipes.calibrate.play import Outcomes, TokenWeights

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Votes:
    """Questions by samples: the state of the vote after each sample, in drawing order."""

    lead: IntArray  # votes of the leading answer
    second: IntArray  # votes of the runner-up
    agreement: FloatArray  # Beta criterion, leader against runner-up
    right: BoolArray  # the leading answer is right
    answered: BoolArray  # there is a leading answer
    tokens: FloatArray  # summed so far
    weight: float  # cost of a token (or a sample) of this model
    by_sample: bool

    @property
    def cap(self) -> int:
        """Samples per question."""
        return int(self.lead.shape[1])

    @property
    def costs(self) -> FloatArray:
        """Cost after each sample."""
        units = np.arange(1.0, self.cap + 1) if self.by_sample else self.tokens
        found: FloatArray = np.broadcast_to(units * self.weight, self.tokens.shape)
        return found

    def at(self, index: IntArray) -> Votes:
        """The questions of `index`."""
        names = ("lead", "second", "agreement", "right", "answered", "tokens")
        picked = {name: getattr(self, name)[index] for name in names}
        return Votes(**picked, weight=self.weight, by_sample=self.by_sample)

    def stop(self, threshold: float, hopeless: float | None, patience: int) -> IntArray:
        """Samples drawn by `two_sided` with these options; None never gives in."""
        drawn = np.arange(1, self.cap + 1)
        ends = self.agreement >= threshold
        if hopeless is not None:
            ends = ends | ((drawn >= patience) & (self.lead <= hopeless * drawn))
        ends[:, -1] = True
        stop: IntArray = np.argmax(ends, axis=1).astype(np.int64) + 1
        return stop

    def outcomes(self, stop: IntArray) -> Outcomes:
        """What voting after `stop` samples gives."""
        rows, at = np.arange(len(stop)), stop - 1
        units = stop.astype(float) if self.by_sample else self.tokens[rows, at]
        return Outcomes(
            correct=self.right[rows, at],
            answered=self.answered[rows, at],
            confidence=self.agreement[rows, at],
            tokens=self.tokens[rows, at],
            samples=stop.astype(float),
            cost=units * self.weight,
        )


def count_votes(
    traces: TraceSet,
    model: str,
    questions: Iterable[int],
    cap: int,
    *,
    weights: TokenWeights | None = None,
    seed: int | None = None,
) -> Votes:
    """Votes of a model's first `cap` samples per question, or of a shuffle of all by `seed`."""
    weights = weights or TokenWeights()
    arm = traces.arm_index(model)
    chosen = [int(question) for question in questions]
    shape = (len(chosen), cap)
    lead, second, agreement = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape)
    right, answered = np.zeros(shape, bool), np.zeros(shape, bool)
    tokens = np.zeros(shape)
    for i, question in enumerate(chosen):
        rows = traces.rows(question, arm)
        listed = np.arange(rows.start, rows.stop)
        if len(listed) < cap:
            name = traces.questions[question].name
            raise InputError(f"question {name!r} has {len(listed)} samples of {model}, not {cap}")
        if seed is not None:
            np.random.default_rng((seed, question)).shuffle(listed)
        listed = listed[:cap]
        tokens[i] = np.cumsum(traces.completion_tokens[listed])
        tally: dict[int, int] = {}
        first: dict[int, int] = {}
        for k, row in enumerate(listed.tolist()):
            code = int(traces.answer[row])
            if code != MISSING:
                tally[code] = tally.get(code, 0) + 1
                first.setdefault(code, row)
            if not tally:
                continue
            leader = max(tally, key=tally.__getitem__)  # the earliest of equals
            runner_up = max((n for c, n in tally.items() if c != leader), default=0)
            lead[i, k], second[i, k] = tally[leader], runner_up
            agreement[i, k] = beta_agreement(tally[leader], runner_up)
            right[i, k], answered[i, k] = traces.correct[first[leader]] == 1.0, True
    return Votes(
        lead=lead,
        second=second,
        agreement=agreement,
        right=right,
        answered=answered,
        tokens=tokens,
        weight=weights.of(model),
        by_sample=weights.by_sample,
    )
