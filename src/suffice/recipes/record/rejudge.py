"""Grade what was recorded again: other answers or another checker, without asking anyone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError
from suffice.core.requests import ToolCall
from suffice.evals.datasets import Item
from suffice.evals.extract import VERSION
from suffice.evals.grading import Check, check_of
from suffice.evals.traces.files import finish, read_traces, write_traces
from suffice.evals.traces.trace_set import Question, Trace, TraceSet


@dataclass(slots=True)
class Rejudged:
    """What grading again came to, in samples."""

    samples: int = 0
    answers: int = 0  # that differ from before
    verdicts: int = 0
    right: int = 0
    judged: int = 0
    left: int = 0  # as they were: no text was recorded of them
    unknown: int = 0  # of questions that the data set does not have


def rejudge(
    path: Path, out: Path, *, items: Sequence[Item] = (), checker: str | None = None
) -> Rejudged:
    """Write `path` with new answers and verdicts as `out`, which may be the same file.

    `items` bring references and checkers, matched by the question's name, else by its prompt;
    without them `checker` compares with the references that were recorded. Raises InputError.
    """
    if not items and checker is None:
        raise InputError("nothing to grade by: give --dataset with the answers, or --checker")
    finish(path)
    traces = read_traces(path)
    judges = _Judges(traces, items, checker)
    count = Rejudged()
    information = traces.information.model_copy(update={"extraction": VERSION, "digest": ""})
    write_traces(out, _again(traces, judges, count), information)
    return count


class _Judges:
    """For each recorded question: what it is now, and its check."""

    def __init__(self, traces: TraceSet, items: Sequence[Item], checker: str | None) -> None:
        by_name = {item.question.key: item for item in items}
        by_prompt = {item.question.messages_json: item for item in items}
        self.of: dict[tuple[str, str], tuple[Question, Check] | None] = {}
        for asked in traces.questions:
            if not items:
                self.of[asked.key] = _with_checker(asked, checker)
                continue
            item = by_name.get(asked.key) or by_prompt.get(asked.messages_json)
            if item is not None and item.question.messages_json != asked.messages_json:
                raise InputError(
                    f"question {asked.name!r} of {asked.dataset!r} was asked with another prompt: "
                    "its samples answer another question, record them anew"
                )
            self.of[asked.key] = None if item is None else _renamed(asked, item)
        if not any(self.of.values()):
            raise InputError(
                "the data set has none of the recorded questions, by name or by prompt: is it the "
                "file that they were recorded from?"
            )


def _with_checker(asked: Question, checker: str | None) -> tuple[Question, Check]:
    question = replace(asked, answer_format=checker)
    try:
        check = check_of(checker, asked.reference, asked=asked.prompt)
    except InputError as error:
        raise type(error)(f"question {asked.name!r} of {asked.dataset!r}: {error}") from None
    return question, check


def _renamed(asked: Question, item: Item) -> tuple[Question, Check]:
    """The item under the name that it was recorded by."""
    return replace(item.question, dataset=asked.dataset, name=asked.name), item.check


def _again(traces: TraceSet, judges: _Judges, count: Rejudged) -> Iterator[Trace]:
    for trace in traces:
        count.samples += 1
        judge = judges.of[trace.question.key]
        if judge is None:
            count.unknown += 1
            yield trace
            continue
        question, check = judge
        if not trace.text and trace.tool_calls_json is None:
            count.left += 1
            yield replace(trace, question=question)
            continue
        verdict = check(_completion(trace))
        count.answers += verdict.answer != trace.answer
        count.verdicts += verdict.correct != trace.correct
        count.judged += verdict.correct is not None
        count.right += verdict.correct is True
        yield replace(
            trace,
            question=question,
            answer=verdict.answer,
            correct=verdict.correct,
            score=trace.score if verdict.score is None else verdict.score,
        )


def _completion(trace: Trace) -> Completion:
    calls: list[Mapping[str, Mapping[str, str]]] = json.loads(trace.tool_calls_json or "[]")
    return Completion(
        text=trace.text,
        finish_reason=trace.finish_reason,
        usage=Usage(),
        tool_calls=tuple(
            ToolCall(
                id="",
                name=call["function"]["name"],
                arguments=call["function"].get("arguments", ""),
            )
            for call in calls
        ),
    )
