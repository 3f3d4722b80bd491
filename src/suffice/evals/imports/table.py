"""Tables of samples, one row each, and matrices of verdicts, one row a question."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from suffice.core.completions import FinishReason
from suffice.core.errors import InputError
from suffice.evals.checker_guess import guess_checker
from suffice.evals.imports import values
from suffice.evals.imports.columns import guess_columns, told
from suffice.evals.imports.found import Imported, ImportOptions
from suffice.evals.imports.judge import Judge
from suffice.evals.imports.rows import SourceRow, rows_of
from suffice.evals.traces.columns import TokenCounts, TraceInformation
from suffice.evals.traces.trace_set import (
    ANSWER_MODE,
    Question,
    Trace,
    messages_from_json,
    messages_json,
)

NO_PROMPT = (
    "no column holds the prompts: the questions' names stand in for them, and rules that read "
    "prompts have nothing to read"
)
_SUFFIXES = ("|model_response", "_response", "|response")


def import_tables(paths: Sequence[Path], options: ImportOptions) -> Imported:
    """Traces of tables: one row a sample, or one row a question with a verdict per model."""
    names = _names(paths)
    found = guess_columns(names, options.columns, repr(str(paths[0])))
    models = [] if "model" in found or options.model else _models(paths, names, found)
    if models:
        return _matrix(paths, names, found, models, options)
    if "model" not in found and options.model is None:
        raise InputError(
            f"{str(paths[0])!r} names no model: say --columns model=COLUMN, or --model NAME for "
            f"the whole file (its columns: {', '.join(names)})"
        )
    if not {"correct", "score", "text", "answer"} & found.keys():
        raise InputError(
            f"{str(paths[0])!r} has neither answers nor verdicts: say --columns text=COLUMN, "
            f"answer=COLUMN or correct=COLUMN (its columns: {', '.join(names)})"
        )
    return _samples(paths, names, found, options)


def _names(paths: Sequence[Path]) -> list[str]:
    """Column names of the first rows, in order of appearance."""
    names: dict[str, None] = {}
    for path in paths:
        for number, row in enumerate(rows_of(path)):
            names.update(dict.fromkeys(row.values))
            if number >= 200:
                break
    if not names:
        raise InputError(f"{str(paths[0])!r} holds no rows")
    return list(names)


def _samples(
    paths: Sequence[Path], names: list[str], found: Mapping[str, str], options: ImportOptions
) -> Imported:
    references: dict[str, None] = {}
    rows = with_tokens = 0
    for row in _rows(paths):
        rows += 1
        reference = values.text(row.values.get(found.get("reference", "")))
        if reference:
            references[reference] = None
        with_tokens += row.values.get(found.get("completion_tokens", "")) not in (None, "")
    notes = told(found, names)
    checker, said = chosen_checker(options, list(references))
    notes += said
    if "prompt" not in found:
        notes.append(NO_PROMPT)
    judge = Judge(checker, options.right_from)
    counts = token_counts(with_tokens, rows)
    notes.append(TOKENS_TOLD[counts])
    return Imported(
        traces=_sample_traces(paths, found, options, judge),
        information=TraceInformation(
            source=", ".join(path.name for path in paths),
            token_counts=counts,
            notes=NO_PROMPT if "prompt" not in found else "",
        ),
        notes=tuple(notes),
    )


def _rows(paths: Sequence[Path]) -> Iterator[SourceRow]:
    for path in paths:
        yield from rows_of(path)


TOKENS_TOLD: dict[TokenCounts, str] = {
    "engine": "token counts: those of the engine",
    "unknown": "token counts: as the file gives them; who counted is not known",
    "absent": "token counts: none; costs can be counted in samples only",
    "estimated": "token counts: estimated",
}


def token_counts(with_tokens: int, rows: int) -> TokenCounts:
    """What an imported file's token counts are: nobody says who counted."""
    return "unknown" if with_tokens else "absent"


