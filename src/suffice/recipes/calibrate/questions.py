"""Which rows ask the same question: certificates count questions, however often each was recorded.

Two recorded questions are one if their conversations are equal after `core.text.normalised`, turn
by turn, tools included. Their names, their data sets and how often they were recorded do not
matter: copies of a question are further plays of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from suffice.core.arrays import IntArray
from suffice.core.text import normalised
from suffice.evals.traces.trace_set import Question, TraceSet


def question_key(question: Question) -> str:
    """SHA-256 of the conversation that asks it, in hexadecimal: equal for equal questions."""
    turns = [(turn.role, normalised(turn.text)) for turn in question.messages]
    text = json.dumps([turns, question.tools_json or ""], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class DistinctQuestions:
    """Distinct questions, each with the recorded questions (codes of the trace set) that ask it."""

    keys: tuple[str, ...]
    copies: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, traces: TraceSet, recorded: Iterable[int]) -> DistinctQuestions:
        """The distinct questions among `recorded`, in an order that their names do not change."""
        found: dict[str, list[int]] = {}
        for question in recorded:
            found.setdefault(question_key(traces.questions[int(question)]), []).append(
                int(question)
            )
        keys = tuple(sorted(found))
        return cls(keys, tuple(tuple(found[key]) for key in keys))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def rows(self) -> int:
        """Recorded questions, copies included."""
        return sum(map(len, self.copies))

    @property
    def most_copies(self) -> int:
        """Of the question that was recorded most often."""
        return max(map(len, self.copies), default=0)

    def copy(self, play: int) -> IntArray:
        """One recorded question each: copies take turns over the plays."""
        return np.array([copies[play % len(copies)] for copies in self.copies], dtype=np.int64)

    def at(self, index: Iterable[int]) -> DistinctQuestions:
        """Some of the questions."""
        chosen = [int(number) for number in index]
        return DistinctQuestions(
            tuple(self.keys[number] for number in chosen),
            tuple(self.copies[number] for number in chosen),
        )
