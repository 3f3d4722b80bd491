"""A model that knows the answers: what policies ask of it, the small model is trained on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from small_planner.questions import Question
from suffice.backends.protocol import Capabilities, Chunk
from suffice.core.completions import Usage
from suffice.core.decisions import AnyPolicy
from suffice.core.draw import Draw
from suffice.core.requests import Message, Request, ToolCall
from suffice.executors.live import run
from suffice.policies.tool_plan.notations import Notation
from suffice.policies.tool_plan.plan import Constant, Ref, Step, Text, Value, arguments_of
from suffice.tools.toolbox import Toolbox

# How a model writes what it wants: a notation of plans, or the form of another policy.
Writes = Notation | Literal["turns", "futures", "program", "abstraction"]
# What the instructions of those say that plan first.
_PLANNERS = ("Plan the calls", "Write a Python program", "Answer with names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What was asked of a model, and what it should say."""

    draw: Draw
    said: str
    tool_calls: tuple[ToolCall, ...] = ()


def written(question: Question, writes: Writes) -> str:
    """The plan of a question in a form; "" where it is calls and no text."""
    steps = question.plan.steps
    lines = [_line(step, writes) for step in steps]
    last = steps[-1].id if steps else ""
    match writes:
        case "numbered":
            lines.append(f"{len(lines) + 1}. join()")
        case "abstraction":
            lines.append(f"Answer: y{last}" if steps else f"Answer: {question.answer}")
        case "program" if steps:
            lines.append(f"print(r{last})")
        case "turns" | "futures":
            return ""
    return "\n".join(lines) or ("pass" if writes in ("python", "program") else "none")


def _line(step: Step, writes: Writes) -> str:
    ((_, value),) = step.arguments
    match writes:
        case "rewoo":
            return f"#E{step.id} = {step.tool}[{_text(value, '#E')}]"
        case "numbered":
            return f'{step.id}. {step.tool}("{_text(value, "$")}")'
        case "abstraction":
            return f"[{step.tool}({_text(value, 'y')}) = y{step.id}]"
    if isinstance(value, Text):
        inner = "".join(f"{{r{p.step}}}" if isinstance(p, Ref) else p for p in value.parts)
        return f'r{step.id} = {step.tool}(f"{inner}")'
    return f'r{step.id} = {step.tool}("{_text(value, "")}")'


def _text(value: Value, mark: str) -> str:
    match value:
        case Constant(json=text):
            return str(json.loads(text))
        case Text(parts=parts):
            return "".join(f"{mark}{p.step}" if isinstance(p, Ref) else p for p in parts)
    raise TypeError(f"a generated plan has no {type(value).__name__}")


class Oracle:
    """A backend that answers one question rightly, and keeps what it was asked."""

    name = "oracle"

    def __init__(self, question: Question, writes: Writes, toolbox: Toolbox) -> None:
        self._question = question
        self._writes = writes
        self._tools = {tool.name: tool for tool in toolbox.tools}
        self.examples: list[Example] = []

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """Chat and tools."""
        return Capabilities(models=("oracle",))

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """The right thing to say, as one chunk."""
        said, calls = self._say(draw)
        self.examples.append(Example(draw=draw, said=said, tool_calls=calls))
        yield Chunk(
            text=said,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage=Usage(prompt_tokens=1, completion_tokens=1),
        )

    async def aclose(self) -> None:
        """Nothing to close."""

    def _say(self, draw: Draw) -> tuple[str, tuple[ToolCall, ...]]:
        turns = draw.request.messages
        if draw.request.tools:  # the calls whose inputs are there, or have a name
            return self._turn(turns)
        if turns[0].role == "system" and any(sign in turns[0].text for sign in _PLANNERS):
            return written(self._question, self._writes), ()
        return self._question.answer, ()

    def _turn(self, turns: Sequence[Message]) -> tuple[str, tuple[ToolCall, ...]]:
        waves = self._question.plan.waves()
        done = sum(bool(turn.tool_calls) for turn in turns)
        named = self._writes == "futures"
        if done >= len(waves):
            return "ready" if named and waves else self._question.answer, ()
        said = [turn.text for turn in turns if turn.role == "tool"]
        order = [step for wave in waves[:done] for step in wave]
        if named:
            said = [f"$r{number}" for number in range(1, len(order) + 1)]
        results = dict(zip(order, said, strict=True))
        steps = {step.id: step for step in self._question.plan.steps}
        return "", tuple(
            ToolCall(
                id=f"c{done}_{number}",
                name=steps[name].tool,
                arguments=arguments_of(steps[name], results, self._tools[steps[name].tool]),
            )
            for number, name in enumerate(waves[done])
        )


@dataclass(slots=True)
class Played:
    """A question under a policy with the oracle for a model."""

    examples: list[Example] = field(default_factory=list)
    answer: str = ""


def play_rightly(question: Question, policy: AnyPolicy, writes: Writes, toolbox: Toolbox) -> Played:
    """What a policy asks for a question if every sample is right."""
    oracle = Oracle(question, writes, toolbox)
    request = Request(messages=(Message(role="user", content=question.text),), model="planner")
    outcome = asyncio.run(run(policy, request, oracle, toolbox=toolbox))
    return Played(examples=oracle.examples, answer=outcome.completion.text)
