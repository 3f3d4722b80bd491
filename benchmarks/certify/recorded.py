"""Recorded public outcomes as trace sets, for the benchmarks in this folder.

zeroeval_matrix (WildEval/ZeroEval @ 8c1485ed, Apache-2.0): greedy answers of 43 to 51 models.
routellm_gsm8k, routellm_mmlu (lm-sys/RouteLLM @ 0b64fdaf, Apache-2.0): verdicts on two models.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from suffice.evals.importers import importer
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, TraceSet, messages_json

CHARACTERS_PER_TOKEN = 4.0
ROUTED_WEAK, ROUTED_STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


def needed(folder: Path) -> Path:
    """The folder of a public set that does not ship; ends the program with one line if it lacks."""
    if not folder.is_dir():
        raise SystemExit(
            f"error: {folder} is not there: it is a public set that does not ship with suffice; "
            "docs/data.md says where it comes from, --data says where it lies"
        )
    return folder


def comparable(answer: str) -> str | None:
    """An answer as it is compared: lower case, no commas, no final dot, numbers by value."""
    text = answer.strip().lower().replace(",", "").rstrip(".")
    if not text:
        return None
    try:
        return repr(float(text))
    except ValueError:
        return text


def zeroeval(folder: Path, tasks: Iterable[str]) -> tuple[dict, dict]:
    """({(task, item): Question}, {(task, item): {model: row}}) of some tasks."""
    wanted = set(tasks)
    needed(folder)
    questions, rows = {}, defaultdict(dict)
    with gzip.open(folder / "questions.jsonl.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            if row["task"] in wanted:
                questions[row["task"], str(row["item"])] = Question(
                    dataset=row["task"],
                    name=str(row["item"]),
                    messages_json=messages_json(row["question"]),
                    reference=str(row["gold"]),
                    answer_format="recorded",
                )
    with gzip.open(folder / "greedy_outputs.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["task"] in wanted:
                rows[row["task"], row["item"]][row["model"]] = row
    return questions, rows


def _trace(question: Question, row: dict, model: str, sample: int) -> Trace:
    return Trace(
        question=question,
        model=model,
        sample=sample,
        answer=None if row["no_answer"] == "1" else comparable(row["answer"]),
        correct=row["correct"] == "1",
        prompt_tokens=None,
        completion_tokens=max(1, round(float(row["output_chars"]) / CHARACTERS_PER_TOKEN)),
    )


def as_models(questions: dict, rows: dict, models: Sequence[str]) -> TraceSet:
    """One greedy sample of each of `models` on every question that all have."""
    return trace_set(
        _trace(questions[key], found[model], model, 0)
        for key, found in rows.items()
        if all(model in found for model in models)
        for model in models
    )


def as_pool(questions: dict, rows: dict, size: int, seed: int, model: str = "pool") -> TraceSet:
    """Greedy answers of `size` models as if they were samples of one, shuffled by question."""
    generator = np.random.default_rng(seed)
    traces = []
    for key, found in rows.items():
        names = sorted(found)
        if len(names) >= size:
            chosen = generator.permutation(len(names))[:size]
            traces += [
                _trace(questions[key], found[names[i]], model, number)
                for number, i in enumerate(chosen)
            ]
    return trace_set(traces)


def routellm(folder: Path, name: str) -> TraceSet:
    """Two models' verdicts per prompt, as a router sees them: nothing of the answers is known.

    Every answer stands for itself (MMLU's were not kept) and every call counts the same (nor were
    their tokens).
    """
    return trace_set(
        replace(trace, text="", answer="given", completion_tokens=None)
        for trace in importer(name).read(needed(folder / name))
    )
