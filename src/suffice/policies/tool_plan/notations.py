"""Three ways to write a plan, and how each is read. Nothing of a plan's text is ever executed.

rewoo     #E1 = search[who wrote Ulysses]        2305.18323; any number of steps; several arguments
          #E2 = look_up[{"key": "#E1"}]          as a JSON object or as name=value
numbered  1. search("who wrote Ulysses")         2312.04511; `$1` cites; `join()` ends the plan
          2. look_up(key=$1)
python    author = search("who wrote Ulysses")   assignments of calls, read with `ast`; a name
          look_up(key=author["name"])            cites; f-strings, lists, dicts; answer(VALUE)
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from suffice.core.requests import Tool
from suffice.policies.tool_plan.arguments import Reader, arguments_in, template
from suffice.policies.tool_plan.plan import (
    Plan,
    PlanError,
    Step,
    Value,
    schema_of,
    value_of,
)
from suffice.policies.tool_plan.python_notation import read_program
from suffice.tools.json_schema import parameters

Notation = Literal["rewoo", "numbered", "python"]
NOTATIONS: tuple[Notation, ...] = ("rewoo", "numbered", "python")
# Text of a plan beyond this is not read: parsing is not free, and no model means it.
MOST_CHARS = 64_000
MOST_LINE_CHARS = 8_000

_REWOO = re.compile(r"^\s*(?:[-*]\s+)?#E(\d+)\s*[=:]\s*([\w.-]+)\s*\[(.*)\]\s*[.;]?\s*$")
_REWOO_THOUGHT = re.compile(r"^\s*Plan\s*\d*\s*:\s*(.*)$", re.IGNORECASE)
_REWOO_REF = re.compile(r"#E(\d+)")
_NUMBERED = re.compile(r"^\s*(\d+)\s*[.):]\s*([\w.-]+)\s*(\(.*\))\s*(?:#.*|<[^>]*>\s*)?$")
_NUMBERED_THOUGHT = re.compile(r"^\s*Thought\s*:\s*(.*)$", re.IGNORECASE)
_NUMBERED_REF = re.compile(r"\$\$|\$(?:\{(\d+)\}|(\d+))")
_JOIN = ("join", "finish")
_NAME = "suffice_result_"

Tools = Mapping[str, Tool]


def parse_plan(text: str, notation: Notation, tools: Sequence[Tool]) -> Plan:
    """The plan in a model's text. Raises PlanError; what it says is not checked here."""
    if len(text) > MOST_CHARS:
        raise PlanError(f"the plan has {len(text)} characters, at most {MOST_CHARS} are read")
    if any(len(line) > MOST_LINE_CHARS for line in text.splitlines()):
        raise PlanError(f"a line of the plan is longer than {MOST_LINE_CHARS} characters")
    known = {tool.name: tool for tool in tools}
    try:
        return _READERS[notation](text, known)
    except RecursionError:
        raise PlanError("the plan is nested too deeply") from None


def parse_step(line: str, notation: Notation, tools: Sequence[Tool]) -> Step | None:
    """The step in one line of a plan that is still being written; None if there is none.

    Raises PlanError. A plan in Python has no lines that stand alone.
    """
    known = {tool.name: tool for tool in tools}
    if notation == "rewoo":
        return _rewoo_step(line, "", known)
    return _numbered_step(line, "", known) if notation == "numbered" else None


def _rewoo(text: str, tools: Tools) -> Plan:
    steps: list[Step] = []
    thought = ""
    for line in text.splitlines():
        said = _REWOO_THOUGHT.match(line)
        rest = line if said is None else said[1]
        if said is not None and "#E" not in rest:
            thought = rest.strip()
            continue
        if said is not None:  # thought and step on one line, as the paper's own prompts have it
            before, _, step = rest.partition("#E")
            thought, line = before.strip(), f"#E{step}"  # noqa: PLW2901
        found = _rewoo_step(line, thought, tools)
        if found is not None:
            steps.append(found)
            thought = ""
        elif re.match(r"^\s*#E\d+\s*[=:]", line):
            raise PlanError(f"cannot read {line.strip()[:80]!r}: write #E1 = tool[input]")
    return Plan(steps=tuple(steps))


def _rewoo_step(line: str, thought: str, tools: Tools) -> Step | None:
    found = _REWOO.match(line)
    if found is None:
        return None
    number, name, inside = found.groups()
    tool = tools.get(name)
    return Step(
        id=number, tool=name, arguments=_rewoo_arguments(inside.strip(), tool), thought=thought
    )


