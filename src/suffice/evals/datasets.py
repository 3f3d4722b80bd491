"""Questions with their checks, from files and generators.

FILE.jsonl, .csv, .parquet    your own, one question a row (suffice.evals.questions)
gsm8k:PATH                    question, answer ending in "#### value"
math500:PATH                  problem, answer, subject, level (extra `math` to compare by value)
choices:PATH                  query or question, choices, gold or answer (index, letter or text)
bfcl:PATH                     function-calling questions; answers in possible_answer/ beside it
reasoning-gym:TASK,size=100,seed=0,…   generated (package reasoning-gym)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.core.errors import InputError, MissingExtra, UnknownName
from suffice.evals.extract import extractor
from suffice.evals.grading import Check, check_of, scored
from suffice.evals.questions import placed, read_questions
from suffice.evals.traces.trace_set import Question, messages_from_json, messages_json

LETTERS = "ABCDEFGHIJ"
STEP_BY_STEP = "Think step by step, then give the final answer as \\boxed{answer}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question and how its answers are checked."""

    question: Question
    check: Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Questions with their checks, and what was guessed about them, in lines."""

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def load_dataset(spec: str, *, limit: int | None = None, checker: str | None = None) -> list[Item]:
    """Items of a dataset, the first `limit` of them; raises InputError or MissingExtra."""
    return list(open_dataset(spec, limit=limit, checker=checker).items)


def open_dataset(spec: str, *, limit: int | None = None, checker: str | None = None) -> Dataset:
    """A dataset with what was guessed. `checker` is for questions of a file that name none."""
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in LOADERS:
        if colon and not Path(spec).exists() and "/" not in kind and "." not in kind:
            known = f"(known: a file of questions, {', '.join(f'{name}:…' for name in LOADERS)})"
            raise UnknownName.of("dataset", kind, LOADERS, known)
        return _own(spec, limit, checker)
    if checker is not None:
        raise InputError(f"{kind}: has a checker of its own: leave --checker {checker} out")
    return Dataset(items=_first(LOADERS[kind](rest), spec, limit))


def _own(spec: str, limit: int | None, checker: str | None) -> Dataset:
    read = read_questions(Path(spec), checker=checker)
    items = (_item(question, where) for question, where in placed(read))
    return Dataset(items=_first(items, spec, limit), notes=read.notes)


def _first(found: Iterator[Item], spec: str, limit: int | None) -> tuple[Item, ...]:
    items: list[Item] = []
    seen: set[tuple[str, str]] = set()
    for item in found:
        if limit is not None and len(items) >= limit:
            break
        if item.question.key in seen:
            raise InputError(f"dataset {spec!r} has two questions named {item.question.name!r}")
        seen.add(item.question.key)
        items.append(item)
    if not items:
        raise InputError(f"dataset {spec!r} has no questions")
    return tuple(items)


def _gsm8k(path: str) -> Iterator[Item]:
    for number, row in _lines(path):
        question, answer = _texts(row, ("question", "answer"), path, number)
        _, found, gold = answer.rpartition("####")
        if not found:
            raise InputError(f"{path!r}, line {number}: the answer has no '#### value'")
        yield _item(
            Question(
                dataset="gsm8k",
                name=str(number - 1),
                messages_json=messages_json(f"{question}\n{STEP_BY_STEP}"),
                reference=gold.strip(),
                answer_format="number",
            ),
            path,
        )


def _math500(path: str) -> Iterator[Item]:
    for number, row in _lines(path):
        problem, answer = _texts(row, ("problem", "answer"), path, number)
        yield _item(
            Question(
                dataset="math500",
                name=str(row.get("unique_id") or number - 1),
                messages_json=messages_json(f"{problem}\n{STEP_BY_STEP}"),
                reference=answer,
                answer_format="math",
                category=f"level {row['level']}" if "level" in row else None,
            ),
            path,
        )


def _choices(path: str) -> Iterator[Item]:
    for number, row in _lines(path):
        asked = row.get("query", row.get("question"))
        options = row.get("choices")
        if not isinstance(asked, str) or not isinstance(options, list):
            raise InputError(f"{path!r}, line {number}: query and a list of choices are needed")
        if not 2 <= len(options) <= len(LETTERS):
            raise InputError(
                f"{path!r}, line {number}: 2 to {len(LETTERS)} choices can be lettered"
            )
        gold = _gold(row.get("gold", row.get("answer")), options, f"{path!r}, line {number}")
        lettered = list(LETTERS[: len(options)])
        text = asked
        if [str(option) for option in options] != lettered:  # else the question lists them itself
            listed = "\n".join(f"{a}. {b}" for a, b in zip(lettered, options, strict=True))
            text = f"{asked}\n{listed}\nAnswer with the letter of the right choice."
        yield _item(
            Question(
                dataset=Path(path).stem,
                name=str(row.get("id", number - 1)),
                messages_json=messages_json(text),
                reference=LETTERS[gold],
                answer_format="choice",
                category=row.get("category", row.get("subject")),
            ),
            path,
        )


def _gold(value: Any, options: list[Any], where: str) -> int:
    if isinstance(value, int) and 0 <= value < len(options):
        return value
    if value in options:
        return options.index(value)
    if isinstance(value, str) and value in LETTERS[: len(options)] and len(value) == 1:
        return LETTERS.index(value)
    raise InputError(f"{where}: gold {value!r} is none of {len(options)} choices")


def _bfcl(path: str) -> Iterator[Item]:
    source = Path(path)
    answers_file = source.parent / "possible_answer" / source.name
    answers = {}
    for number, row in _lines(str(answers_file)):
        if "id" not in row or "ground_truth" not in row:
            raise InputError(
                f"{str(answers_file)!r}, line {number}: id and ground_truth are needed"
            )
        answers[row["id"]] = row["ground_truth"]
    for number, row in _lines(path):
        if not {"id", "question", "function"} <= row.keys():
            raise InputError(f"{path!r}, line {number}: id, question and function are needed")
        if row["id"] not in answers:
            raise InputError(f"{str(answers_file)!r} has no answer for {row['id']!r}")
        turns = row["question"][0] if row["question"] else None
        functions = row["function"] if isinstance(row["function"], list) else [row["function"]]
        tools = [{"type": "function", "function": _json_schema(each)} for each in functions]
        yield _item(
            Question(
                dataset=source.stem,
                name=str(row["id"]),
                messages_json=json.dumps(turns, ensure_ascii=False),
                reference=json.dumps(answers[row["id"]], ensure_ascii=False),
                answer_format="tool",
                tools_json=json.dumps(tools, ensure_ascii=False),
            ),
            f"{path!r}, line {number}",
        )


# The leaderboard writes Python's names of types where JSON Schema has others.
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def _json_schema(value: Any) -> Any:
    if isinstance(value, dict):
        found = {key: _json_schema(each) for key, each in value.items()}
        if isinstance(found.get("type"), str):
            found["type"] = _TYPES.get(found["type"], found["type"])
        return found
    return [_json_schema(each) for each in value] if isinstance(value, list) else value


def _reasoning_gym(spec: str) -> Iterator[Item]:
    try:
        import reasoning_gym  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("reasoning-gym", "tasks", "a generated dataset") from None
    task, options = _options(spec)
    options = {"size": 100, "seed": 0} | options
    known = sorted(reasoning_gym.factory.DATASETS)
    if task not in known:
        raise UnknownName.of("reasoning-gym task", task, known, "(see its own list)")
    try:
        data = reasoning_gym.create_dataset(task, **options)
        entries = list(data)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"reasoning-gym refuses {spec!r}: {error}") from None
    for number, entry in enumerate(entries):

        def score(answer: str | None, entry: Any = entry) -> float:
            return float(data.score_answer(answer, entry))

        reference = None if entry["answer"] is None else str(entry["answer"])
        check = scored(score, _format_of(reference))
        if reference is None or not _gold_passes(score, reference):
            raise InputError(
                f"reasoning-gym's {task} does not accept its own answer {reference!r}: its samples "
                "cannot be told right from wrong; use another task"
            )
        yield Item(
            question=Question(
                dataset=f"reasoning-gym {spec}",
                name=str(number),
                messages_json=messages_json(entry["question"]),
                reference=reference,
                answer_format=_format_of(reference),
                category=task,
            ),
            check=check,
        )


def _gold_passes(score: Callable[[str | None], float], reference: str) -> bool:
    try:
        return score(reference) >= 1.0
    except Exception:  # noqa: BLE001 - third-party scorers raise anything
        return False  # the caller refuses the task and says why


def _format_of(reference: str | None) -> str | None:
    """Numbers are looked for in the text; anything else is the whole text."""
    if reference is None:
        return None
    try:
        float(reference)
    except ValueError:
        return None
    return "number"


def _options(spec: str) -> tuple[str, dict[str, Any]]:
    task, *pairs = spec.split(",")
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"dataset option {pair!r} is not NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return task, options


def _item(question: Question, where: str) -> Item:
    try:
        messages_from_json(question.messages_json)
        extractor(question.answer_format)
        check = check_of(question.answer_format, question.reference, asked=question.prompt)
    except InputError as error:
        raise type(error)(f"{where}: {error}") from None
    return Item(question=question, check=check)


def _texts(row: dict[str, Any], names: tuple[str, ...], path: str, number: int) -> tuple[str, ...]:
    for name in names:
        if not isinstance(row.get(name), str):
            raise InputError(f"{path!r}, line {number}: {name} is needed, as text")
    return tuple(row[name] for name in names)


def _lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered JSON objects of a JSONL file, blank lines left out."""
    try:
        with Path(path).open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(
                        f"{path!r}, line {number}: not JSON ({error.msg} at column {error.colno})"
                    ) from None
                if not isinstance(value, dict):
                    raise InputError(f"{path!r}, line {number}: a JSON object is needed")
                yield number, value
    except UnicodeDecodeError:
        raise InputError(f"dataset {path!r} is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"dataset {path!r} cannot be read: {error.strerror}") from None


LOADERS: dict[str, Callable[[str], Iterator[Item]]] = {
    "gsm8k": _gsm8k,
    "math500": _math500,
    "choices": _choices,
    "bfcl": _bfcl,
    "reasoning-gym": _reasoning_gym,
}
