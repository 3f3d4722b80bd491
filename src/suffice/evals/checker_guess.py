"""Which checker compares a set's reference answers: a guess that is told and can be overruled."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from suffice.evals.answers.choices import choice_of
from suffice.evals.extract import canonical_number

_LETTERS = re.compile(r"[(\[]?[A-Za-z][)\].:]?|[A-J]{2,5}|[A-Ja-j](?:\s?[,;]\s?[A-Ja-j])+")
_MATHS = re.compile(r"\\[a-zA-Z]+|\^|√|π")


class Guess(NamedTuple):
    """A checker and the sentence that says why."""

    checker: str
    why: str


def guess_checker(references: Sequence[str]) -> Guess | None:
    """The checker for reference answers; None without any."""
    if not references:
        return None
    count = len(references)
    numbers = [canonical_number(each) is not None for each in references]
    letters = [
        _LETTERS.fullmatch(each.strip()) is not None and choice_of(each) is not None
        for each in references
    ]
    if all(letters):
        return Guess("choice", f"all {count} answers are choice letters")
    if all(numbers):
        return Guess("number", f"all {count} answers are numbers")
    if all(_is_json(each) for each in references):
        return Guess("json", f"all {count} answers are JSON objects or lists")
    why = f"the {count} answers are texts, which are compared whole, case and spaces aside"
    for form, fits in (("number", numbers), ("choice", letters)):
        if sum(fits) * 2 > count:
            odd = references[fits.index(False)]
            kind = "a number" if form == "number" else "a choice letter"
            why = (
                f"{sum(fits)} of {count} answers are {kind}, {odd[:40]!r} is not: mend those or "
                f"leave them out and use --checker {form}"
            )
    if sum(_MATHS.search(each) is not None for each in references) * 10 > count:
        why += "; many are formulas, which --checker math compares by value (extra math)"
    return Guess("text", why)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