def chosen_checker(options: ImportOptions, references: list[str]) -> tuple[str | None, list[str]]:
    """The checker and the lines that say why."""
    if options.checker is not None:
        return options.checker, [f"checker: {options.checker}, as told"]
    guess = guess_checker(references)
    if guess is None:
        return None, [
            "checker: none, there are no reference answers; answers are taken as they stand "
            "(--checker number, choice … finds them in the texts)"
        ]
    return guess.checker, [f"checker: {guess.checker} ({guess.why})"]


class _Asked:
    """Questions by their name; prompts without a name are numbered as they first appear."""

    def __init__(self, found: Mapping[str, str], dataset: str, checker: str | None) -> None:
        self._found, self._dataset, self._checker = found, dataset, checker
        self._numbers: dict[str, str] = {}
        self._known: dict[tuple[str, str], Question] = {}

    def question(self, row: SourceRow) -> Question:
        """The question of a row; one object however many rows it has."""
        cell = {name: row.values.get(column) for name, column in self._found.items()}
        messages = _messages(cell.get("prompt"), row.where)
        name = values.text(cell.get("question"))
        if name is None:
            if messages is None:
                raise InputError(
                    f"{row.where}: neither the question's name nor its prompt is there"
                )
            name = self._numbers.setdefault(messages, str(len(self._numbers) + 1))
        dataset = values.text(cell.get("dataset")) or self._dataset
        known = self._known.get((dataset, name))
        made = Question(
            dataset=dataset,
            name=name,
            messages_json=messages or messages_json(name),
            reference=values.text(cell.get("reference")),
            answer_format=self._checker,
            category=values.text(cell.get("category")),
        )
        if known is None:
            self._known[dataset, name] = known = made
        elif known != made:
            raise InputError(
                f"{row.where}: question {name!r} was there before with another prompt, reference "
                "or category: two questions need two names"
            )
        return known


def _messages(value: Any, where: str) -> str | None:
    """A prompt as messages: it is a text, or a list of OpenAI messages (as JSON, too)."""
    if value is None or value == "":
        return None
    listed = value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            listed = None
    if (
        isinstance(listed, list)
        and listed
        and all(isinstance(turn, dict) and "role" in turn for turn in listed)
    ):
        text = json.dumps(listed, ensure_ascii=False)
        try:
            messages_from_json(text)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        return text
    return messages_json(values.text(value) or "")


def _sample_traces(
    paths: Sequence[Path], found: Mapping[str, str], options: ImportOptions, judge: Judge
) -> Iterator[Trace]:
    asked = _Asked(found, options.dataset or paths[0].name.split(".")[0], judge.checker)
    numbers: Counter[tuple[str, str, str, str]] = Counter()
    finish = get_args(FinishReason)
    for row in _rows(paths):
        question = asked.question(row)
        cell = {name: row.values.get(column) for name, column in found.items()}
        model = values.text(cell.get("model")) or options.model
        if not model:
            raise InputError(f"{row.where}: the model is not there (column {found['model']})")
        mode = values.text(cell.get("mode")) or ANSWER_MODE
        key = (*question.key, model, mode)
        sample, numbers[key] = numbers[key], numbers[key] + 1
        text = values.text(cell.get("text")) or ""
        given = cell.get("correct") if "correct" in found else cell.get("score")
        if isinstance(given, str) and not given.strip():
            given = None
        judged = judge.judge(
            question,
            text=text,
            answer=values.text(cell.get("answer")),
            given=None if given is None else values.verdict(given, row.where, "verdict"),
            where=row.where,
        )
        reason = values.text(cell.get("finish_reason"))
        yield Trace(
            question=question,
            model=model,
            mode=mode,
            sample=sample,
            text=text,
            reasoning_text=values.text(cell.get("reasoning_text")),
            finish_reason=cast(FinishReason, reason) if reason in finish else "stop",
            prompt_tokens=_count(cell, "prompt_tokens", row),
            completion_tokens=_count(cell, "completion_tokens", row),
            reasoning_tokens=_count(cell, "reasoning_tokens", row),
            answer=judged.answer,
            correct=judged.correct,
            score=_score(cell, found, judged.score, row),
            ttft_s=values.measure(cell.get("ttft_s"), row.where, "ttft_s"),
            e2e_s=values.measure(cell.get("e2e_s"), row.where, "e2e_s"),
        )


