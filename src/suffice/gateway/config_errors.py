"""Mistakes in a configuration file: where they are, what is allowed, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from suffice.core.errors import ConfigError
from suffice.core.settings import settings_of

Place = tuple[str | int, ...]
_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"^\s*({_DOTTED})\s*=\s*(.*)$")
# Where a key of another name belongs: secrets are read from the environment, never from a file, and
# some keys of earlier versions have moved.
_ELSEWHERE = {
    "api_key": "a key does not belong into a file: name its environment variable in api_key_env",
    "password": "a password does not belong into a file: name the URL's variable in url_env",
    "usd_per_million_tokens": "is gone: prices are by model, in a table of their own: [prices], "
    '"MODEL" = "PROMPT/COMPLETION[/CACHED]" in USD per million tokens',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake; `line` counts from 1 and is None where it cannot be told."""

    where: str
    what: str
    line: int | None

    def shown(self, source: str) -> str:
        """`file:line: key: what is wrong`."""
        at = source if self.line is None else f"{source}:{self.line}"
        return f"{at}: {self.where}: {self.what}"


class InvalidConfig(ConfigError):
    """A configuration file with mistakes, all of which are in `problems`."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.shown(source) for problem in problems))
        self.source = source
        self.problems = tuple(problems)


class BadSetting(ConfigError):
    """A setting that nothing can be built of; `complaint` is what whoever tried said of it."""

    def __init__(self, where: str, complaint: Exception) -> None:
        super().__init__(f"gateway config: {where}: {complaint}")
        self.complaint = str(complaint)


def problems_of(error: ValidationError, table: type, text: str) -> list[Problem]:
    """What pydantic found in a file of the form `table`, in the file's own terms."""
    lines = lines_of(text)
    return [
        problem_at(tuple(found["loc"]), _said(found, table), lines)
        for found in error.errors(include_url=False)
    ]


def problem_at(place: Place, what: str, lines: Mapping[Place, int]) -> Problem:
    """A mistake in the key at `place`."""
    where = ".".join(map(str, place))
    return Problem(where=where, what=what, line=_line(place, lines))


def _said(found: Any, table: type) -> str:
    kind, given = found["type"], found.get("input")
    if kind == "unexpected_keyword_argument":
        key = str(found["loc"][-1])
        if key in _ELSEWHERE:
            return _ELSEWHERE[key]
        allowed = [each.name for each in fields(_table_at(table, found["loc"][:-1]))]
        close = get_close_matches(key, allowed, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"unknown key{hint} (allowed: {', '.join(sorted(allowed))})"
    if kind == "missing":
        return "is missing"
    if kind == "dataclass_type":
        return f"must be a table, got {_shown(given)}"
    if kind == "value_error":  # our own words; what was given may be a secret
        return str(found["msg"]).removeprefix("Value error, ")
    message = str(found["msg"])
    message = message[0].lower() + message[1:]
    return f"{message.removesuffix('.')}, got {_shown(given)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _table_at(table: type, place: Place) -> Any:
    """The class of the table at `place`."""
    for part in place:
        if isinstance(part, str):
            kinds = {each.name: each.kinds for each in settings_of(table)}[part]
            table = next(kind for kind in kinds if is_dataclass(kind))
    return table


def _line(path: Place, lines: Mapping[Place, int]) -> int | None:
    """Line of the key, else of what it is in."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def lines_of(text: str) -> dict[Place, int]:
    """Line (from 1) of every table and key of a TOML text that parses."""
    found: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    inside: str | None = None  # what ends the value that began on an earlier line
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if inside is not None:
            inside = None if inside in line else inside
            continue
        if depth > 0:
            depth += _brackets(line)
            continue
        header = _TABLE.match(line)
        if header is not None:
            path = _resolved(_parts(header[2]), counts)
            if header[1] == "[[":
                counts[path] = counts.get(path, -1) + 1
                path = (*path, counts[path])
            table = path
            found.setdefault(table, number)
            continue
        assignment = _ASSIGNMENT.match(line)
        if assignment is not None:
            path = (*table, *_parts(assignment[1]))
            for length in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:length], number)
            inside = _opened_string(assignment[2])
            depth = 0 if inside else _brackets(assignment[2])
    return found


def _resolved(parts: Place, counts: dict[Place, int]) -> Place:
    """`[a.b]` inside `[[a]]` belongs to the last a."""
    path: Place = ()
    for part in parts[:-1]:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return (*path, parts[-1])


def _parts(dotted: str) -> Place:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def _opened_string(value: str) -> str | None:
    for quote in ('"""', "'''"):
        if value.startswith(quote) and value.count(quote) == 1:
            return quote
    return None


def _brackets(line: str) -> int:
    bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*", "", line)
    return sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
