"""The comparable answer of a completion: two completions agree if their keys are equal.

An extractor gives None where it finds nothing, which casts no vote. Free-form text has no
extractor: it is never voted on.

    boxed          the last \\boxed{…}, as text
    number         the one number that the text answers with, by value: 1,000 = 1000.0 = 1e3,
                   3/4 = 0.75, 50% = 0.5; where the question speaks of percent, 50% = 50
    math           the last box, else the number, as text (suffice.evals.equivalence makes answers
                   of equal value one)
    program        what a short program of arithmetic in the text comes to (fenced, or with a line
                   `answer = …`), else the number
    choice         the choice letters that the text commits to: B, or several in order: AC
    json           the last JSON object or array, keys sorted, numbers by value
    tool           the tool calls, order and spelling of their JSON arguments aside
    regex:PATTERN  the last match's first group (the whole match without groups)

How numbers and choices are found: suffice.evals.answers.numbers, suffice.evals.answers.choices.

Whatever the format, a completion that calls tools is compared by its calls: its text is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from suffice.core.completions import Completion
from suffice.core.errors import InputError, UnknownName
from suffice.evals.answers.boxes import last_boxed
from suffice.evals.answers.choices import choice_answer
from suffice.evals.answers.numbers import (
    PERCENT_WORDS,
    NumberFound,
    number_answer,
    written_in_percent,
)
from suffice.evals.answers.numerals import canonical, whole
from suffice.evals.answers.programs import program_value
from suffice.evals.answers.units import MONEY, NONE

Extractor = Callable[[Completion], str | None]

# Of the rules below: raised whenever some text gets another answer than before. Certificates hold
# it, since what is right and which votes agree depends on it.
VERSION: Final = 2

_JSON_START = re.compile(r"\{\s*[\"}]|\[")
# Each failed attempt may read the rest of the text again: so many characters in all, then no more.
MOST_READ_AGAIN = 2_000_000
_FENCE = re.compile(r"```(?:json)?[ \t\r]*\n(.*?)```", re.DOTALL)


def extractor(answer_format: str | None, *, asked: str | None = None) -> Extractor | None:
    """The extractor that `answer_format` names; None for free-form text (None or "text").

    `asked` is the question: where it speaks of percent, the percent sign of a number is its unit.
    """
    if answer_format is None or answer_format == "text":
        return None
    if answer_format.startswith("regex:"):
        return or_by_calls(regex_extractor(answer_format.removeprefix("regex:")))
    if answer_format not in EXTRACTORS:
        known = [*EXTRACTORS, "regex:PATTERN", "text"]
        raise UnknownName.of("answer format", answer_format, known, f"(known: {', '.join(known)})")
    if answer_format == "number" and asked is not None and speaks_of_percent(asked):
        return or_by_calls(percent_number)
    found = EXTRACTORS[answer_format]
    return found if found is tool else or_by_calls(found)


def or_by_calls(read: Extractor) -> Extractor:
    """The extractor that compares a completion by its tool calls, if it makes any."""

    def by_calls(completion: Completion) -> str | None:
        return called(completion) if completion.tool_calls else read(completion)

    return by_calls


def called(completion: Completion) -> str | None:
    """The key of a completion's tool calls, which no text can have."""
    calls = tool(completion)
    return None if calls is None else f"calls {calls}"


def speaks_of_percent(question: str) -> bool:
    """Whether a question asks in percent, or may: 25% and 25 then are one answer to it."""
    low = question.lower()
    for word in PERCENT_WORDS:  # noqa: SIM110 - a generator takes longer than the search
        if word in low:
            return True
    return False


def boxed(completion: Completion) -> str | None:
    """Content of the last \\boxed{…} as text, outer spaces and dollar signs dropped."""
    return last_boxed(completion.text)


def number(completion: Completion) -> str | None:
    """The number that the text answers with, in one spelling per value."""
    return _spelled(number_answer(completion.text))


def percent_number(completion: Completion) -> str | None:
    """The same for a question that asks in percent: there 25% and 25 are one answer."""
    return _spelled(number_answer(completion.text).in_percent)


def _spelled(found: NumberFound) -> str | None:
    return None if found.value is None else canonical(found.value)


def math_answer(completion: Completion) -> str | None:
    """The last box, else the number that the text answers with."""
    return last_boxed(completion.text) or number(completion)


def program(completion: Completion) -> str | None:
    """What a program of arithmetic in the text comes to, else the number: words and programs agree.

    The program is read and not run (suffice.evals.answers.programs).
    """
    found = program_value(completion.text)
    return number(completion) if found is None else canonical(found)


def canonical_number(text: str, *, percent: bool = False) -> str | None:
    """The one spelling of a text that is one number and nothing else; None if it is not.

    A sign of money is no more than decoration; other units are not a number alone. `percent`: the
    question asks in percent, so that 25% is 25.
    """
    found = whole(text)
    if found is None or found.unit not in (NONE, *MONEY):
        return None
    signed = NumberFound(found.value, written_in_percent(text))
    return _spelled(signed.in_percent if percent else signed)


def choice(completion: Completion) -> str | None:
    """The choices that the text commits to: a letter, or several in order."""
    return choice_answer(completion.text)


def json_answer(completion: Completion) -> str | None:
    """The last JSON object or array of the text in canonical form."""
    fenced = _FENCE.findall(completion.text)
    for source in (*reversed(fenced), completion.text):
        found = _last_json(source)
        if found is not None:
            try:
                return canonical_json(found)
            except RecursionError:
                return None  # brackets hundreds deep are no answer
    return None


def _last_json(text: str) -> Any:
    """The last outermost object or array of a text, None if there is none."""
    decoder = json.JSONDecoder()
    found: Any = None
    position = read = 0
    while read < MOST_READ_AGAIN:
        start = _JSON_START.search(text, position)
        if start is None:
            break
        position = start.start() + 1
        try:
            found, position = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            # The error counts lines from the beginning, some 16 times faster than JSON is read.
            read += error.pos - start.start() + error.pos // 16
        except ValueError:  # an integer of thousands of digits
            read += len(text) - start.start()
        except RecursionError:
            return None  # each retry would cost as much
    return found


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys, no spaces, 1.0 written 1."""
    return json.dumps(_by_value(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _by_value(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_by_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _by_value(item) for key, item in value.items()}
    return value


def tool(completion: Completion) -> str | None:
    """The tool calls in canonical form; None without any, or with arguments that are not JSON."""
    calls = []
    for call in completion.tool_calls:
        try:
            arguments = json.loads(call.arguments or "{}")
            calls.append(canonical_json({"name": call.name, "arguments": arguments}))
        except (ValueError, RecursionError):
            return None
    return "\n".join(sorted(calls)) or None


def regex_extractor(pattern: str) -> Extractor:
    """Extractor of the last match of `pattern`: its first group, or the whole match."""
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"answer format regex:{pattern} is not a pattern: {error}") from None

    def by_regex(completion: Completion) -> str | None:
        found = None
        for match in compiled.finditer(completion.text):
            found = match
        if found is None:
            return None
        groups = [group for group in found.groups() if group is not None]
        return (groups[0] if groups else found[0]).strip() or None

    return by_regex


EXTRACTORS: dict[str, Extractor] = {
    "boxed": boxed,
    "number": number,
    "math": math_answer,
    "program": program,
    "choice": choice,
    "json": json_answer,
    "tool": tool,
}
