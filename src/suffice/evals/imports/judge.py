"""Answers and verdicts of imported samples: as the file gives them, else by a checker."""

from __future__ import annotations

from typing import NamedTuple

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError
from suffice.evals.grading import Check, check_of
from suffice.evals.traces.trace_set import Question


class JudgedSample(NamedTuple):
    """What a sample answers, and whether it is right; None where that is not known."""

    answer: str | None
    correct: bool | None
    score: float | None


class Judge:
    """Judges samples of one set by one checker; None compares the given answers as they are."""

    def __init__(self, checker: str | None, right_from: float) -> None:
        self.checker, self.right_from = checker, right_from
        self.disagreed = 0  # samples on which the file's verdict is not the checker's
        self._checks: dict[tuple[str, str], Check] = {}

    def judge(
        self, question: Question, *, text: str, answer: str | None, given: float | None, where: str
    ) -> JudgedSample:
        """The file's verdict stands; the checker judges where there is none."""
        correct = None if given is None else given >= self.right_from
        score = given if given is not None and given not in (0.0, 1.0) else None
        said = text if text.strip() else answer or ""
        if self.checker is None or not said.strip():
            return JudgedSample(_short(answer), correct, score)
        verdict = self._check(question, where)(_completion(said))
        if correct is None:
            return JudgedSample(verdict.answer, verdict.correct, score)
        self.disagreed += verdict.correct is not None and correct != verdict.correct
        return JudgedSample(verdict.answer, correct, score)

    def _check(self, question: Question, where: str) -> Check:
        check = self._checks.get(question.key)
        if check is None:
            try:
                check = check_of(self.checker, question.reference, asked=question.prompt)
            except InputError as error:
                raise type(error)(f"{where}: {error}") from None
            self._checks[question.key] = check
        return check


def _short(answer: str | None) -> str | None:
    """An answer as the file has it; a long one is a whole text, which is compared with nothing."""
    return answer.strip() or None if answer is not None and len(answer) <= 200 else None


def _completion(text: str) -> Completion:
    return Completion(text=text, finish_reason="stop", usage=Usage())
