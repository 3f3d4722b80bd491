"""Let the model look at its own attempt again: one draft and revisions of it, in sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from suffice.core.decisions import (
    Actions,
    Evidence,
    Need,
    SampleFailed,
    SampleFinished,
    WholeSamples,
)
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request
from suffice.core.serial import stored
from suffice.policies.sampling_state import Pool, at_least, ended, is_count, option

ASK = (
    "Check the answer above step by step for mistakes. If you find one, correct it; if not, keep "
    "it. Then give the complete answer again in the same form."
)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """State: the conversation so far and every attempt's text, oldest first."""

    pool: Pool
    messages: tuple[Message, ...]
    attempts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialRevision(WholeSamples):
    """Revise an attempt several times, the last few attempts in context, then choose inside.

    Right answers get revised away (about 38 % in Snell et al.), so the last attempt need not win.
    """

    revisions: int = option(3, "revisions after the draft")
    context: int = option(4, "earlier attempts kept in the conversation")
    select: Literal["vote", "last", "score"] = option(
        "vote", "vote (over all attempts), last, or score (needs a verifier)"
    )
    until_stable: bool = option(False, "stop when a revision repeats the answer before it")

    name: ClassVar[str] = "sequential_revision"
    paper: ClassVar[str] = "2408.03314"

    def __post_init__(self) -> None:
        is_count("revisions", self.revisions, 1)
        at_least("context", self.context, 1)
        if self.select not in ("vote", "last", "score"):
            raise InputError(f"select must be vote, last or score, got {self.select!r}")

    @property
    def needs(self) -> frozenset[Need]:
        """A scorer where scores select."""
        return frozenset({"score"}) if self.select == "score" else frozenset()

    def start(self, request: Request) -> tuple[Chain, Actions]:
        pool, actions = Pool(alone=request.answer_format is None).launch(1, whole=True)
        return Chain(pool=pool, messages=request.messages), actions

    def step(self, state: Chain, evidence: Evidence) -> tuple[Chain, Actions]:
        pool = state.pool.settle(evidence)
        state = replace(state, pool=pool)
        if not ended(evidence):
            return state, ()
        if isinstance(evidence, SampleFinished):
            state = replace(state, attempts=(*state.attempts, evidence.completion.text))
        failed = isinstance(evidence, SampleFailed)
        answers = [seen.answer for seen in pool.seen]
        stable = (
            self.until_stable
            and len(answers) > 1
            and answers[-1] is not None
            and answers[-1] == answers[-2]
        )
        # A turn that calls tools has no text to look at again: the call stands.
        calls = isinstance(evidence, SampleFinished) and bool(evidence.completion.tool_calls)
        if failed or calls or stable or pool.launched > self.revisions:
            return state, self._choose(pool)
        pool, actions = pool.launch(
            1, messages=self._conversation(state), purpose="revision", whole=True
        )
        return replace(state, pool=pool), actions

    def _conversation(self, state: Chain) -> tuple[Message, ...]:
        turns = list(state.messages)
        for attempt in state.attempts[-self.context :]:
            turns += [Message(role="assistant", content=attempt), Message(role="user", content=ASK)]
        return tuple(turns)

    def _choose(self, pool: Pool) -> Actions:
        tried = len(pool.seen)
        if self.select == "score":
            scored = [seen for seen in pool.seen if seen.score is not None]
            if scored:
                best = max(scored, key=lambda seen: seen.score or 0.0)
                return replace(pool, seen=(best,)).sole(f"best of {tried} attempts by score")
        if self.select == "vote" and not pool.alone and pool.counts:
            return pool.majority(f"majority of {tried} attempts")
        return pool.sole(f"last of {tried} attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviseOnce(SequentialRevision):
    """One draft, one revision, the revision stands."""

    revisions: int = option(1, "revisions after the draft")
    select: Literal["vote", "last", "score"] = option(
        "last", "vote (over all attempts), last, or score (needs a verifier)"
    )

    name: ClassVar[str] = "revise_once"
    paper: ClassVar[str] = "2511.02309"
