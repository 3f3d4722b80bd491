"""A plan: calls of tools whose arguments may cite the results of other calls.

A plan is data. It is checked whole before anything runs (`check_plan`), its arguments are filled in
by `arguments_of`, and a step sees the results that it cites and no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from suffice.core.errors import InputError
from suffice.core.requests import Tool
from suffice.core.serial import stored
from suffice.tools.json_schema import UNKNOWN, parameters, problems, type_of

# Steps of one plan. A model that repeats itself writes hundreds.
MOST_STEPS = 64
# How deep arguments may be nested.
MOST_DEPTH = 16


class PlanError(InputError):
    """A text that is no plan, or a plan that cannot be run; the model is told the message."""


@stored
@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is written in the plan, as JSON text."""

    json: str

    @classmethod
    def of(cls, value: Any) -> Constant:
        """The constant of a JSON value."""
        try:
            return cls(json.dumps(value, ensure_ascii=False, allow_nan=False))
        except ValueError:
            raise PlanError(f"{value} is no number that a tool can be given") from None


@stored
@dataclass(frozen=True, slots=True)
class Ref:
    """The result of another step, or the part of it under `path` (names and indices)."""

    step: str
    path: tuple[str | int, ...] = ()


@stored
@dataclass(frozen=True, slots=True)
class Text:
    """Text with results in it."""

    parts: tuple[str | Ref, ...]


@stored
@dataclass(frozen=True, slots=True)
class Listing:
    """A list of values."""

    items: tuple[Value, ...]


@stored
@dataclass(frozen=True, slots=True)
class Fields:
    """An object: names and values."""

    items: tuple[tuple[str, Value], ...]


Value = Constant | Ref | Text | Listing | Fields


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call: `id` names its result."""

    id: str
    tool: str
    arguments: tuple[tuple[str, Value], ...] = ()
    thought: str = ""

    @property
    def cites(self) -> tuple[str, ...]:
        """Steps whose results its arguments are made of, in order of appearance."""
        refs = (ref.step for _, value in self.arguments for ref in refs_of(value))
        return tuple(dict.fromkeys(refs))


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in the order in which they were written; `answer`: the model's, where it gave one."""

    steps: tuple[Step, ...] = ()
    answer: Value | None = None

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Ids of steps that can run together, one wave after the other. Raises PlanError."""
        sorter = _sorted(self)
        found: list[tuple[str, ...]] = []
        while sorter.is_active():
            ready = tuple(sorter.get_ready())
            found.append(ready)
            sorter.done(*ready)
        return tuple(found)


def refs_of(value: Value) -> Iterator[Ref]:
    """The references in a value."""
    match value:
        case Ref():
            yield value
        case Text(parts=parts):
            yield from (part for part in parts if isinstance(part, Ref))
        case Listing(items=items):
            for item in items:
                yield from refs_of(item)
        case Fields(items=pairs):
            for _, item in pairs:
                yield from refs_of(item)
        case Constant():
            pass


def check_plan(plan: Plan, tools: Sequence[Tool], *, most_steps: int = MOST_STEPS) -> None:
    """Raise PlanError with everything that is wrong with a plan, before anything of it runs."""
    if len(plan.steps) > most_steps:
        raise PlanError(f"the plan has {len(plan.steps)} steps, at most {most_steps} are allowed")
    ids = [step.id for step in plan.steps]
    found = [f"step {each} is defined twice" for each in dict.fromkeys(ids) if ids.count(each) > 1]
    known = {tool.name: tool for tool in tools}
    for step in plan.steps:
        found += [f"step {step.id}: {wrong}" for wrong in step_problems(step, known)]
        missing = [each for each in step.cites if each not in ids]
        found += [f"step {step.id} cites {each}, which is no step" for each in missing]
    if plan.answer is not None:
        missing = [ref.step for ref in refs_of(plan.answer) if ref.step not in ids]
        found += [f"the answer cites {each}, which is no step" for each in dict.fromkeys(missing)]
    if not found:
        try:
            _sorted(plan)
        except PlanError as error:
            found.append(str(error))
    if found:
        raise PlanError("; ".join(found))


def step_problems(step: Step, tools: Mapping[str, Tool]) -> list[str]:
    """What is wrong with one step by itself: its tool, its arguments."""
    tool = tools.get(step.tool)
    if tool is None:
        return [f"there is no tool {step.tool!r} (there are {', '.join(tools) or 'none'})"]
    names = [name for name, _ in step.arguments]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        return [f"{step.tool}: {twice[0]} is given twice"]
    found = problems({name: _hoped(value) for name, value in step.arguments}, schema_of(tool))
    return [f"{step.tool}: {wrong}" for wrong in found]


def schema_of(tool: Tool) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments; any object where it has none."""
    found = json.loads(tool.parameters_json) if tool.parameters_json else {"type": "object"}
    return found if isinstance(found, dict) else {"type": "object"}


