"""Whether a completion is right: the extracted answer against the reference.

A check gives the comparable answer, right or wrong (None: cannot be told), and a score in [0, 1]
where the task has partial credit.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError
from suffice.core.requests import ToolCall
from suffice.evals.answers.boxes import last_boxed, trimmed
from suffice.evals.answers.choices import choice_of
from suffice.evals.equivalence import MathVerifier, shared_verifier
from suffice.evals.extract import (
    canonical_number,
    extractor,
    json_answer,
    speaks_of_percent,
    tool,
)

logger = logging.getLogger("suffice.evals")


class Verdict(NamedTuple):
    """What a check found."""

    answer: str | None
    correct: bool | None
    score: float | None = None


Check = Callable[[Completion], Verdict]


def check_of(
    answer_format: str | None,
    reference: str | None,
    *,
    asked: str | None = None,
    verifier: MathVerifier | None = None,
) -> Check:
    """Check of `reference` for an answer format; free-form text is compared as it is.

    `asked` is the question, see `suffice.evals.extract.extractor`. `math` compares by value, and
    answers of equal value get one spelling (extra `math`). Raises InputError for a reference that
    the format cannot be compared with: one that is not one number, not one choice, not JSON.
    """
    if reference is None:
        return unchecked(answer_format, asked=asked)
    if answer_format == "math":
        return _MathCheck(last_boxed(reference) or reference, verifier or shared_verifier())
    if answer_format == "tool":
        return tool_check(_possible_calls(reference))
    extract = extractor(answer_format, asked=asked)
    if extract is None:
        plain = " ".join(reference.split()).casefold()
        return lambda said: _same(" ".join(said.text.split()).casefold(), plain)
    assert answer_format is not None
    due = due_answer(answer_format, reference, asked=asked)
    return lambda said: _same(extract(said), due)


def due_answer(answer_format: str, reference: str, *, asked: str | None = None) -> str:
    """A reference in the extractor's own spelling: "1,000" and "1000.0" are one number.

    Raises InputError where the whole reference is not an answer of the format.
    """
    shown = repr(reference if len(reference) <= 80 else reference[:77] + "…")
    inside = last_boxed(reference) or reference
    if answer_format in ("number", "program"):
        percent = asked is not None and speaks_of_percent(asked)
        found = canonical_number(inside, percent=percent)
        remedy = "write the number alone, or use checker math (values, units) or text"
        what = "one number"
    elif answer_format == "choice":
        found = choice_of(inside)
        what, remedy = "a choice letter, or several", "write B or AC, or use checker text"
    elif answer_format == "json":
        found = json_answer(_said(reference))
        what, remedy = "a JSON object or array", "or use checker text"
    elif answer_format.startswith("regex:"):
        matched = re.fullmatch(answer_format.removeprefix("regex:"), reference.strip())
        groups = [each for each in (matched.groups() if matched else ()) if each is not None]
        return (groups[0] if groups else reference).strip()
    else:
        return trimmed(inside)
    if found is None:
        raise InputError(
            f"answer {shown} is not {what}, which checker {answer_format} compares: {remedy}"
        )
    return found


def unchecked(answer_format: str | None, *, asked: str | None = None) -> Check:
    """Extracts the answer; right or wrong stays unknown."""
    extract = extractor(answer_format, asked=asked)
    return lambda said: Verdict(None if extract is None else extract(said), None)


def scored(
    score: Callable[[str | None], float], answer_format: str | None, *, least: float = 1.0
) -> Check:
    """Check by a task's own scorer of the extracted answer; right from a score of `least` on.

    A scorer that fails on an answer scores it 0: answers are written by models, and scorers of
    generated tasks parse them trustingly.
    """
    extract = extractor(answer_format)

    def check(said: Completion) -> Verdict:
        answer = said.text.strip() if extract is None else extract(said)
        if answer is None:
            return Verdict(None, correct=False, score=0.0)
        try:
            value = float(score(answer))
        except Exception as error:  # noqa: BLE001 - third-party scorers raise anything
            # Wrong, as the docstring says; that the scorer works is seen on the reference answer.
            logger.info("a scorer failed on an answer, which counts as wrong: %r", error)
            value = 0.0
        return Verdict(answer, value >= least, value)

    return check


class _MathCheck:
    def __init__(self, reference: str, verifier: MathVerifier) -> None:
        self._reference = reference
        self._verifier = verifier
        self._extract = extractor("math")
        self._known: list[str] = [reference]
        self._turn = threading.Lock()  # two new answers at once must find each other

    def __call__(self, said: Completion) -> Verdict:
        assert self._extract is not None
        found = self._extract(said)
        if found is None:
            return Verdict(None, correct=False)
        with self._turn:
            key = self._verifier.key(found, tuple(self._known))
            if key is not None and key not in self._known:
                self._known.append(key)
        return Verdict(key, key == self._reference)


# Allowed calls, each a function's name and the allowed values of its arguments. A value "" allows
# the argument to be left out, as in the Berkeley Function-Calling Leaderboard.
PossibleCalls = Sequence[Mapping[str, Mapping[str, Sequence[Any]]]]


def tool_check(possible: PossibleCalls) -> Check:
    """Check that the calls made are the possible ones, each once, in any order.

    Calls are read from the completion's tool calls, else from its text: JSON
    ({"name", "arguments"}, or {name: arguments}) or Python syntax (f(a=1)).
    """

    def check(said: Completion) -> Verdict:
        made = calls_of(said)
        if made is None:
            return Verdict(None, correct=False)
        calls = tuple(
            ToolCall(id="", name=name, arguments=json.dumps(arguments)) for name, arguments in made
        )
        answer = tool(Completion(text="", finish_reason="stop", usage=Usage(), tool_calls=calls))
        return Verdict(answer, _match_calls(made, list(possible)))

    return check


def calls_of(said: Completion) -> list[tuple[str, dict[str, Any]]] | None:
    """(name, arguments) of every call, None if there is none or one cannot be read."""
    if said.tool_calls:
        found = []
        for call in said.tool_calls:
            try:
                arguments = json.loads(call.arguments or "{}")
            except json.JSONDecodeError:
                return None
            if not isinstance(arguments, dict):
                return None
            found.append((call.name, arguments))
        return found
    text = said.text.strip().removeprefix("```json").removeprefix("```python").strip("`\n ")
    try:
        return _json_calls(json.loads(text))
    except json.JSONDecodeError:
        return _python_calls(text)


def _json_calls(value: Any) -> list[tuple[str, dict[str, Any]]] | None:
    found = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            return None
        if isinstance(each.get("name"), str):
            name, arguments = each["name"], each.get("arguments", each.get("parameters", {}))
        elif len(each) == 1:
            name, arguments = next(iter(each.items()))
        else:
            return None
        if not isinstance(arguments, dict):
            return None
        found.append((name, arguments))
    return found or None


def _python_calls(text: str) -> list[tuple[str, dict[str, Any]]] | None:
    """Calls in Python syntax with literal arguments by name; nothing is evaluated."""
    try:
        body = ast.parse(text, mode="eval").body
        nodes = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
        found = []
        for node in nodes:
            if not isinstance(node, ast.Call) or node.args:
                return None
            arguments = {each.arg: ast.literal_eval(each.value) for each in node.keywords}
            if None in arguments:
                return None
            found.append((ast.unparse(node.func), {str(k): v for k, v in arguments.items()}))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return found or None


def _match_calls(made: list[tuple[str, dict[str, Any]]], possible: list[Any]) -> bool:
    """Whether calls and possibilities pair off; few enough for a search without memory."""
    if len(made) != len(possible):
        return False
    if not made:
        return True
    name, arguments = made[0]
    return any(
        _fits(name, arguments, each) and _match_calls(made[1:], possible[:at] + possible[at + 1 :])
        for at, each in enumerate(possible)
    )


def _fits(name: str, arguments: dict[str, Any], possible: Mapping[str, Any]) -> bool:
    allowed = possible.get(name)
    if allowed is None or arguments.keys() - allowed.keys():
        return False
    for argument, values in allowed.items():
        if argument not in arguments:
            if "" not in values:
                return False
        elif not any(_equal(arguments[argument], value) for value in values):
            return False
    return True


def _equal(given: Any, due: Any) -> bool:
    """Equality of values: 5 = 5.0, strings but for case, spaces and punctuation of words."""
    if isinstance(given, bool) or isinstance(due, bool):
        return given is due
    if isinstance(given, int | float) and isinstance(due, int | float):
        return given == due
    if isinstance(given, str) and isinstance(due, str):
        return _letters(given) == _letters(due)
    if isinstance(given, list | tuple) and isinstance(due, list | tuple):
        return len(given) == len(due) and all(map(_equal, given, due))
    if isinstance(given, dict) and isinstance(due, dict):
        return _fits(
            "", given, {"": {k: v if isinstance(v, list) else [v] for k, v in due.items()}}
        )
    return bool(given == due)


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c not in " ,./-_*^'\"")


def _possible_calls(reference: str) -> PossibleCalls:
    try:
        value = json.loads(reference)
    except json.JSONDecodeError as error:
        raise InputError(f"a tool reference must be JSON: {error.msg}") from None
    calls = value if isinstance(value, list) else [value]
    if not all(
        isinstance(call, dict)
        and all(
            isinstance(allowed, dict) and all(isinstance(v, list) for v in allowed.values())
            for allowed in call.values()
        )
        for call in calls
    ):
        raise InputError(
            "a tool reference is a list of {function: {argument: [allowed values]}} objects"
        )
    return calls


def _same(answer: str | None, due: str) -> Verdict:
    return Verdict(answer or None, bool(answer) and answer == due)


def _said(text: str) -> Completion:
    return Completion(text=text, finish_reason="stop", usage=Usage())