def _count(cell: Mapping[str, Any], name: str, row: SourceRow) -> int | None:
    return values.count(cell.get(name), row.where, name)


def _score(
    cell: Mapping[str, Any], found: Mapping[str, str], judged: float | None, row: SourceRow
) -> float | None:
    if "correct" in found and "score" in found:
        return values.measure(cell.get("score"), row.where, "score")
    return judged


# --- question × model ---------------------------------------------------------------------------


def _models(paths: Sequence[Path], names: list[str], found: Mapping[str, str]) -> list[str]:
    """Columns that are models: every cell of theirs is a verdict. At least two, else none."""
    asked = {"dataset", "question", "prompt", "reference", "category"}
    fixed = {column for name, column in found.items() if name in asked}
    open_ = [
        name
        for name in names
        if name not in fixed
        and not any(name.endswith(end) for end in _SUFFIXES)
        and "|" not in name
    ]
    seen: Counter[str] = Counter()
    for row in _rows(paths):
        for name in list(open_):
            value = row.values.get(name)
            if value is None:
                continue
            try:
                judged = values.verdict(value, row.where, name)
            except InputError:
                open_.remove(name)
                continue
            seen[name] += judged is not None
        if len(open_) < 2:
            return []
    found_models = [name for name in open_ if seen[name]]
    known = {column for name, column in found.items() if name not in asked}
    return found_models if len(found_models) >= 2 and not known >= set(found_models) else []


def _matrix(
    paths: Sequence[Path],
    names: list[str],
    found: Mapping[str, str],
    models: list[str],
    options: ImportOptions,
) -> Imported:
    asked = ("dataset", "question", "prompt", "reference", "category")
    fixed = {name: column for name, column in found.items() if name in asked}
    texts = {
        model: column
        for model in models
        for end in _SUFFIXES
        if (column := f"{model}{end}") in names
    }
    notes = told(fixed, [name for name in names if name not in (*models, *texts.values())])
    notes.append(f"verdicts of {len(models)} models, one column each: {', '.join(models)}")
    references = [
        reference
        for row in _rows(paths)
        if (reference := values.text(row.values.get(fixed.get("reference", ""))))
    ]
    checker: str | None = None
    if texts:
        checker, said = chosen_checker(options, references)
        notes += said
    else:
        notes.append("no texts: rules that compare answers (votes) cannot use these samples")
    if "prompt" not in fixed:
        notes.append(NO_PROMPT)
    notes.append(TOKENS_TOLD["absent"])
    return Imported(
        traces=_matrix_traces(paths, fixed, models, texts, options, checker),
        information=TraceInformation(
            source=", ".join(path.name for path in paths),
            token_counts="absent",
            notes=NO_PROMPT if "prompt" not in fixed else "",
        ),
        notes=tuple(notes),
    )


def _matrix_traces(  # noqa: PLR0917 - one call, all of it in hand
    paths: Sequence[Path],
    fixed: Mapping[str, str],
    models: list[str],
    texts: Mapping[str, str],
    options: ImportOptions,
    checker: str | None,
) -> Iterator[Trace]:
    asked = _Asked(fixed, options.dataset or paths[0].name.split(".")[0], checker)
    judge = Judge(checker, options.right_from)
    numbers: Counter[tuple[str, str]] = Counter()
    for row in _rows(paths):
        question = asked.question(row)
        sample, numbers[question.key] = numbers[question.key], numbers[question.key] + 1
        for model in models:
            given = row.values.get(model)
            verdict = None if given is None else values.verdict(given, row.where, model)
            text = values.text(row.values.get(texts.get(model, ""))) or ""
            if verdict is None and not text:
                continue  # this model was not asked
            judged = judge.judge(question, text=text, answer=None, given=verdict, where=row.where)
            yield Trace(
                question=question,
                model=model,
                sample=sample,
                text=text,
                answer=judged.answer,
                correct=judged.correct,
                score=judged.score,
            )
