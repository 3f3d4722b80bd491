"""Hold the think block from outside the engine: to a budget, or until the model hesitates."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from suffice.core.decisions import (
    Actions,
    Answer,
    BasePolicy,
    Cancel,
    ChunkSeen,
    Escalate,
    Evidence,
    Need,
    Sample,
    SampleFailed,
    SampleFinished,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.core.thinking import Thinking
from suffice.policies.sampling_state import at_least, option


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Forcing:
    """State: the think block so far, whose tokens are counted until it closes."""

    sample: int = 0
    before: str = ""  # what the running sample was begun with
    reasoning: str = ""
    text: str = ""
    tokens: int = 0  # thinking tokens, over all samples
    waits: int = 0
    closed: bool = False
    apart: bool = False  # the engine sends the think block apart from the text
    hesitations: int = 0
    word: str = ""  # the end of the thinking so far that may go on as one word


class ThinkBlock(BasePolicy):
    """Base of policies that close or reopen the think block of one sample as it streams."""

    __slots__ = ()

    answer_tokens: int
    think_open: str
    think_close: str

    def closes(self, state: Forcing) -> str | None:
        """Why an open block is to be closed now; None: it is not."""
        raise NotImplementedError

    def reopens(self, state: Forcing) -> bool:
        """Whether a block that has closed by itself is to go on."""
        del state
        return False

    def read(self, state: Forcing, thought: str) -> Forcing:
        """The state after further thinking text."""
        del thought
        return state

    def end(self, state: Forcing, finished: SampleFinished) -> Answer:
        """The answer, once the sample has ended."""
        raise NotImplementedError

    def start(self, request: Request) -> tuple[Forcing, Actions]:
        del request
        return Forcing(), (Sample(samples=(0,), thinking=Thinking(enabled=True)),)

    def step(self, state: Forcing, evidence: Evidence) -> tuple[Forcing, Actions]:
        match evidence:
            case ChunkSeen() if evidence.sample == state.sample and not state.closed:
                return self._grow(state, evidence)
            case SampleFinished() if evidence.sample == state.sample:
                return state, (self.end(state, evidence),)
            case SampleFailed() if evidence.sample == state.sample:
                return state, (Escalate(why="the sample failed"),)
            case _:
                return state, ()

    def _grow(self, state: Forcing, chunk: ChunkSeen) -> tuple[Forcing, Actions]:
        reasoning, text = state.reasoning + chunk.reasoning_text, state.text + chunk.text
        # An engine that sends the think block apart closes it with the first text; else the
        # block's own closing text does.
        closed = bool(text.strip()) if reasoning else self.think_close in text
        inside = bool(chunk.reasoning_text) or not closed
        tokens = state.tokens + (chunk.tokens if inside else 0)
        apart = state.apart or bool(reasoning)
        state = replace(
            state, reasoning=reasoning, text=text, tokens=tokens, closed=closed, apart=apart
        )
        if inside:
            state = self.read(state, chunk.reasoning_text or chunk.text)
        thought = state.before + (reasoning or text.split(self.think_close, 1)[0])
        if closed and self.reopens(state):
            again = self._opened(thought) + "\nWait,"
            return self._restart(state, again, "thought too little", closed=False)
        why = None if closed else self.closes(state)
        if why is not None:
            forced = f"{self._opened(thought)}\n{self.think_close}\n\n"
            return self._restart(state, forced, why, closed=True)
        return state, ()

    def cut(self, state: Forcing, finished: SampleFinished) -> str | None:
        """The text after a reopened block, where the engine's own blocks are not in the text."""
        _, closing, answer = finished.completion.text.partition(self.think_close)
        return answer.lstrip() if state.apart and closing else None

    def _opened(self, thought: str) -> str:
        thought = thought.rstrip()
        opened = thought.lstrip().startswith(self.think_open.strip())
        return thought if opened else self.think_open + thought

    def _restart(
        self, state: Forcing, prefill: str, why: str, *, closed: bool
    ) -> tuple[Forcing, Actions]:
        old, new = state.sample, state.sample + 1
        action = Sample(
            samples=(new,),
            prefill="" if state.apart else prefill,
            preface=prefill if state.apart else "",
            max_tokens=self.answer_tokens if closed else None,
            final=closed,
        )
        state = replace(
            state,
            sample=new,
            before=prefill,
            reasoning="",
            text="",
            waits=state.waits + (not closed),
            closed=closed,
        )
        return state, (Cancel(sample=old, why=why), action)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetForcing(ThinkBlock):
    """Hold the think block to a budget from outside the engine (s1).

    A block that reaches `budget` tokens is closed and the answer asked for; one that closes before
    `least` tokens is reopened with "Wait", at most `waits` times. Engines with a budget of their
    own need none of this: use `single` with an effort.
    """

    budget: int = option(4096, "thinking tokens at most")
    least: int = option(0, "thinking tokens wanted before the block may close")
    waits: int = option(2, "times that a block may be reopened")
    answer_tokens: int = option(1024, "tokens for the answer after a block was closed by force")
    think_open: str = option("<think>\n", "text that opens the model's think block")
    think_close: str = option("</think>", "text that closes it")

    name: ClassVar[str] = "budget_forcing"
    paper: ClassVar[str] = "2501.19393"
    needs: ClassVar[frozenset[Need]] = frozenset({"prefill"})

    def __post_init__(self) -> None:
        at_least("budget", self.budget, 1)
        at_least("waits", self.waits, 0)
        at_least("answer_tokens", self.answer_tokens, 1)

    def closes(self, state: Forcing) -> str | None:
        return "thinking budget reached" if state.tokens >= self.budget else None

    def reopens(self, state: Forcing) -> bool:
        return state.tokens < self.least and state.waits < self.waits

    def end(self, state: Forcing, finished: SampleFinished) -> Answer:
        why = f"{state.tokens} thinking tokens, block reopened {state.waits} times"
        return Answer(sample=state.sample, why=why, text=self.cut(state, finished))


