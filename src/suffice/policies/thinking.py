"""Think less or more: answer at once in parallel, or hold the think block to a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from suffice.core.decisions import (
    Action,
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
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.core.thinking import Thinking
from suffice.policies.fixed import SelfConsistency
from suffice.policies.sampling_state import Pool, at_least, option
from suffice.policies.wrapper import Wrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides(Wrapper):
    """A policy whose samples use another model or another think block, where they set none."""

    model: str | None = None
    thinking: Thinking | None = None

    def told(self, actions: Actions) -> Actions:
        """Its samples rewired."""
        return tuple(self._rewire_one(action) for action in actions)

    def _rewire_one(self, action: Action) -> Action:
        if not isinstance(action, Sample):
            return action
        return replace(
            action,
            model=action.model or self.model,
            thinking=self.thinking if action.thinking is None else action.thinking,
        )


# 2504.09858 §2: what takes the place of the thinking.
FINISHED_BLOCK = "<think>\nOkay, I think I have finished thinking.\n</think>\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoThinking(SelfConsistency):
    """Answer at once, several times in parallel, and vote: the think block is left empty.

    The engine's own switch turns thinking off. For an engine that has none, `begin` writes the
    block that the paper begins the answer with.
    """

    samples: int = option(8, "samples to draw")
    begin: bool = option(False, "begin with a finished think block: for engines without a switch")

    name: ClassVar[str] = "no_thinking"
    paper: ClassVar[str] = "2504.09858"

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Prefill, where the block is written by us."""
        return frozenset({"prefill"}) if self.begin else frozenset()

    def start(self, request: Request) -> tuple[Pool, Actions]:
        state, actions = SelfConsistency.start(self, request)
        at_once = Overrides(inner=self, thinking=None if self.begin else Thinking(enabled=False))
        begun = FINISHED_BLOCK if self.begin else ""
        return state, tuple(
            replace(action, preface=begun) if isinstance(action, Sample) else action
            for action in at_once.told(actions)
        )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetForcing(BasePolicy):
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

    def start(self, request: Request) -> tuple[Forcing, Actions]:
        return Forcing(), (Sample(samples=(0,), thinking=Thinking(enabled=True)),)

    def step(self, state: Forcing, evidence: Evidence) -> tuple[Forcing, Actions]:
        match evidence:
            case ChunkSeen() if evidence.sample == state.sample and not state.closed:
                return self._grow(state, evidence)
            case SampleFinished() if evidence.sample == state.sample:
                why = f"{state.tokens} thinking tokens, block reopened {state.waits} times"
                return state, (
                    Answer(sample=state.sample, why=why, text=self._cut(state, evidence)),
                )
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
        thought = state.before + (reasoning or text.split(self.think_close, 1)[0])
        if closed and tokens < self.least and state.waits < self.waits:
            return self._restart(state, self._opened(thought) + "\nWait,", closed=False)
        if not closed and tokens >= self.budget:
            forced = f"{self._opened(thought)}\n{self.think_close}\n\n"
            return self._restart(state, forced, closed=True)
        return state, ()

    def _cut(self, state: Forcing, finished: SampleFinished) -> str | None:
        """The text after a reopened block, where the engine's own blocks are not in the text."""
        _, closing, answer = finished.completion.text.partition(self.think_close)
        return answer.lstrip() if state.apart and closing else None

    def _opened(self, thought: str) -> str:
        thought = thought.rstrip()
        opened = thought.lstrip().startswith(self.think_open.strip())
        return thought if opened else self.think_open + thought

    def _restart(self, state: Forcing, prefill: str, *, closed: bool) -> tuple[Forcing, Actions]:
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
        why = "thinking budget reached" if closed else "thought too little"
        return state, (Cancel(sample=old, why=why), action)
