"""Sample logs of lm-evaluation-harness (`--log_samples`): samples_TASK_DATE.jsonl.

The harness's verdict is kept. A generated task's answer is what its filter extracted; a task of
multiple choice has no text: its answer is the letter of the likeliest choice. Token counts are not
in these logs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from suffice.core.errors import InputError
from suffice.evals.extract import canonical_number
from suffice.evals.imports import values
from suffice.evals.imports.found import Imported, ImportOptions
from suffice.evals.imports.judge import Judge
from suffice.evals.imports.rows import SourceRow, rows_of
from suffice.evals.imports.table import TOKENS_TOLD, chosen_checker
from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.trace_set import Question, Trace, messages_from_json, messages_json

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NEEDED = frozenset(("doc_id", "doc", "target", "arguments", "resps", "filtered_resps"))
_FILE = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T.*\.jsonl")
# Where a task has several metrics: the one that says right or wrong.
_METRICS = ("exact_match", "acc", "pass@1", "acc_norm", "em", "mc1", "prompt_level_strict_acc")


class _File(NamedTuple):
    path: Path
    task: str
    model: str


def is_log(row: Mapping[str, Any]) -> bool:
    """Whether a row of JSON is a sample that the harness logged."""
    return row.keys() >= _NEEDED


def log_files(folder: Path) -> list[Path]:
    """The sample logs in a folder and below it."""
    return sorted(path for path in folder.rglob("samples_*.jsonl") if path.is_file())


def import_lm_eval(paths: Sequence[Path], options: ImportOptions) -> Imported:
    """Traces of one or more sample logs."""
    files = [_File(path, _task(path), options.model or _model(path)) for path in paths]
    rows = [row for file in files for row in rows_of(file.path)]
    filters = _filters(files)
    chosen = {task: _filter(found, options.pick) for task, found in filters.items()}
    metrics = {file.task: _metric(file.path, options.pick) for file in files}
    generated = [row for row in rows if not _is_choice(row.values)]
    references = [_reference(row.values) for row in generated]
    checker, told = (None, []) if not generated else chosen_checker(options, references)
    notes = [
        f"lm-evaluation-harness: {', '.join(sorted({file.task for file in files}))} by "
        f"{', '.join(sorted({file.model for file in files}))}",
        "verdict: " + ", ".join(f"{metric} of {task}" for task, metric in metrics.items()),
    ]
    for task, found in filters.items():
        others = ", ".join(sorted(found - {chosen[task]}))
        if others:
            notes.append(f"filter of {task}: {chosen[task]} (also there: {others}; --pick)")
    if len(generated) < len(rows):
        notes.append("multiple choice: answers are the letters of the likeliest choices, no texts")
    notes += told
    notes.append(TOKENS_TOLD["absent"])
    return Imported(
        traces=_traces(files, chosen, metrics, checker, options),
        information=TraceInformation(
            source="lm-evaluation-harness: " + ", ".join(path.name for path in paths),
            token_counts="absent",
        ),
        notes=tuple(notes),
    )


def _task(path: Path) -> str:
    match = _FILE.fullmatch(path.name)
    return match["task"] if match else path.name.split(".")[0]


def _model(path: Path) -> str:
    """The model of a log: in the results beside it, else the folder's name."""
    for results in sorted(path.parent.glob("results_*.json")):
        try:
            named = json.loads(results.read_text(encoding="utf-8")).get("model_name")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(named, str) and named:
            return named
    if path.parent.name:
        return path.parent.name.replace("__", "/", 1)
    raise InputError(f"{str(path)!r}: no results file beside it names the model: say --model NAME")


def _filters(files: Sequence[_File]) -> dict[str, set[str]]:
    """Names of the filters by which each task's outputs were read."""
    found: dict[str, set[str]] = {}
    for file in files:
        names = {str(row.values.get("filter", "none")) for row in rows_of(file.path)}
        found.setdefault(file.task, set()).update(names)
    return found


def _filter(found: set[str], pick: str | None) -> str:
    if pick in found:
        return str(pick)
    flexible = [name for name in sorted(found) if "flexible" in name]
    return (flexible or sorted(found) or ["none"])[0]


def _metric(path: Path, pick: str | None) -> str:
    row = next(iter(rows_of(path)), None)
    if row is None:
        raise InputError(f"{str(path)!r} holds no samples")
    named = row.values.get("metrics")
    known = [str(each) for each in named] if isinstance(named, list) else []
    if not known:  # older releases do not list them
        known = [name for name in row.values if name in _METRICS]
    if pick in known:
        return str(pick)
    best = [name for name in _METRICS if name in known] or known
    if not best:
        raise InputError(f"{str(path)!r}: no metric says right or wrong: name one with --pick")
    return best[0]