@dataclass(frozen=True, slots=True, kw_only=True)
class HesitationStop(ThinkBlock):
    """Close the think block once the model has hesitated so often, and ask for the answer.

    Hesitations are counted in the words of the block as they stream ("wait", "hmm"): no probe, no
    log-probabilities, no second model. The paper's abstract gives neither its words nor its number.
    """

    words: tuple[str, ...] = option(
        ("wait", "hmm", "alternatively"), "words that count, whole and in any case"
    )
    most: int = option(3, "hesitations that end the block")
    least: int = option(0, "thinking tokens before which the block is left alone")
    answer_tokens: int = option(1024, "tokens for the answer after a block was closed by force")
    think_open: str = option("<think>\n", "text that opens the model's think block")
    think_close: str = option("</think>", "text that closes it")

    name: ClassVar[str] = "hesitation"
    paper: ClassVar[str] = "2608.15065"
    needs: ClassVar[frozenset[Need]] = frozenset({"prefill"})

    def __post_init__(self) -> None:
        wrong = [word for word in self.words if not re.fullmatch(r"\w+", word)]
        if wrong or not self.words:
            raise InputError(f"words must be single words such as wait+hmm, got {self.words}")
        at_least("most", self.most, 1)
        at_least("answer_tokens", self.answer_tokens, 1)

    def read(self, state: Forcing, thought: str) -> Forcing:
        known = {word.lower() for word in self.words}
        *whole, last = _split(state.word + thought)
        count = sum(1 for word in whole if word.lower() in known)
        return replace(state, hesitations=state.hesitations + count, word=last)

    def closes(self, state: Forcing) -> str | None:
        enough = state.hesitations >= self.most and state.tokens >= self.least
        return f"it hesitated {state.hesitations} times" if enough else None

    def end(self, state: Forcing, finished: SampleFinished) -> Answer:
        stopped = state.sample > 0
        why = f"{state.hesitations} hesitations in {state.tokens} thinking tokens"
        return Answer(
            sample=state.sample,
            why=why,
            text=self.cut(state, finished),
            exit="hopeless" if stopped else "safe",
        )


def _split(text: str) -> list[str]:
    """Words of a text; the last may still go on, and is empty after anything but a letter."""
    return re.split(r"\W+", text)
