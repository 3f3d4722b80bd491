"""The extract of recorded answers, and the engine that plays it."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest

from suffice.core.completions import Completion, Usage
from suffice.demo.engine import UNKNOWN, RecordedEngine
from suffice.demo.recorded import (
    ANSWER_FORMATS,
    LARGE_MODEL,
    SMALL_MODELS,
    Task,
    recorded_questions,
)
from suffice.evals.grading import check_of

# accuracy.csv of the source (WildEval/ZeroEval @ 8c1485ed), right answers.
PUBLISHED = {
    ("gsm", SMALL_MODELS[0]): 1108, ("gsm", SMALL_MODELS[1]): 1153, ("gsm", LARGE_MODEL): 1239,
    ("crux", SMALL_MODELS[0]): 334, ("crux", SMALL_MODELS[1]): 390, ("crux", LARGE_MODEL): 590,
}  # fmt: skip


@pytest.mark.parametrize(("task", "count"), [("gsm", 1319), ("crux", 800)])
def test_the_extract_has_the_sources_accuracies(task: Task, count: int) -> None:
    questions = recorded_questions(task)
    assert len(questions) == len({q.prompt for q in questions}) == count
    for model in (*SMALL_MODELS, LARGE_MODEL):
        assert sum(q.answers[model].correct for q in questions) == PUBLISHED[task, model]


@pytest.mark.parametrize("task", ["gsm", "crux"])
def test_our_checker_agrees_with_the_source(task: Task) -> None:
    """One answer of all differs: a sum written out whose last number is the right one."""
    differ = 0
    for question in recorded_questions(task):
        check = check_of(ANSWER_FORMATS[task], question.reference)
        for model in (*SMALL_MODELS, LARGE_MODEL):
            said = Completion(text=question.text_of(model), finish_reason="stop", usage=Usage())
            differ += bool(check(said).correct) != question.answers[model].correct
    assert differ == (1 if task == "gsm" else 0)


def test_the_engine_plays_and_counts() -> None:
    questions = recorded_questions("gsm")[:3]

    def ask(url: str, **fields: object) -> str:
        body = json.dumps({"model": LARGE_MODEL, **fields}).encode()
        headers = {"content-type": "application/json"}
        with urlopen(Request(f"{url}/chat/completions", body, headers), timeout=20) as answer:
            return str(answer.read().decode())

    def turn(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    with RecordedEngine(LARGE_MODEL, questions) as engine:
        whole = json.loads(ask(engine.url, messages=turn(questions[0].prompt)))
        assert whole["choices"][0]["message"]["content"] == questions[0].text_of(LARGE_MODEL)
        due = questions[0].answers[LARGE_MODEL].completion_tokens
        assert whole["usage"]["completion_tokens"] == due
        streamed = ask(engine.url, messages=turn(questions[1].prompt), stream=True)
        assert questions[1].text_of(LARGE_MODEL) in streamed and streamed.endswith("[DONE]\n\n")
        assert UNKNOWN in ask(engine.url, messages=turn("never recorded"))
        assert engine.counted.requests == 3
        due += questions[1].answers[LARGE_MODEL].completion_tokens + 4
        assert engine.counted.completion_tokens == due