def _is_choice(row: Mapping[str, Any]) -> bool:
    """Whether the answers were scored by their likelihood: pairs of a number and a flag."""
    first = row["resps"][0][0] if row["resps"] and row["resps"][0] else None
    return isinstance(first, list) and len(first) == 2


def _reference(row: Mapping[str, Any]) -> str:
    """The right answer; of a worked solution (GSM8K) what stands behind ####."""
    target = row["target"]
    if isinstance(target, list):
        target = target[0] if target else ""
    return (values.text(target) or "").rpartition("####")[2].strip()


def _prompt(row: Mapping[str, Any]) -> str:
    """The prompt as messages; a chat template's are in it as JSON."""
    arguments = row["arguments"]
    first = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
    prompt = first["arg_0"] if isinstance(first, dict) else first[0]
    if isinstance(prompt, list | tuple):
        prompt = prompt[0] if len(prompt) == 1 else json.dumps(prompt)
    text = str(prompt)
    if text.lstrip().startswith("["):
        try:
            messages_from_json(text)
        except InputError:
            return messages_json(text)
        return text
    return messages_json(text)


def _traces(
    files: Sequence[_File],
    chosen: Mapping[str, str],
    metrics: Mapping[str, str],
    checker: str | None,
    options: ImportOptions,
) -> Iterator[Trace]:
    judge = Judge(checker, options.right_from)
    for file in files:
        for row in rows_of(file.path):
            if not is_log(row.values):
                raise InputError(f"{row.where}: this is no sample of lm-evaluation-harness")
            if str(row.values.get("filter", "none")) == chosen[file.task]:
                yield from _samples(row, file, metrics[file.task], judge, options)


def _samples(
    row: SourceRow, file: _File, metric: str, judge: Judge, options: ImportOptions
) -> Iterator[Trace]:
    said = row.values
    given = said.get(metric)
    verdict = None if given is None else values.verdict(given, row.where, metric)
    common = {
        "dataset": options.dataset or file.task,
        "name": str(said["doc_id"]),
        "messages_json": _prompt(said),
    }
    if _is_choice(said):
        question = Question(
            **common, reference=_letter(said["target"], said), answer_format="choice"
        )
        judged = Judge(None, options.right_from).judge(
            question, text="", answer=_likeliest(said), given=verdict, where=row.where
        )
        yield Trace(
            question=question,
            model=file.model,
            sample=0,
            answer=judged.answer,
            correct=judged.correct,
            score=judged.score,
        )
        return
    question = Question(**common, reference=_reference(said), answer_format=judge.checker)
    texts = [str(each) for each in said["resps"][0]]
    extracted = _flat(said["filtered_resps"])
    for sample, text in enumerate(texts):
        # The metric is of the filtered answers; of several samples, one verdict is nobody's own.
        own = verdict if len(texts) == 1 else None
        judged = judge.judge(question, text=text, answer=None, given=own, where=row.where)
        answer = judged.answer
        if len(extracted) == len(texts):
            answer = canonical_number(extracted[sample]) or extracted[sample] or answer
        yield Trace(
            question=question,
            model=file.model,
            sample=sample,
            text=text,
            answer=None if answer == "[invalid]" else answer,
            correct=judged.correct,
            score=judged.score,
        )


def _flat(found: Any) -> list[str]:
    listed = found if isinstance(found, list) else [found]
    return [str(each[0]) if isinstance(each, list) and each else str(each) for each in listed]


def _likeliest(row: Mapping[str, Any]) -> str | None:
    likelihoods = [float(each[0][0]) for each in row["resps"]]
    best = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    return LETTERS[best] if best < len(LETTERS) else None


def _letter(target: Any, row: Mapping[str, Any]) -> str | None:
    """The letter of the right choice: the target is its number, or its text."""
    text = values.text(target) or ""
    if text.isdigit() and int(text) < len(row["resps"]):
        return LETTERS[int(text)]
    arguments = row["arguments"]
    listed = list(arguments.values()) if isinstance(arguments, dict) else list(arguments)
    said = [str(each["arg_1"] if isinstance(each, dict) else each[1]).strip() for each in listed]
    return LETTERS[said.index(text.strip())] if text.strip() in said else None
