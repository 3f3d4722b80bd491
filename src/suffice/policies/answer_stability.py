"""Ask a running sample for its answer now and then; stop it when the answer no longer moves."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from suffice.core.decisions import (
    Actions,
    Answer,
    BasePolicy,
    ChunkSeen,
    Escalate,
    Evidence,
    Need,
    Sample,
    SampleFailed,
    SampleFinished,
)
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.policies.sampling_state import Pool, at_least, one_sample, option, step_alone

MAIN = 0
_HEDGE = re.compile(r"\b(wait|hold|but|okay|no|hmm)\b", re.IGNORECASE)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """State: the sample's text so far, and what the probes said (None: nothing usable)."""

    prompt: str
    alone: Pool | None = None
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    next_tokens: int
    launched: int = 1
    probe: int | None = None  # the probe in flight
    answers: tuple[str | None, ...] = ()
    silent: bool = False  # a probe was refused for the budget: no more of them
    best: int | None = None  # the last probe that gave an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStability(BasePolicy):
    """Every `chunk` tokens, ask for the answer; stop when `k` probes in a row agree (Dynasor).

    Presets of the paper as (k, chunk): mild (8, 64), low (5, 64), mid (3, 64), high (2, 64),
    crazy (2, 32). A probe after which the model hedges ("wait", "but", …) does not count.
    """

    k: int = option(3, "equal probes in a row that stop the sample")
    chunk: int = option(64, "tokens between probes")
    probe_tokens: int = option(20, "tokens a probe may draw")
    probe: str | None = option(None, "text that asks for the answer; by answer format by default")
    think_open: str = option("<think>\n", "text that opens the model's think block")
    think_close: str = option("\n</think>\n\n", "text that closes it")

    name: ClassVar[str] = "answer_stability"
    paper: ClassVar[str] = "2412.20993"
    needs: ClassVar[frozenset[Need]] = frozenset({"prefill"})

    def __post_init__(self) -> None:
        at_least("k", self.k, 1)
        at_least("chunk", self.chunk, 1)
        at_least("probe_tokens", self.probe_tokens, 1)

    def start(self, request: Request) -> tuple[Probing, Actions]:
        state = Probing(prompt=self.probe or asked_for_answer(request), next_tokens=self.chunk)
        if request.answer_format is None:
            pool, actions = one_sample("free_form")
            return replace(state, alone=pool), actions
        return state, (Sample(samples=(MAIN,)),)

    def step(self, state: Probing, evidence: Evidence) -> tuple[Probing, Actions]:
        if state.alone is not None:
            pool, last = step_alone(state.alone, evidence)
            return replace(state, alone=pool), last
        actions: Actions = ()
        match evidence:
            case ChunkSeen(sample=0):
                state, actions = self._grow(state, evidence)
            case SampleFinished(sample=0):
                actions = (Answer(sample=MAIN, why="finished by itself"),)
            case SampleFailed(sample=0):
                actions = (Escalate(why="the sample failed", best=state.best),)
            case SampleFinished():
                state, actions = self._hear(state, evidence)
            case SampleFailed():
                silent = state.silent or evidence.reason == "budget"
                state = replace(state, probe=None, silent=silent)
            case _:
                pass
        return state, actions

    def _grow(self, state: Probing, chunk: ChunkSeen) -> tuple[Probing, Actions]:
        state = replace(
            state,
            text=state.text + chunk.text,
            reasoning=state.reasoning + chunk.reasoning_text,
            tokens=state.tokens + chunk.tokens,
        )
        if state.tokens < state.next_tokens or state.probe is not None or state.silent:
            return state, ()
        number = state.launched
        due = (state.tokens // self.chunk + 1) * self.chunk
        state = replace(state, next_tokens=due, launched=number + 1, probe=number)
        action = Sample(
            samples=(number,),
            preface=spoken(state.reasoning, state.text, self.think_open, self.think_close),
            prefill=state.prompt,
            max_tokens=self.probe_tokens,
            temperature=0.0,
            purpose="probe",
        )
        return state, (action,)

    def _hear(self, state: Probing, probe: SampleFinished) -> tuple[Probing, Actions]:
        said = probe.completion.text[len(probe.completion.prefill) :]
        answer = None if _HEDGE.search(said) else probe.answer
        best = state.best if answer is None else probe.sample
        state = replace(state, probe=None, answers=(*state.answers, answer), best=best)
        last = state.answers[-self.k :]
        if answer is None or len(last) < self.k or len(set(last)) > 1:
            return state, ()
        why = f"{self.k} probes in a row gave the same answer after {state.tokens} tokens"
        shown = state.text + state.prompt + said
        return state, (Answer(sample=probe.sample, why=why, text=shown.strip()),)


def asked_for_answer(request: Request) -> str:
    """What a probe ends with, so that the answer follows in the request's own format."""
    return "\n\nFinal answer: " + ("\\boxed{" if request.answer_format == "boxed" else "")


def spoken(reasoning: str, text: str, think_open: str, think_close: str) -> str:
    """What a sample has said so far, with its think block closed."""
    return think_open + reasoning + think_close + text if reasoning else text