def arguments_of(step: Step, results: Mapping[str, str], tool: Tool) -> str:
    """A step's arguments as JSON text, with the results that it cites filled in.

    A result that stands alone becomes a number, list or object where the tool asks for one; within
    a text it is text. Raises PlanError where a result has no such part.
    """
    schema = schema_of(tool)
    filled: dict[str, Any] = {}
    for name, value in step.arguments:
        found = _filled(value, results)
        kind = type_of(schema, name)
        filled[name] = _as_kind(found, kind) if isinstance(value, Ref | Text) else found
    return json.dumps(filled, ensure_ascii=False)


def named_arguments(
    tool: Tool | None, positional: Sequence[Value], named: Sequence[tuple[str, Value]]
) -> tuple[tuple[str, Value], ...]:
    """Arguments by name: those without one take the tool's parameters in order."""
    names = () if tool is None else parameters(schema_of(tool))[0]
    if len(positional) > len(names):
        what = "the tool" if tool is None else tool.name
        if tool is None:  # unknown: the check says so
            names = tuple(f"argument {number + 1}" for number in range(len(positional)))
        else:
            raise PlanError(f"{what} takes {len(names)} arguments, got {len(positional)}")
    return (*zip(names, positional, strict=False), *named)


def value_of(item: Any) -> Value:
    """A JSON value whose leaves may be plan values already, as a plan value."""
    if isinstance(item, Constant | Ref | Text | Listing | Fields):
        return item
    if isinstance(item, list | tuple):
        inner = tuple(value_of(each) for each in item)
        known = [json.loads(each.json) for each in inner if isinstance(each, Constant)]
        return Constant.of(known) if len(known) == len(inner) else Listing(inner)
    if isinstance(item, Mapping):
        pairs = tuple((str(name), value_of(each)) for name, each in item.items())
        if all(isinstance(each, Constant) for _, each in pairs):
            return Constant.of(
                {name: json.loads(each.json) for name, each in pairs if isinstance(each, Constant)}
            )
        return Fields(pairs)
    return Constant.of(item)


def text_of(result: str, path: Sequence[str | int] = ()) -> Any:
    """A result, or the part of it under a path. Raises PlanError."""
    if not path:
        return result
    try:
        found = json.loads(result)
        for part in path:
            found = found[part]
    except (ValueError, LookupError, TypeError, RecursionError):
        where = "".join(f"[{part!r}]" for part in path)
        raise PlanError(f"the result has no {where}") from None
    return found


def _filled(value: Value, results: Mapping[str, str]) -> Any:
    match value:
        case Constant(json=text):
            return json.loads(text)
        case Ref(step=step, path=path):
            return text_of(results[step], path)
        case Text(parts=parts):
            return "".join(
                part if isinstance(part, str) else _as_text(_filled(part, results))
                for part in parts
            )
        case Listing(items=items):
            return [_filled(item, results) for item in items]
        case Fields(items=pairs):
            return {name: _filled(item, results) for name, item in pairs}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_kind(found: Any, kind: str | None) -> Any:
    """A result as the type that a tool asks for, where it can be read as one."""
    if kind == "string":
        return _as_text(found)
    if kind is None or not isinstance(found, str):
        return found
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        return found


def _hoped(value: Value) -> Any:
    """A value as far as it is known, for the check."""
    match value:
        case Constant(json=text):
            return json.loads(text)
        case Ref() | Text():
            return UNKNOWN
        case Listing(items=items):
            return [_hoped(item) for item in items]
        case Fields(items=pairs):
            return {name: _hoped(item) for name, item in pairs}


def _sorted(plan: Plan) -> TopologicalSorter[str]:
    sorter: TopologicalSorter[str] = TopologicalSorter({s.id: s.cites for s in plan.steps})
    try:
        sorter.prepare()
    except CycleError as error:
        around = " → ".join(reversed(error.args[1]))
        raise PlanError(f"steps wait for each other: {around}") from None
    return sorter
