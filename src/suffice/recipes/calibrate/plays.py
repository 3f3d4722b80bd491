"""Recorded samples dealt out as plays: the same question asked again, with other samples.

Play 0 takes the samples as they were recorded. Further plays put each question's samples in an
order of their own, and where a question was recorded several times they take turns over its copies.
Samples of a question are exchangeable, so every play is worth as much as the first.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.completions import SENTINEL_LOGPROB
from suffice.core.errors import InputError
from suffice.evals.traces.trace_set import TraceSet
from suffice.recipes.calibrate.questions import DistinctQuestions
from suffice.recipes.calibrate.stopping_times import Votes, votes_of


class Plays:
    """`count` plays of every distinct question."""

    def __init__(
        self, traces: TraceSet, questions: DistinctQuestions, *, count: int, seed: int
    ) -> None:
        self.traces, self.questions, self.count, self._seed = traces, questions, count, seed
        self._rows: dict[str, IntArray] = {}
        self._asked = np.stack([questions.copy(play) for play in range(count)], axis=1)
        self._probability = np.full(len(traces), np.nan)  # by row, where it was asked for
        self._asked_for = np.zeros(len(traces), dtype=bool)
        self._votes: dict[tuple[str, int], Votes] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """(questions, plays)."""
        return len(self.questions), self.count

    def samples(self, model: str) -> int:
        """Samples that every question has of a model, however it was asked."""
        return int(self.traces.count[self._asked, self.traces.arm_index(model)].min())

    def rows(self, model: str) -> IntArray:
        """Rows of a model's samples: questions by plays by samples, in drawing order."""
        found = self._rows.get(model)
        if found is None:
            found = self._rows[model] = self._dealt(model)
        return found

    def _dealt(self, model: str) -> IntArray:
        traces, arm = self.traces, self.traces.arm_index(model)
        width = self.samples(model)
        if not width:
            raise InputError(f"a question has no recorded sample of {model}")
        start, count = traces.start[self._asked, arm], traces.count[self._asked, arm]
        found = np.empty((*self.shape, width), dtype=np.int64)
        most = int(count.max())
        for play in range(self.count):
            order = np.broadcast_to(np.arange(most), (len(self.questions), most))
            if play and most > 1:
                keys = np.random.default_rng((self._seed, play, arm)).random(order.shape)
                keys[np.arange(most) >= count[:, play, None]] = np.inf
                order = np.argsort(keys, axis=1)
            found[:, play] = start[:, play, None] + order[:, :width]
        return found

    def votes(self, model: str, cap: int) -> Votes:
        """Votes over a model's first `cap` samples, questions by plays flattened; counted once."""
        found = self._votes.get((model, cap))
        if found is None:
            rows = self.rows(model)
            if rows.shape[2] < cap:
                raise InputError(
                    f"a vote of {cap} samples of {model} is asked for, the traces hold "
                    f"{rows.shape[2]} of every question: lower its cap, or record more"
                )
            counted = votes_of(self.traces, rows[:, :, :cap].reshape(-1, cap))
            found = self._votes[model, cap] = counted
        return found

    def asked(self, play: int) -> IntArray:
        """The recorded question that each play asks."""
        found: IntArray = self._asked[:, play]
        return found

    def probability(self, rows: IntArray) -> FloatArray:
        """exp of the mean logprob of each sample's tokens, as `single` reports it; NaN if none."""
        for row in np.unique(rows[~self._asked_for[rows]]).tolist():
            values = np.asarray(self.traces.logprobs.row(row), dtype=np.float64)
            values = values[values > SENTINEL_LOGPROB]
            if values.size:
                self._probability[row] = np.exp(values.mean())
        self._asked_for[rows] = True
        found: FloatArray = self._probability[rows]
        return found


def check_judged(traces: TraceSet, questions: Iterable[int], models: Iterable[str]) -> None:
    """Raise InputError unless every sample of these models on these questions has a verdict."""
    arms = [traces.arm_index(model) for model in models]
    inside = np.isin(traces.question, list(questions)) & np.isin(traces.arm, arms)
    unjudged = np.flatnonzero(inside & np.isnan(traces.correct))
    if unjudged.size:
        name = traces.questions[traces.question[unjudged[0]]].name
        raise InputError(
            f"the sample of question {name!r} has no verdict (column correct): calibration needs "
            f"every sample judged, and {unjudged.size} are not"
        )
