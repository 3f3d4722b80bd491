"""A plan as a program: assignments of tool calls, read with `ast` and never executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from suffice.core.requests import Tool
from suffice.policies.tool_plan.arguments import arguments_in, joined, literal
from suffice.policies.tool_plan.plan import Constant, Plan, PlanError, Ref, Step, Value

_FENCE = re.compile(r"^\s*```[\w-]*\s*$")


def read_program(text: str, tools: Mapping[str, Tool]) -> Plan:
    """The plan in a program; code fences around it are left out. Raises PlanError."""
    source = "\n".join(line for line in text.splitlines() if not _FENCE.match(line))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = "" if line is None else f"line {line}: "
        raise PlanError(f"{where}this is no Python: {getattr(error, 'msg', error)}") from None
    return _Program(tools).read(tree)


class _Program:
    """Reads a program of assignments; every other statement is an error that names its line."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools
        self._steps: list[Step] = []
        self._names: dict[str, Value] = {}
        self._inner = 0

    def read(self, tree: ast.Module) -> Plan:
        answer: Value | None = None
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._assign(name, value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._assign(name, value)
                case ast.Expr(value=ast.Call(func=ast.Name(id="answer"), args=[value])) if (
                    "answer" not in self._tools
                ):
                    answer = self._value(value, 0)
                case ast.Expr(value=ast.Call() as call):
                    self._call(call, None, 0)
                case ast.Expr(value=ast.Constant(value=str())):
                    pass  # a comment in quotes
                case ast.Pass():
                    pass
                case _:
                    raise PlanError(
                        f"line {statement.lineno}: {type(statement).__name__} is not allowed; a "
                        "plan has assignments of tool calls: name = tool(argument)"
                    )
        return Plan(steps=tuple(self._steps), answer=answer)

    def _assign(self, name: str, value: ast.expr) -> None:
        if isinstance(value, ast.Call):
            ref = self._call(value, None if name in self._names else name, 0)
            self._names[name] = ref
        else:
            self._names[name] = self._value(value, 0)

    def _call(self, call: ast.Call, name: str | None, depth: int) -> Ref:
        if not isinstance(call.func, ast.Name):
            raise PlanError(f"line {call.lineno}: only tools can be called, by their name")
        tool = self._tools.get(call.func.id)
        arguments = arguments_in(call, tool, self._value, depth)
        if name is None:
            self._inner += 1
            name = f"_{self._inner}"
        self._steps.append(Step(id=name, tool=call.func.id, arguments=arguments))
        return Ref(name)

    def _value(self, node: ast.expr, depth: int) -> Value:
        match node:
            case ast.Call():
                return self._call(node, None, depth + 1)
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.Name(id=name) if name in ("true", "false", "null"):
                return Constant(name)
            case ast.Name(id=name):
                return Ref(name)  # the check says that there is no such step
            case ast.JoinedStr(values=parts):
                return joined([self._part(part, depth) for part in parts])
        return literal(node, self._value, depth)

    def _part(self, node: ast.expr, depth: int) -> Value:
        match node:
            case ast.FormattedValue(value=value, format_spec=None):
                return self._value(value, depth + 1)
            case ast.FormattedValue():
                raise PlanError(f"line {node.lineno}: a format in an f-string is not allowed")
        return self._value(node, depth + 1)
