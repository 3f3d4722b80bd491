"""An answer with names in place of results: calls fill them in afterwards, no second sample."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from suffice.core.decisions import Actions, Answer
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request, Tool
from suffice.policies.sampling_state import option
from suffice.policies.tool_plan.arguments import template
from suffice.policies.tool_plan.notations import MOST_CHARS, Notation
from suffice.policies.tool_plan.plan import (
    Constant,
    Plan,
    PlanError,
    Ref,
    Step,
    Text,
    named_arguments,
)
from suffice.policies.tool_plan.planned import PlanFirst, Planning
from suffice.policies.tool_plan.prompts import instructed, signature

# [tool(argument) = y1], or [20 + y1 = y2] for the calculator.
_CALL = re.compile(r"\[\s*([^\[\]\n]*?)\s*=\s*(y\d+)\s*\]")
_TOOL = re.compile(r"^([A-Za-z_][\w.-]*)\((.*)\)$")
_NAME = re.compile(r"\b(y\d+)\b")
_ANSWER = re.compile(r"^\s*Answer\s*:\s*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstraction(PlanFirst):
    """The answer is written with y1, y2, … in place of results, which are filled in afterwards.

    One sample. It is for models trained to it: others write numbers where names should stand. If a
    call fails that the answer cites, the question is answered by the results, as with rewoo.
    Departures: one argument per call, read as text; a plan that cannot be run is repaired once.
    """

    notation: Notation = "python"  # how steps are named to an answering sample: y1
    calculator: str = option("calculate", "the tool of [20 + y1 = y2], by its first parameter")

    name: ClassVar[str] = "abstraction"
    paper: ClassVar[str] = "2401.17464"

    def asked(self, request: Request) -> tuple[Message, ...]:
        """The conversation with the instruction before it."""
        tools = "\n".join(signature(tool) for tool in request.tools)
        text = (
            f"Tools:\n{tools}\n\nAnswer with names in place of the results of tools: "
            f"[tool(input) = y1] calls a tool, y1 stands for its result from then on. "
            "You see no result. End with a line that begins with Answer:"
        )
        return instructed(request.messages, text)

    def parsed(self, text: str, tools: Sequence[Tool]) -> Plan:
        """The calls in brackets, and what follows `Answer:` (else all of the text)."""
        return read_chain(text, tools, self.calculator)

    def _solve(self, state: Planning) -> tuple[Planning, Actions]:
        answer = state.run.plan.answer if state.phase == "running" else None
        texts = state.run.texts
        if answer is not None and state.run.is_done:
            try:
                said = _filled(answer, texts)
            except KeyError:  # it cites a step that failed
                return PlanFirst._solve(self, state)
            return state, (Answer(sample=state.sample, why=self._why(state), text=said),)
        return PlanFirst._solve(self, state)


def read_chain(text: str, tools: Sequence[Tool], calculator: str) -> Plan:
    """The plan in a chain of thought with names. Raises PlanError."""
    if len(text) > MOST_CHARS:
        raise PlanError(f"the answer has {len(text)} characters, at most {MOST_CHARS} are read")
    known = {tool.name: tool for tool in tools}
    steps = tuple(_step(found[1], found[2], known, calculator) for found in _CALL.finditer(text))
    marks = list(_ANSWER.finditer(text))
    said = text[marks[-1].end() :] if marks else _CALL.sub(lambda found: found[2], text)
    ids = {step.id for step in steps}
    value = template(said.strip(), _NAME)
    if isinstance(value, Text):  # words such as y10 that name nothing are words
        value = Text(
            tuple(p.step if isinstance(p, Ref) and p.step not in ids else p for p in value.parts)
        )
    elif isinstance(value, Ref) and value.step not in ids:
        value = Constant.of(value.step)
    return Plan(steps=steps, answer=value)


def _step(inside: str, name: str, tools: dict[str, Tool], calculator: str) -> Step:
    call = _TOOL.match(inside)
    tool_name, argument = (call[1], call[2].strip()) if call else (calculator, inside)
    if not call and calculator not in tools:
        raise PlanError(f"cannot read [{inside[:60]} = {name}]: write [tool(input) = {name}]")
    if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "\"'":
        argument = argument[1:-1]
    given = [template(argument, _NAME)] if argument else []
    return Step(id=name, tool=tool_name, arguments=named_arguments(tools.get(tool_name), given, ()))


def _filled(value: object, texts: dict[str, str]) -> str:
    """The answer with results in it. Raises KeyError where one is missing."""
    match value:
        case Constant():
            return str(json.loads(value.json))
        case Ref(step=step):
            return texts[step]
        case Text(parts=parts):
            return "".join(part if isinstance(part, str) else texts[part.step] for part in parts)
    raise InputError(f"an answer is text, got {type(value).__name__}")
