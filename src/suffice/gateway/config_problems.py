"""Mistakes in a configuration file: where they are, what is allowed, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from suffice.core.errors import ConfigError

Path = tuple[str | int, ...]
_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"^\s*({_DOTTED})\s*=\s*(.*)$")
# Where a key of another name belongs: secrets are read from the environment, never from a file.
_SECRETS = {
    "api_key": "a key does not belong into a file: name its environment variable in api_key_env",
    "password": "a password does not belong into a file: name the URL's variable in url_env",
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


class NotValid(ConfigError):
    """A configuration file with mistakes, all of which are in `problems`."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.shown(source) for problem in problems))
        self.source = source
        self.problems = tuple(problems)


def problems_of(error: ValidationError, model: type[BaseModel], text: str) -> list[Problem]:
    """What pydantic found, in the file's own terms."""
    lines = lines_of(text)
    return [
        Problem(
            where=".".join(map(str, found["loc"])),
            what=_said(found, model),
            line=_line(tuple(found["loc"]), lines),
        )
        for found in error.errors(include_url=False)
    ]


def _said(found: Any, model: type[BaseModel]) -> str:
    kind, given = found["type"], found.get("input")
    if kind == "extra_forbidden":
        key = str(found["loc"][-1])
        if key in _SECRETS:
            return _SECRETS[key]
        allowed = list(_model_at(model, found["loc"][:-1]).model_fields)
        close = get_close_matches(key, allowed, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"unknown key{hint} (allowed: {', '.join(sorted(allowed))})"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":  # our own words; what was given may be a secret
        return str(found["msg"]).removeprefix("Value error, ")
    message = str(found["msg"])
    message = message[0].lower() + message[1:]
    return f"{message.removesuffix('.')}, got {_shown(given)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """The table's model at `path`."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields[part]
        model = next(_models(field.annotation))
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _line(path: Path, lines: dict[Path, int]) -> int | None:
    """Line of the key, else of what it is in."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def lines_of(text: str) -> dict[Path, int]:
    """Line (from 1) of every table and key of a TOML text that parses."""
    found: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
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


def _resolved(parts: Path, counts: dict[Path, int]) -> Path:
    """`[a.b]` inside `[[a]]` belongs to the last a."""
    path: Path = ()
    for part in parts[:-1]:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return (*path, parts[-1])


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def _opened_string(value: str) -> str | None:
    for quote in ('"""', "'''"):
        if value.startswith(quote) and value.count(quote) == 1:
            return quote
    return None


def _brackets(line: str) -> int:
    bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*", "", line)
    return sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