def _rewoo_arguments(inside: str, tool: Tool | None) -> tuple[tuple[str, Value], ...]:
    """What stands in brackets: a JSON object, name=value pairs, or the one argument as it is."""
    names, required = parameters(schema_of(tool)) if tool is not None else ((), ())
    if not inside:
        return ()
    if inside.startswith("{") and inside.endswith("}"):
        try:
            given = json.loads(_quoted_refs(inside))
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict):
            return tuple((name, value_of(_rewoo_leaves(item))) for name, item in given.items())
    if len(names) > 1 and re.match(r"^\w+\s*=", inside):
        marked = _REWOO_REF.sub(lambda ref: f"${ref[1]}", inside)
        return _call_arguments(f"({marked})", tool)
    if len(names) > 1 and len(required) > 1:
        marked = _REWOO_REF.sub(lambda ref: f"${ref[1]}", inside)
        return _call_arguments(f"({marked})", tool)
    name = (required or names or ("input",))[0]
    return ((name, template(_unquoted(inside), _REWOO_REF)),)


def _quoted_refs(text: str) -> str:
    """Bare references of a JSON text in quotes, so that it can be read."""
    return re.sub(r"(?<=[:\[,])\s*#E(\d+)\s*(?=[,\]}])", r'"#E\1"', text)


def _rewoo_leaves(item: Any) -> Any:
    if isinstance(item, str):
        return template(item, _REWOO_REF)
    if isinstance(item, list):
        return [_rewoo_leaves(each) for each in item]
    if isinstance(item, dict):
        return {name: _rewoo_leaves(each) for name, each in item.items()}
    return item


def _numbered(text: str, tools: Tools) -> Plan:
    steps: list[Step] = []
    thought = ""
    for line in text.splitlines():
        said = _NUMBERED_THOUGHT.match(line)
        if said is not None:
            thought = said[1].strip()
            continue
        match = _NUMBERED.match(line)
        if match is None:
            if re.match(r"^\s*\d+\s*[.):]\s*[\w.-]+\s*\(", line):
                raise PlanError(f"cannot read {line.strip()[:80]!r}: write 1. tool(argument)")
            continue
        if match[2] in _JOIN and match[2] not in tools:
            break
        found = _numbered_step(line, thought, tools)
        if found is not None:
            steps.append(found)
            thought = ""
    return Plan(steps=tuple(steps))


def _numbered_step(line: str, thought: str, tools: Tools) -> Step | None:
    found = _NUMBERED.match(line)
    if found is None or (found[2] in _JOIN and found[2] not in tools):
        return None
    number, name, inside = found.groups()
    arguments = _call_arguments(inside, tools.get(name))
    return Step(id=number, tool=name, arguments=arguments, thought=thought)


def _call_arguments(inside: str, tool: Tool | None) -> tuple[tuple[str, Value], ...]:
    """Arguments in parentheses, with `$1` for results: Python literals otherwise."""
    try:
        tree = ast.parse(f"f{_bare_refs(inside)}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError):
        raise PlanError(
            f'cannot read the arguments {inside[:80]!r}: write ("text", 3, name=value, $1)'
        ) from None
    if not isinstance(tree, ast.Call):
        raise PlanError(f"cannot read the arguments {inside[:80]!r}: write (value, name=value)")
    return arguments_in(tree, tool, Reader(_numbered_name, _numbered_text))


def _bare_refs(inside: str) -> str:
    """References outside of quotes as names."""
    out: list[str] = []
    quote, at = "", 0
    while at < len(inside):
        letter = inside[at]
        if quote:
            out.append(letter)
            if letter == "\\" and at + 1 < len(inside):
                at += 1
                out.append(inside[at])
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
            out.append(letter)
        else:
            ref = _NUMBERED_REF.match(inside, at)
            if ref is not None and ref[0] != "$$":
                out.append(f"{_NAME}{ref[1] or ref[2]}")
                at = ref.end() - 1
            else:
                out.append(letter)
        at += 1
    return "".join(out)


def _numbered_name(name: str) -> str | None:
    return name.removeprefix(_NAME) if name.startswith(_NAME) else None


def _numbered_text(text: str) -> Value:
    return template(text, _NUMBERED_REF)


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


_READERS: dict[Notation, Callable[[str, Tools], Plan]] = {
    "rewoo": _rewoo,
    "numbered": _numbered,
    "python": read_program,
}
