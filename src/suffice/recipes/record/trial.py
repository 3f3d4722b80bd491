"""Ten questions first: what was extracted, what is right, how long the whole will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suffice.core.errors import InputError
from suffice.evals.traces.trace_set import Trace

TRIAL_QUESTIONS = 10
# So many answers without a right one: the checker or the prompt is wrong, not the model.
MOST_WITHOUT_RIGHT = 20


class NothingRight(InputError):
    """None of the first answers is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingTrial:
    """The first samples of a recording, and what they say of the rest."""

    model: str
    traces: tuple[Trace, ...]
    left: int  # samples still to be drawn
    concurrency: int
    rate_per_s: float | None

    @property
    def judged(self) -> int:
        """Samples known to be right or wrong."""
        return sum(trace.correct is not None for trace in self.traces)

    @property
    def right(self) -> int:
        """Samples that are right."""
        return sum(trace.correct is True for trace in self.traces)

    @property
    def tokens_left(self) -> float | None:
        """Completion tokens of the rest, if it is like these; None where none were counted."""
        counts = [t.completion_tokens for t in self.traces if t.completion_tokens is not None]
        return self.left * sum(counts) / len(counts) if counts else None

    @property
    def seconds_left(self) -> float | None:
        """Time of the rest, if the server is as fast with all that run at once."""
        times = [trace.e2e_s for trace in self.traces if trace.e2e_s is not None]
        if not times:
            return None
        at_once = min(self.concurrency, max(1, self.left))
        needed = self.left * sum(times) / len(times) / at_once
        return needed if self.rate_per_s is None else max(needed, self.left / self.rate_per_s)


def check_some_right(model: str, traces: Sequence[Trace]) -> None:
    """Raise NothingRight if there are enough answers and not one is right."""
    judged = [trace for trace in traces if trace.correct is not None]
    if len(judged) < MOST_WITHOUT_RIGHT or any(trace.correct for trace in judged):
        return
    shown = "; ".join(
        f"question {trace.question.name!r} wants {trace.question.reference!r}, found "
        f"{_short(trace.answer)} in {_short(trace.text)}"
        for trace in judged[:3]
    )
    checker = judged[0].question.answer_format or "text"
    raise NothingRight(
        f"0 of the first {len(judged)} answers of {model} are right by checker {checker}, so that "
        f"the checker or the prompt is likely wrong: {shown}. Stopped, and what was drawn is kept. "
        "Try --checker (number, choice, math, boxed …), say in the prompt how to answer, or go on "
        "with --keep-going if the questions are that hard"
    )


def _short(text: str | None) -> str:
    if not text:
        return "nothing"
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 60 else "…" + flat[-58:])
