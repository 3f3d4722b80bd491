"""Your own questions: JSONL, JSON, CSV, TSV or Parquet, one question a row, usual field names.

A checker that no row names is guessed from the answers; the guess is told and can be overruled.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from suffice.core.errors import InputError
from suffice.evals.checker_guess import guess_checker
from suffice.evals.imports.rows import SourceRow, rows_of
from suffice.evals.traces.trace_set import Question, messages_json

# What a row may hold, and the names by which its fields are known.
FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "input", "query", "problem", "instruction"),
    "messages": ("messages", "conversation"),
    "answer": (
        "answer", "target", "reference", "gold", "ground_truth", "expected", "expected_answer",
        "correct_answer", "label", "solution",
    ),
    "checker": ("checker", "answer_format"),
    "id": ("id", "question_id", "qid", "problem_id", "item_id", "task_id", "index"),
    "system": ("system", "system_prompt"),
    "category": ("category", "subject", "level", "topic", "domain", "difficulty"),
    "tools": ("tools",),
}  # fmt: skip
_KNOWN = {alias: name for name, aliases in FIELDS.items() for alias in aliases}
_WORKED = "####"  # behind it the answer of a worked solution stands, as in GSM8K


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Questions as they were read, each with where it stands, and what was guessed."""

    questions: tuple[Question, ...]
    places: tuple[str, ...]
    notes: tuple[str, ...]


class _Told(NamedTuple):
    where: str
    fields: dict[str, Any]


def read_questions(path: Path, *, checker: str | None = None) -> Questions:
    """The questions of a file. `checker` is for rows that name none. Raises InputError by line."""
    rows = [_told(row) for row in rows_of(path)]
    answers = [_answer(row) for row in rows]
    notes = []
    if any(answers) and all(answer is None or _WORKED in answer for answer in answers):
        answers = [a if a is None else a.rpartition(_WORKED)[2].strip() for a in answers]
        notes.append(f"answers: what stands behind {_WORKED}")
    own = [_text(row, "checker") for row in rows]
    open_ = [a for a, named in zip(answers, own, strict=True) if a is not None and named is None]
    if checker is None and open_:
        guess = guess_checker(open_)
        if guess is not None:
            checker = guess.checker
            notes.append(f"checker: {guess.checker} ({guess.why})")
    elif checker is not None:
        notes.append(f"checker: {checker}, as told")
    if not any(answers):
        notes.append("no row has an answer: samples are recorded, right or wrong stays unknown")
    dataset = path.name.split(".")[0]
    return Questions(
        questions=tuple(
            _question(row, dataset, number, answer, named or checker)
            for number, (row, answer, named) in enumerate(zip(rows, answers, own, strict=True), 1)
        ),
        places=tuple(row.where for row in rows),
        notes=tuple(notes),
    )


def _told(row: SourceRow) -> _Told:
    """A row by our names of its fields; two fields of one meaning are refused."""
    found: dict[str, Any] = {}
    came_from: dict[str, str] = {}
    for given, value in row.values.items():
        name = _KNOWN.get(given.strip().lower())
        if name is None:
            raise InputError(_unknown(given, row.where))
        if name in found:
            raise InputError(
                f"{row.where}: {came_from[name]!r} and {given!r} both would be the {name}: rename "
                "or drop one"
            )
        found[name], came_from[name] = value, given
    if ("prompt" in found) == ("messages" in found):
        raise InputError(f"{row.where}: give either prompt or messages")
    if "messages" in found and "system" in found:
        raise InputError(
            f"{row.where}: system goes with prompt; with messages make it the first turn"
        )
    return _Told(row.where, found)


def _unknown(given: str, where: str) -> str:
    close = difflib.get_close_matches(given.lower(), _KNOWN, n=1)
    said = f"{where}: unknown field {given!r}"
    if close:
        said += f", did you mean {close[0]}?"
    if given.lower() in ("choices", "options"):
        said += "; for questions with a list of choices write --dataset choices:FILE"
    allowed = "; ".join("/".join(aliases) for aliases in FIELDS.values())
    return f"{said} (allowed: {allowed})"


def _answer(row: _Told) -> str | None:
    value = row.fields.get("answer")
    if isinstance(value, list):
        if len(value) != 1:
            raise InputError(f"{row.where}: answer: one right answer is needed, got {len(value)}")
        value = value[0]
    if value is None or value == "":
        return None
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _text(row: _Told, name: str) -> str | None:
    value = row.fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float):
        raise InputError(f"{row.where}: {name}: text is needed, got {str(value)[:40]!r}")
    return str(value)


def _question(
    row: _Told, dataset: str, number: int, answer: str | None, checker: str | None
) -> Question:
    name = _text(row, "id")
    return Question(
        dataset=dataset,
        name=str(number) if name is None else name,
        messages_json=_messages(row),
        reference=answer,
        answer_format=checker,
        category=_text(row, "category"),
        tools_json=_listed(row, "tools"),
    )


def _messages(row: _Told) -> str:
    listed = _listed(row, "messages")
    if listed is not None:
        return listed
    prompt = _text(row, "prompt")
    if prompt is None:
        raise InputError(f"{row.where}: the prompt is empty")
    return messages_json(prompt, system=_text(row, "system"))


def _listed(row: _Told, name: str) -> str | None:
    """A list of objects as JSON; a table without types holds it as JSON already."""
    value = row.fields.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InputError(f"{row.where}: {name}: a JSON list is needed") from None
    if value is None:
        return None
    if not isinstance(value, Sequence) or not all(isinstance(each, dict) for each in value):
        raise InputError(f"{row.where}: {name}: a list of objects is needed")
    return json.dumps(value, ensure_ascii=False)


def placed(found: Questions) -> Iterator[tuple[Question, str]]:
    """Each question with where it stands."""
    return iter(zip(found.questions, found.places, strict=True))
