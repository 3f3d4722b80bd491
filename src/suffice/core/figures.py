"""A figure out of a result: a path into parsed JSON, or a pattern over printed text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from suffice.core.errors import InputError

# A key or a place, or the fields by which exactly one row of a list is known.
Step = str | int | dict[str, str | int | float | bool]


def figure_at(document: Any, path: Sequence[Step]) -> Any:
    """What stands at `path`: keys of objects, places of lists, rows known by their fields.

    `["sets", {"set": "live"}, "saved", 0]` is the first saving of the one row of `sets` whose
    `set` is "live". Raises InputError that names the step which leads nowhere.
    """
    found = document
    for number, step in enumerate(path):
        try:
            found = _row(found, step) if isinstance(step, dict) else found[step]
        except (KeyError, IndexError, TypeError):
            walked = " ".join(str(each) for each in path[: number + 1])
            raise InputError(f"the result has nothing at {walked}") from None
    return found


def _row(rows: Any, wanted: Mapping[str, object]) -> Any:
    if not isinstance(rows, list):
        raise TypeError
    (row,) = _exactly_one(
        [row for row in rows if all(row.get(key, None) == value for key, value in wanted.items())]
    )
    return row


def _exactly_one(rows: list[Any]) -> list[Any]:
    if len(rows) != 1:
        raise KeyError(len(rows))
    return rows


def steps(path: str) -> list[Step]:
    """`parts.0.ways.3` as steps: digits are places of lists."""
    return [int(part) if part.isdigit() else part for part in path.split(".")]


def printed_figure(text: str, pattern: str) -> float:
    """The number in the one group of a regular expression; commas and a long minus are read."""
    match = re.search(pattern, text)
    if match is None:
        raise InputError(f"{pattern!r} is not in what was printed")
    return float(match[1].replace("−", "-").replace(",", ""))
