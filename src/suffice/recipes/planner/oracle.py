"""A model that knows the answers: what policies ask of it, the small model is trained on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from suffice.backends.protocol import Capabilities, Chunk
from suffice.core.completions import Usage
from suffice.core.decisions import AnyPolicy
from suffice.core.draw import Draw
from suffice.core.requests import Message, Request, ToolCall
from suffice.executors.live import run
from suffice.policies.tool_plan.notations import Notation
from suffice.policies.tool_plan.plan import Constant, Ref, Step, Text, Value, arguments_of
from suffice.recipes.planner.questions import Question
from suffice.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What was asked of a model, and what it should say."""

    draw: Draw
    said: str
    tool_calls: tuple[ToolCall, ...] = ()


def written(question: Question, notation: Notation) -> str:
    """The plan of a question in a notation."""
    lines = [_line(step, notation) for step in question.plan.steps]
    if notation == "numbered":
        lines.append(f"{len(lines) + 1}. join()")
    return "\n".join(lines) or ("pass" if notation == "python" else "none")


def _line(step: Step, notation: Notation) -> str:
    ((_, value),) = step.arguments
    if notation == "rewoo":
        return f"#E{step.id} = {step.tool}[{_text(value, '#E')}]"
    if notation == "numbered":
        return f'{step.id}. {step.tool}("{_text(value, "$")}")'
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

    def __init__(self, question: Question, notation: Notation, toolbox: Toolbox) -> None:
        self._question = question
        self._notation = notation
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
        if draw.request.tools:  # in turns: the calls whose inputs are there
            return self._turn(turns)
        planning = turns[0].role == "system" and "Plan the calls" in turns[0].text
        if planning:
            return written(self._question, self._notation), ()
        return self._question.answer, ()

    def _turn(self, turns: Sequence[Message]) -> tuple[str, tuple[ToolCall, ...]]:
        waves = self._question.plan.waves()
        done = sum(bool(turn.tool_calls) for turn in turns)
        if done >= len(waves):
            return self._question.answer, ()
        said = [turn.text for turn in turns if turn.role == "tool"]
        order = [step for wave in waves[:done] for step in wave]
        results = dict(zip(order, said, strict=True))
        steps = {step.id: step for step in self._question.plan.steps}
        return "", tuple(
            ToolCall(
                id=f"c{number}",
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


def play_rightly(
    question: Question, policy: AnyPolicy, notation: Notation, toolbox: Toolbox
) -> Played:
    """What a policy asks for a question if every sample is right."""
    oracle = Oracle(question, notation, toolbox)
    request = Request(messages=(Message(role="user", content=question.text),), model="planner")
    outcome = asyncio.run(run(policy, request, oracle, toolbox=toolbox))
    return Played(examples=oracle.examples, answer=outcome.completion.text)
