"""The program of `program` as it is run: stubs before it, its report after it. Text only.

The program is run from its beginning each time. A stub whose result is known returns it. One whose
result is not known notes the call and returns a stand-in; the run ends where the program looks into
a stand-in, and reports the calls noted so far. They are made, and the program is run again. So
calls that do not need each other are made at once, without a word about it in the program.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from suffice.core.requests import Tool
from suffice.core.serial import stored
from suffice.policies.tool_plan.notations import MOST_CHARS
from suffice.policies.tool_plan.plan import PlanError, schema_of
from suffice.tools.json_schema import parameters

# Of what a program prints, and of a result that it sees: arguments made of it are reported too, and
# a report must fit into one result.
MOST_PRINTED = 8_000
MOST_RESULT = 10_000
# What a program may import, and what it may not name: text that came from a tool must not become
# code. This is a check of what is written; what holds a program is the sandbox.
MODULES = frozenset(
    {"collections", "datetime", "fractions", "functools", "itertools", "json", "math", "re",
     "statistics", "string"}
)  # fmt: skip
_REFUSED = frozenset(
    {"eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "getattr", "setattr",
     "delattr", "breakpoint", "exit", "quit", "BaseException"}
)  # fmt: skip
_FENCE = re.compile(r"^\s*```[\w-]*\s*$")

_FRAME = r'''
import contextlib as _c, io as _io, json as _j

class ToolError(Exception):
    """A call of a tool that failed."""

class _Needed(BaseException):
    pass

_known, _asked = _j.loads(@KNOWN@), []

class _Later:
    """Stands for a result that is not there yet; the program ends where it is looked into."""

def _look(*_, **__):
    raise _Needed

for _name in ("str repr format bytes int float complex index bool len iter next contains getitem "
              "setitem add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow "
              "rpow neg pos abs round lt le gt ge eq ne hash call enter exit getattr").split():
    setattr(_Later, f"__{_name}__", _look)

def _plain(value):
    if isinstance(value, _Later):
        raise _Needed
    raise TypeError("arguments are texts, numbers, lists and dicts")

def _stub(_tool, _names):
    def stub(*given, **named):
        if len(given) > len(_names):
            raise TypeError(f"{_tool} takes {len(_names)} arguments")
        arguments = dict(zip(_names, given), **named)
        text = _j.dumps(arguments, default=_plain)
        number = len(_asked)
        _asked.append([_tool, text])
        if number >= len(_known):
            return _Later()
        tool, said, ok, result = _known[number]
        if [tool, said] != [_tool, text]:
            raise RuntimeError("other calls than before")
        if not ok:
            raise ToolError(result)
        try:
            return _j.loads(result)
        except ValueError:
            return result
    return stub

_names = {"ToolError": ToolError, "__name__": "__main__"}
for _tool, _parameters in _j.loads(@TOOLS@):
    _names[_tool] = _stub(_tool, _parameters)
_said, _report = _io.StringIO(), {}
with _c.redirect_stdout(_said):
    try:
        exec(compile(@PROGRAM@, "<program>", "exec"), _names)
    except _Needed:
        _report["waits"] = True
    except BaseException as _error:
        import traceback as _t
        _frames = _t.extract_tb(_error.__traceback__)
        _lines = [0, *(frame.lineno for frame in _frames if frame.filename == "<program>")]
        _report.update(error=type(_error).__name__, line=_lines[-1])
_report["calls"] = _asked[len(_known):][:64]
_report["printed"] = _said.getvalue()[:@MOST@]
print("\n" + _j.dumps(_report))
'''


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A call of a program that has ended."""

    tool: str
    arguments_json: str  # as the program's run wrote it
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run of a program came to."""

    calls: tuple[tuple[str, str], ...]  # tools and arguments that were asked for and are not known
    waits: bool  # it ended because it needs one of them
    printed: str
    error: str = ""  # the kind of its exception, no word of its message: results may stand in it
    line: int = 0


def program_of(text: str, tools: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The program in a model's text, and the tools that it names. Raises PlanError."""
    if len(text) > MOST_CHARS:
        raise PlanError(f"the program has {len(text)} characters, at most {MOST_CHARS} are read")
    source = "\n".join(line for line in text.splitlines() if not _FENCE.match(line))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        where = "" if line is None else f"line {line}: "
        raise PlanError(f"{where}this is no Python: {getattr(error, 'msg', error)}") from None
    for node in ast.walk(tree):
        _check(node)
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return source, tuple(tool for tool in tools if tool in named)


def _check(node: ast.AST) -> None:
    """Raise PlanError where a program says what it may not."""
    match node:
        case ast.Import(names=names):
            wrong = next((n.name for n in names if n.name not in MODULES), None)
            what = f"import {wrong}" if wrong else ""
        case ast.ImportFrom(module=module):
            what = "" if module in MODULES else f"import {module}"
        case ast.Name(id=name):
            what = name if name in _REFUSED or name.startswith("__") else ""
        case ast.Attribute(attr=name):
            what = f".{name}" if name.startswith("_") else ""
        case ast.ExceptHandler(type=None):
            what = "except without a kind of exception"
        case _:
            what = ""
    if what:
        raise PlanError(
            f"line {getattr(node, 'lineno', 0)}: {what} is not allowed; modules that are: "
            f"{', '.join(sorted(MODULES))}"
        )


def framed(program: str, known: Sequence[Known], tools: Sequence[Tool]) -> str:
    """The program with stubs and results, as the sandbox is to run it."""
    results = [
        [each.tool, each.arguments_json, not each.failed, each.text[:MOST_RESULT]] for each in known
    ]
    stubs = [[tool.name, list(parameters(schema_of(tool))[0])] for tool in tools]
    filled = {
        "@KNOWN@": repr(json.dumps(results)),
        "@TOOLS@": repr(json.dumps(stubs)),
        "@PROGRAM@": repr(program),
        "@MOST@": str(MOST_PRINTED),
    }
    return re.sub("|".join(filled), lambda mark: filled[mark[0]], _FRAME)


def report_of(said: str) -> Report:
    """The report in what the sandbox printed. Raises PlanError where there is none."""
    try:
        found: Any = json.loads(said.strip().rsplit("\n", 1)[-1])
        calls = tuple((str(tool), str(text)) for tool, text in found["calls"])
        error = str(found.get("error", ""))
        return Report(
            calls=calls,
            waits=bool(found.get("waits", False)),
            printed=str(found["printed"]),
            error=error if not error or error in _KINDS else "Exception",
            line=int(found.get("line", 0)),
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        raise PlanError("the program printed what is no report") from None


_KINDS = frozenset(
    {name for name in dir(builtins) if isinstance(getattr(builtins, name), type)} | {"ToolError"}
)
