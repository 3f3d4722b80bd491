"""Arguments of calls, read from Python's syntax tree: literals, results, and texts with results."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from suffice.core.requests import Tool
from suffice.policies.tool_plan.plan import (
    MOST_DEPTH,
    Constant,
    PlanError,
    Ref,
    Text,
    Value,
    named_arguments,
    value_of,
)

# What reads an inner expression, at a depth.
Inner = Callable[[ast.expr, int], Value]


def arguments_in(
    call: ast.Call, tool: Tool | None, read: Inner | Reader, depth: int = 0
) -> tuple[tuple[str, Value], ...]:
    """Arguments of a call by name. Raises PlanError."""
    inner = _reading(read) if isinstance(read, Reader) else read
    if any(isinstance(item, ast.Starred) for item in call.args) or any(
        keyword.arg is None for keyword in call.keywords
    ):
        raise PlanError("* and ** are not allowed in arguments")
    positional = [inner(item, depth + 1) for item in call.args]
    named = [(str(keyword.arg), inner(keyword.value, depth + 1)) for keyword in call.keywords]
    return named_arguments(tool, positional, named)


def _reading(reader: Reader) -> Inner:
    def read(node: ast.expr, depth: int) -> Value:
        if isinstance(node, ast.Name):
            step = reader.name(node.id)
            if step is not None:
                return Ref(step)
            if node.id in ("true", "false", "null"):
                return Constant(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return reader.text(node.value)
        return literal(node, read, depth)

    return read


def literal(node: ast.expr, inner: Inner, depth: int) -> Value:
    """A literal, a list, a dict, or a part of a result."""
    if depth > MOST_DEPTH:
        raise PlanError(f"arguments are nested more than {MOST_DEPTH} deep")
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return Constant.of(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return Constant.of(-value)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return value_of([inner(item, depth + 1) for item in items])
        case ast.Dict(keys=keys, values=values) if all(
            isinstance(key, ast.Constant) and isinstance(key.value, str) for key in keys
        ):
            names = [key.value for key in keys if isinstance(key, ast.Constant)]
            pairs = zip(names, (inner(item, depth + 1) for item in values), strict=True)
            return value_of({str(name): value for name, value in pairs})
        case ast.Subscript(value=value, slice=ast.Constant(value=str() | int() as key)):
            base = inner(value, depth + 1)
            if isinstance(base, Ref):
                return Ref(base.step, (*base.path, key))
    raise PlanError(
        f"line {node.lineno}: {ast.unparse(node)[:60]!r} is not allowed in arguments; they are "
        "texts, numbers, lists, dicts and results: compute with a tool"
    )


def joined(parts: Sequence[Value]) -> Value:
    """The parts of an f-string as one value."""
    found: list[str | Ref] = []
    for part in parts:
        match part:
            case Constant(json=text):
                value = json.loads(text)
                found.append(value if isinstance(value, str) else text)
            case Ref():
                found.append(part)
            case Text(parts=inner):
                found.extend(inner)
            case _:
                raise PlanError("an f-string holds texts, numbers and results only")
    if any(isinstance(part, Ref) for part in found):
        return found[0] if len(found) == 1 and isinstance(found[0], Ref) else Text(tuple(found))
    return Constant.of("".join(str(part) for part in found))


@dataclass(frozen=True, slots=True)
class Reader:
    """How names and texts of a notation become values."""

    name: Callable[[str], str | None]  # the step that a name cites
    text: Callable[[str], Value]


def template(text: str, pattern: re.Pattern[str]) -> Value:
    """Text with references in it as a value; a reference alone is that reference."""
    parts: list[str | Ref] = []
    at = 0
    for found in pattern.finditer(text):
        if found.start() > at:
            parts.append(text[at : found.start()])
        step = next((group for group in found.groups() if group is not None), None)
        parts.append("$" if step is None else Ref(step))
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    if not any(isinstance(part, Ref) for part in parts):
        return Constant.of("".join(str(part) for part in parts))
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Ref) else Text(tuple(parts))
