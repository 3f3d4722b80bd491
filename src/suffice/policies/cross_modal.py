"""CoT-PoT: one answer in words and one by a program; two that agree end the vote (2604.17433)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from suffice.core.coverage import Exit
from suffice.core.decisions import (
    Action,
    Actions,
    Evidence,
    Need,
    Sample,
    WholeSamples,
)
from suffice.core.requests import Message, Request
from suffice.core.serial import stored
from suffice.policies.sampling_state import (
    PATIENCE,
    SCATTER,
    Pool,
    ended,
    is_count,
    is_share,
    one_sample,
    option,
    step_alone,
)
from suffice.policies.votes import beta_agreement, top_two, votes_needed

AS_PROGRAM = (
    "Solve it by a short Python program: assignments only, no text. The last line is "
    "answer = and what was asked."
)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Alternating:
    """State: the samples so far, and the question as a program is asked for."""

    pool: Pool
    program: tuple[Message, ...] | None = None  # None: another upstream model writes programs
    copies: bool = False  # at temperature 0 a second sample of a kind says what the first said


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossModal(WholeSamples):
    """An answer in words and one by a program: two that agree stand, else both kinds vote in turn.

    Samples of even numbers are in words, of odd ones programs. After a disagreement they take turns
    until the majority is stable with probability `threshold`, as in adaptive_consistency. Programs
    are asked for in the question, or of an upstream name that is set up for it (`program_model`).
    The answer format `program` reads both kinds; nothing is executed but arithmetic.
    """

    threshold: float = option(0.95, "probability that the majority would not change")
    max_samples: int = option(40, "cap on samples of both kinds")
    program_model: str | None = option(None, "upstream model that answers by programs")
    ask: str = option(AS_PROGRAM, "what is added to the question where a program is wanted")

    name: ClassVar[str] = "cot_pot"
    paper: ClassVar[str] = "2604.17433"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_share("threshold", self.threshold)
        is_count("max_samples", self.max_samples, 2)

    def start(self, request: Request) -> tuple[Alternating, Actions]:
        if request.answer_format is None:
            pool, actions = one_sample("free_form")
            return Alternating(pool=pool), actions
        program = None if self.program_model else asked_for_program(request.messages, self.ask)
        state = Alternating(pool=Pool(), program=program, copies=request.sampling.is_greedy)
        return self._draw(state, 2)

    def step(self, state: Alternating, evidence: Evidence) -> tuple[Alternating, Actions]:
        if state.pool.alone:
            pool, actions = step_alone(state.pool, evidence)
            return replace(state, pool=pool), actions
        if not ended(evidence):
            return state, ()
        state = replace(state, pool=state.pool.settle(evidence))
        return (state, ()) if state.pool.running else self._decide(state)

    def _decide(self, state: Alternating) -> tuple[Alternating, Actions]:
        pool = state.pool
        counts, n = pool.counts, len(pool.seen)
        if pool.launched == 2 and counts and counts[0][1] == 2:
            why = "an answer in words and one by a program agree"
            return state, pool.majority(why, 1.0, "accepted")
        agreement = beta_agreement(*top_two(counts)) if counts else 0.0
        if pool.launched > 2 and agreement >= self.threshold:
            early: Exit = "accepted" if n < self.max_samples else "safe"
            why = f"agreement {agreement:.3f} reaches {self.threshold:g} after {n}"
            return state, pool.majority(why, agreement, early)
        if pool.is_mute and n >= PATIENCE:
            return state, pool.mute(self.max_samples)
        if pool.all_differ and n >= SCATTER:
            return state, pool.scattered(self.max_samples)
        most = 2 if state.copies else self.max_samples
        left = 0 if pool.closed else most - pool.launched
        if left > 0:
            needed = votes_needed(*top_two(counts), self.threshold, most) if counts else 2
            return self._draw(state, min(left, max(1, needed)))
        why = f"cap of {most} samples, agreement {agreement:.3f}"
        return state, pool.majority(why, agreement, "safe")

    def _draw(self, state: Alternating, count: int) -> tuple[Alternating, Actions]:
        """Further samples, in words at even numbers and as programs at odd ones."""
        first = state.pool.launched
        pool, _ = state.pool.launch(count)
        kinds: list[Action] = []
        for odd in (False, True):
            numbers = tuple(n for n in range(first, first + count) if n % 2 == odd)
            if numbers:
                drawn = Sample(samples=numbers, whole=True)
                if odd:
                    drawn = replace(drawn, model=self.program_model, messages=state.program)
                kinds.append(drawn)
        return replace(state, pool=pool), tuple(kinds)


def asked_for_program(messages: tuple[Message, ...], ask: str) -> tuple[Message, ...]:
    """The conversation with `ask` added to its last user turn, or as a turn of its own."""
    at = max((n for n, turn in enumerate(messages) if turn.role == "user"), default=None)
    if at is None or isinstance(messages[at].content, tuple):
        return (*messages, Message(role="user", content=ask))
    turn = replace(messages[at], content=f"{messages[at].text}\n\n{ask}", json=None)
    return (*messages[:at], turn, *messages[at + 1 :])
