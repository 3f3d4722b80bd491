"""Grading recorded texts again: what changes, what stays, what is refused."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("pyarrow")

from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError
from suffice.evals.datasets import load_dataset
from suffice.evals.traces.files import read_traces, write_traces
from suffice.evals.traces.trace_set import Question, Trace, messages_json
from suffice.recipes.record.rejudge import rejudge


def recorded(path):
    """Four questions: one with a text, one without, one that the data set lacks, one of two."""
    traces = []
    for name, text in (("0", "it is 4"), ("1", ""), ("gone", "it is 4"), ("3", "it is 5")):
        asked = Question(
            dataset="mine", name=name, messages_json=messages_json(f"What is {name}?"),
            reference="9", answer_format="text",
        )  # fmt: skip
        traces.append(
            Trace(
                question=asked, model="m", sample=0, text=text, answer=text or None, correct=False
            )
        )
    write_traces(path, traces)
    return path


def dataset(path, *, prompt="What is {}?"):
    rows = [
        {"id": name, "prompt": prompt.format(name), "answer": "4", "checker": "number"}
        for name in ("0", "1", "3")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_has_no_text_or_no_question_stays_and_is_counted(tmp_path):
    path = recorded(tmp_path / "r.parquet")
    items = load_dataset(str(dataset(tmp_path / "mine.jsonl")))
    count = rejudge(path, path, items=items)
    assert (count.samples, count.judged, count.right) == (4, 2, 1)
    assert (count.left, count.unknown) == (1, 1)
    found = {trace.question.name: trace for trace in read_traces(path)}
    assert (found["0"].answer, found["0"].correct) == ("4", True)
    assert (found["3"].answer, found["3"].correct) == ("5", False)
    assert (found["1"].answer, found["1"].correct) == (None, False)
    assert (found["gone"].answer, found["gone"].correct) == ("it is 4", False)
    assert found["gone"].question.answer_format == "text"


def test_the_command_says_how_many_stayed(tmp_path):
    path = recorded(tmp_path / "r.parquet")
    words = ["traces", "rejudge", str(path), "--dataset", str(dataset(tmp_path / "mine.jsonl"))]
    told = " ".join(CliRunner().invoke(app, words).output.split())
    assert "1 of 2 judged are right" in told
    assert "left as they were: 1 sample of which no text was recorded" in told
    assert "left as they were: 1 sample of questions not in" in told


def test_another_prompt_is_another_question(tmp_path):
    path = recorded(tmp_path / "r.parquet")
    before = path.read_bytes()
    items = load_dataset(str(dataset(tmp_path / "mine.jsonl", prompt="And {}?")))
    with pytest.raises(InputError, match="another prompt: its samples answer another question"):
        rejudge(path, path, items=items)
    with pytest.raises(InputError, match="give --dataset with the answers, or --checker"):
        rejudge(path, path)
    assert path.read_bytes() == before


def test_a_checker_alone_takes_the_recorded_answers(tmp_path):
    path = recorded(tmp_path / "r.parquet")
    count = rejudge(path, tmp_path / "new.parquet", checker="number")
    assert (count.judged, count.right, count.left) == (3, 0, 1)
    assert {trace.answer for trace in read_traces(tmp_path / "new.parquet")} == {"4", "5", None}


def test_joined_files_are_one_and_contradictions_are_refused(tmp_path):
    one = recorded(tmp_path / "one.parquet")
    two = tmp_path / "two.parquet"
    asked = Question(dataset="mine", name="0", messages_json=messages_json("What is 0?"))
    write_traces(two, [Trace(question=asked, model="other", sample=0, text="4")])
    out = tmp_path / "both.parquet"
    run = lambda *words: CliRunner().invoke(app, ["traces", "join", *map(str, words)])  # noqa: E731
    refused = run(one, two, "--out", out)
    assert "two different values" in str(refused.exception)
    assert not out.exists()
    write_traces(two, [Trace(question=next(iter(read_traces(one))).question, model="b", sample=0)])
    assert run(one, two, "--out", out).exit_code == 0
    assert set(read_traces(out).models) == {"m", "b"}
