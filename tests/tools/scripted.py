"""A model that says what it is told to, and tools that count what is asked of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suffice.backends.fake import FakeBackend, Script
from suffice.core.completions import Budget, Outcome
from suffice.core.decisions import AnyPolicy
from suffice.core.requests import Message, Request, Tool, ToolCall, ToolHints
from suffice.executors.events import Event
from suffice.executors.live import run
from suffice.executors.tool_calls import ToolLimits
from suffice.tools.protocol import ToolResult
from suffice.tools.toolbox import Toolbox
from tests.tools.virtual_time import run_in_virtual_time

PRIVATE = ToolHints(read_only=True, open_world=False)
ONE_TEXT = json.dumps(
    {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
        "additionalProperties": False,
    }
)
TWO_NUMBERS = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
)


def tool(name: str, schema: str = ONE_TEXT, hints: ToolHints | None = PRIVATE) -> Tool:
    return Tool(name=name, description=f"does {name}", parameters_json=schema, hints=hints)


TOOLS = (tool("search"), tool("look_up"), tool("add", TWO_NUMBERS))


@dataclass
class Recorded:
    """A server of scripted tools: `reply` says what a call comes to, `delay_s` how late."""

    reply: Callable[[str, Mapping[str, Any]], str | ToolResult | Exception]
    delay_s: Callable[[str, Mapping[str, Any]], float] = lambda tool, arguments: 0.0
    tools: tuple[Tool, ...] = TOOLS
    name: str = "recorded"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    stopped: int = 0

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        self.asked.append((tool, dict(arguments)))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay_s(tool, arguments))
            found = self.reply(tool, arguments)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        finally:
            self.running -= 1
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, ToolResult) else ToolResult(text=found)

    async def aclose(self) -> None:
        """Nothing to close."""


def echo(tool: str, arguments: Mapping[str, Any]) -> str:
    """Sums for `add`, else the arguments said back."""
    if tool == "add":
        return str(arguments["a"] + arguments["b"])
    return f"{tool} of {arguments.get('query')}"


def question(text: str = "how far is it?", tools: tuple[Tool, ...] = ()) -> Request:
    return Request(messages=(Message(role="user", content=text),), model="fake", tools=tools)


def calls(*made: tuple[str, Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(id=f"c{number}", name=name, arguments=json.dumps(arguments))
        for number, (name, arguments) in enumerate(made)
    )


@dataclass
class Ran:
    """One request, played to its end in virtual time."""

    outcome: Outcome
    server: Recorded
    backend: FakeBackend
    events: list[Event]
    elapsed_s: float

    @property
    def tools_called(self) -> list[str]:
        return [name for name, _ in self.server.asked]

    @property
    def text(self) -> str:
        return self.outcome.completion.text

    def prompt(self, number: int) -> str:
        return "\n".join(turn.text for turn in self.backend.traffic.calls[number].request.messages)


def ask(
    policy: AnyPolicy,
    said: Sequence[str | Script] | Callable[..., Script],
    *,
    server: Recorded | None = None,
    request: Request | None = None,
    budget: Budget | None = None,
    limits: ToolLimits | None = None,
    delay_s: float = 0.0,
) -> Ran:
    """The request under the policy; samples say `said` in order, each token after `delay_s`."""
    if callable(said):
        backend = FakeBackend(said)
    else:
        scripts = [
            Script.of(each, delay_s=delay_s) if isinstance(each, str) else each for each in said
        ]
        backend = FakeBackend(scripts)
    tools = server or Recorded(echo)
    events: list[Event] = []

    async def main(clock: Callable[[], float]) -> tuple[Outcome, float]:
        outcome = await run(
            policy, request or question(), backend, toolbox=Toolbox([tools]), budget=budget,
            limits=limits, clock=clock, happened=events.append,
        )  # fmt: skip
        return outcome, clock()

    outcome, elapsed_s = run_in_virtual_time(main)
    return Ran(outcome, tools, backend, events, elapsed_s)
