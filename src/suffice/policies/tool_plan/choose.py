"""In turns or with a plan: whichever is predicted to cost less for this request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from suffice.core.decisions import AnyPolicy, Need
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.policies.fixed import Single
from suffice.policies.sampling_state import option
from suffice.policies.tool_plan.planned import Dag, Rewoo
from suffice.policies.tool_plan.prompts import planner_messages
from suffice.policies.tool_plan.react import React
from suffice.policies.wrapper import Choice

CHARS_PER_TOKEN = 4
Way = Literal["none", "react", "rewoo", "dag"]
WAYS: tuple[Way, ...] = ("none", "react", "rewoo", "dag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is expected of a request: sizes in tokens, times in seconds."""

    head: float  # the conversation
    tools: float  # their schemas, which a turn is sent with
    instructions: float  # of the planner, with the tools in a line each
    steps: float
    call: float  # written for one call, its thought included
    result: float
    answer: float
    depth: float  # calls that wait for one another: 1 (none do) to `steps` (a chain)
    tool_s: float
    token_s: float
    first_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Tokens that are read anew, read again, and written; seconds on the critical path."""

    fresh: float
    repeated: float
    written: float
    seconds: float

    def cost(self, cached_price: float, completion_price: float, second_price: float) -> float:
        """In prompt tokens at full price."""
        read = self.fresh + cached_price * self.repeated
        return read + completion_price * self.written + second_price * self.seconds


def predicted(way: Way, e: Expected) -> Predicted:
    """The token formula of each way (docs/tools.md), calls of a turn at once.

    In turns the conversation is read depth + 1 times, each time with the results so far. A plan is
    read and written once; the answering sample reads plan and results, and shares the head.
    """
    calls = e.steps * e.call
    if way == "none":
        seconds = e.first_s + e.answer * e.token_s
        return Predicted(fresh=e.head, repeated=0.0, written=e.answer, seconds=seconds)
    if way == "react":
        turns = e.depth + 1.0
        per_turn = e.steps / max(e.depth, 1.0) * (e.call + e.result)
        head = e.head + e.tools
        every = turns * head + per_turn * e.depth * (e.depth + 1.0) / 2.0
        # What is written in a turn is read in the next: the engine has it already.
        fresh = head + e.steps * e.result
        return Predicted(
            fresh=fresh,
            repeated=every - fresh,
            written=calls + e.answer,
            seconds=turns * e.first_s + (calls + e.answer) * e.token_s + e.depth * e.tool_s,
        )
    first = e.head + e.instructions
    second = calls + e.steps * e.result
    waits = e.depth * e.tool_s
    if way == "dag":  # the first calls run while the rest of the plan is written
        waits = max(waits - (calls - e.call) * e.token_s, e.tool_s)
    return Predicted(
        fresh=first + second,
        repeated=e.head,
        written=calls + e.answer,
        seconds=2.0 * e.first_s + (calls + e.answer) * e.token_s + waits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choose(Choice):
    """The cheapest of turns, a plan, and no tools, by tokens at their prices and seconds at theirs.

    Options say what is expected; measure them (`suffice agent --json` tells each call's time and
    size). A request without tools is answered at once.
    """

    steps: float = option(3.0, "calls that a question takes")
    depth: float = option(2.0, "of these, calls that wait for one another; 1: none")
    result_tokens: float = option(120.0, "tokens of a result")
    call_tokens: float = option(30.0, "tokens written for a call, its thought included")
    answer_tokens: float = option(40.0, "tokens of an answer")
    tool_s: float = option(1.0, "seconds of a call")
    token_s: float = option(0.02, "seconds of a written token")
    first_s: float = option(0.3, "seconds before the first token")
    cached_price: float = option(0.1, "price of a cached prompt token, of one that is not")
    completion_price: float = option(4.0, "price of a written token, in prompt tokens")
    second_price: float = option(0.0, "price of a second of waiting, in prompt tokens")
    ways: tuple[str, ...] = option(("react", "rewoo", "dag"), "what may be chosen")

    name: ClassVar[str] = "choose"
    paper: ClassVar[str] = "2601.06007"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        unknown = [way for way in self.ways if way not in WAYS]
        if unknown or not self.ways:
            raise InputError(f"ways must be some of {'+'.join(WAYS)}, got {'+'.join(self.ways)}")
        sizes = [field.name for field in fields(self) if field.name != "ways"]
        for name in sizes:
            if not getattr(self, name) >= 0.0:
                raise InputError(f"{name} must be 0 or more, got {getattr(self, name)}")

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The ways, in the order of `WAYS`."""
        return Single(), React(), Rewoo(), Dag()

    def choose(self, request: Request) -> tuple[int, str]:
        if not request.tools:
            return WAYS.index("none"), "no tools"
        costs = {way: self.cost(way, request) for way in WAYS if way in self.ways}
        best = min(costs, key=lambda way: costs[way])
        said = ", ".join(f"{way} {cost:.0f}" for way, cost in costs.items())
        return WAYS.index(best), f"{best}: {said}"

    def cost(self, way: Way, request: Request) -> float:
        """What a way is predicted to cost, in prompt tokens at full price."""
        found = predicted(way, self._expected(request))
        return found.cost(self.cached_price, self.completion_price, self.second_price)

    def _expected(self, request: Request) -> Expected:
        own = _tokens(turn.text for turn in request.messages)
        listed = _tokens(
            f"{tool.name}{tool.description or ''}{tool.parameters_json or ''}"
            for tool in request.tools
        )
        planner = _tokens(turn.text for turn in planner_messages(request, "rewoo"))
        return Expected(
            head=own,
            tools=listed,
            instructions=planner - own,
            steps=self.steps,
            call=self.call_tokens,
            result=self.result_tokens,
            answer=self.answer_tokens,
            depth=min(max(self.depth, 1.0), max(self.steps, 1.0)),
            tool_s=self.tool_s,
            token_s=self.token_s,
            first_s=self.first_s,
        )


def _tokens(texts: Iterable[str]) -> float:
    return sum(len(text) for text in texts) / CHARS_PER_TOKEN
