"""In turns or with a plan: whichever is predicted to cost less for this request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import ClassVar, Literal

from suffice.core.decisions import AnyPolicy, Need
from suffice.core.errors import InputError
from suffice.core.prices import TokenPrice
from suffice.core.requests import Request
from suffice.policies.fixed import Single
from suffice.policies.sampling_state import option
from suffice.policies.tool_plan.abstraction import Abstraction
from suffice.policies.tool_plan.planned import Dag, Rewoo
from suffice.policies.tool_plan.program import Program
from suffice.policies.tool_plan.prompts import planner_messages
from suffice.policies.tool_plan.react import React
from suffice.policies.wrapper import Choice

CHARS_PER_TOKEN = 4
Way = Literal["none", "react", "rewoo", "dag", "program", "abstraction"]
WAYS: tuple[Way, ...] = ("none", "react", "rewoo", "dag", "program", "abstraction")
# Where nothing is known of the engine's prices, or of the tools.
CACHED_PRICE, COMPLETION_PRICE = 0.1, 4.0
TOOL_S, RESULT_TOKENS = 1.0, 120.0
RUN_S = 0.05  # of a program, each time that it is run


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
    read and written once; the answering sample reads plan and results, and shares the head. An
    answer with names in place of results needs no second sample.
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
    if way == "abstraction":
        return Predicted(
            fresh=first,
            repeated=0.0,
            written=calls + e.answer,
            seconds=e.first_s + (calls + e.answer) * e.token_s + e.depth * e.tool_s,
        )
    second = calls + e.steps * e.result
    waits = e.depth * e.tool_s
    if way == "program":  # it is shown what the program prints, and none of the results
        second = e.result
        waits += (e.depth + 1.0) * RUN_S
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

    Each question is predicted by its own length and its own tools. What calls take is measured,
    what tokens cost is the upstream's price where the gateway has one; options say the rest, and
    come first. A request without tools is answered at once. Ways that are right more or less often
    are told apart only if `wrong_price` and their shares of right answers are given.
    """

    steps: float = option(3.0, "calls that a question takes")
    depth: float = option(2.0, "of these, calls that wait for one another; 1: none")
    steps_per_char: float = option(0.0, "more calls for each character of the last user turn")
    depth_per_char: float = option(0.0, "the same of calls that wait for one another")
    wrong_price: float = option(0.0, "price of a wrong answer, in prompt tokens")
    react_right: float = option(1.0, "share of right answers in turns, as measured")
    rewoo_right: float = option(1.0, "the same of rewoo")
    dag_right: float = option(1.0, "the same of dag")
    program_right: float = option(1.0, "the same of program")
    abstraction_right: float = option(1.0, "the same of abstraction")
    result_tokens: float | None = option(None, "tokens of a result; as measured, else 120")
    call_tokens: float = option(30.0, "tokens written for a call, its thought included")
    answer_tokens: float = option(40.0, "tokens of an answer")
    tool_s: float | None = option(None, "seconds of a call; as measured, else 1")
    token_s: float = option(0.02, "seconds of a written token")
    first_s: float = option(0.3, "seconds before the first token")
    cached_price: float | None = option(
        None, "price of a cached prompt token, of one that is not; the upstream's, else .1"
    )
    completion_price: float | None = option(
        None, "price of a written token, in prompt tokens; the upstream's, else 4"
    )
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
            value = getattr(self, name)
            # Fitted slopes and starts of a line may lie below 0; what they come to is cut at 0.
            below = name in ("steps", "depth", "steps_per_char", "depth_per_char")
            if value is not None and not (value >= 0.0 or (below and value > -math.inf)):
                raise InputError(f"{name} must be 0 or more, got {value}")

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The ways, in the order of `WAYS`."""
        return Single(), React(), Rewoo(), Dag(), Program(), Abstraction()

    def priced(self, price: TokenPrice | None) -> Choose:
        """The same at an upstream's prices, where options do not say them."""
        if price is None or not price.prompt_usd > 0.0:
            return self
        cached, written = self.cached_price, self.completion_price
        cached_usd = price.prompt_usd if price.cached_usd is None else price.cached_usd
        return replace(
            self,
            cached_price=cached_usd / price.prompt_usd if cached is None else cached,
            completion_price=price.completion_usd / price.prompt_usd
            if written is None
            else written,
        )

    def choose(self, request: Request) -> tuple[int, str]:
        if not request.tools:
            return WAYS.index("none"), "no tools"
        ways = [way for way in WAYS if way in self.ways]
        if not any(tool.name == Program().sandbox for tool in request.tools):
            ways = [way for way in ways if way != "program"] or ["react"]
        costs = {way: self.cost(way, request) for way in ways}
        best = min(costs, key=lambda way: costs[way])
        said = ", ".join(f"{way} {cost:.0f}" for way, cost in costs.items())
        return WAYS.index(best), f"{best}: {said}"

    def cost(self, way: Way, request: Request) -> float:
        """What a way is predicted to cost, in prompt tokens at full price."""
        found = predicted(way, self._expected(request))
        cached, written = self.cached_price, self.completion_price
        tokens = found.cost(
            CACHED_PRICE if cached is None else cached,
            COMPLETION_PRICE if written is None else written,
            self.second_price,
        )
        right = {
            "react": self.react_right, "rewoo": self.rewoo_right, "dag": self.dag_right,
            "program": self.program_right, "abstraction": self.abstraction_right,
        }  # fmt: skip
        return tokens + self.wrong_price * (1.0 - right.get(way, 1.0))

    def _expected(self, request: Request) -> Expected:
        own = _tokens(turn.text for turn in request.messages)
        listed = _tokens(
            f"{tool.name}{tool.description or ''}{tool.parameters_json or ''}"
            for tool in request.tools
        )
        measured = [tool.measured for tool in request.tools if tool.measured is not None]
        tool_s, result = self.tool_s, self.result_tokens
        if tool_s is None:
            tool_s = fmean(m.seconds for m in measured) if measured else TOOL_S
        if result is None:
            chars = fmean(m.result_chars for m in measured) if measured else None
            result = RESULT_TOKENS if chars is None else chars / CHARS_PER_TOKEN
        length = len(next((t.text for t in reversed(request.messages) if t.role == "user"), ""))
        steps = max(self.steps + self.steps_per_char * length, 0.0)
        depth = self.depth + self.depth_per_char * length
        planner = _tokens(turn.text for turn in planner_messages(request, "rewoo"))
        return Expected(
            head=own,
            tools=listed,
            instructions=planner - own,
            steps=steps,
            call=self.call_tokens,
            result=result,
            answer=self.answer_tokens,
            depth=min(max(depth, min(1.0, steps)), max(steps, 0.0)),
            tool_s=tool_s,
            token_s=self.token_s,
            first_s=self.first_s,
        )


def _tokens(texts: Iterable[str]) -> float:
    return sum(len(text) for text in texts) / CHARS_PER_TOKEN
