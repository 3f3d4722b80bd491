"""`suffice record` as a user runs it: own questions, several servers, changed files, stops."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("httptools")

from suffice.cli.main import main  # noqa: E402
from suffice.evals.traces.files import parts_folder, read_traces  # noqa: E402
from suffice.testing.fake_engine import FakeEngine  # noqa: E402
from suffice.testing.fake_replies import Reply, Talents  # noqa: E402


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def suffice(*words):
    """The command in this process: what it prints and its exit code."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["suffice", *map(str, words)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


def adds(shift=0, **how):
    """An engine that adds the two numbers of a question, `shift` too much."""

    def script(number, body):
        words = body["messages"][-1]["content"].rstrip("?").split()
        value = int(words[2]) + int(words[4]) + shift
        return Reply.saying(f"That makes {value} in all.", **how)

    return script


def questions(path, count=24, *, wrong=False, **more):
    rows = [
        {"question": f"What is {n} + {n + 1}?", "target": 2 * n + 1 + 100 * wrong} | more
        for n in range(count)
    ]
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recorded(dataset, out, *engines, samples=1, more=()):
    upstreams = [word for engine in engines for word in ("--upstream", engine.url)]
    return suffice(
        "record", "--dataset", dataset, *upstreams, "--samples", samples, "--out", out,
        "--top-logprobs", 0, *more,
    )  # fmt: skip


def content(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_usual_names_a_guessed_checker_and_a_trial(tmp_path, ending):
    dataset, out = questions(tmp_path / f"mine.{ending}"), tmp_path / "t.parquet"
    with FakeEngine(adds(), talents=Talents(models=("small",))) as engine:
        done = recorded(dataset, out, engine, samples=3)
    assert done.returncode == 0, done.stderr
    assert "checker: number (all 24 answers are numbers)" in done.stdout
    trial = done.stderr[done.stderr.index("first 10 questions, small:") :]
    assert "  1: answered 1, right\n" in trial and "  10 of 10 right" in trial
    # 24 questions of 3 samples less ten: 62, each of five words.
    assert "62 samples left, about 310 tokens, about" in trial
    found = read_traces(out)
    assert len(found) == 72 and found.correct.all()
    assert found.information.token_counts == "engine" and found.information.extraction is not None


def test_several_servers_are_asked_in_one_run(tmp_path):
    dataset, out = questions(tmp_path / "mine.jsonl"), tmp_path / "t.parquet"
    with (
        FakeEngine(adds(1), talents=Talents(models=("small",))) as small,
        FakeEngine(adds(), talents=Talents(models=("large", "other"))) as large,
    ):
        done = recorded(dataset, out, small, large, more=("--keep-going",))
        assert done.returncode == 0, done.stderr
        assert "small: 24 of 24 samples" in done.stdout
        assert "large: 24 of 24 samples" in done.stdout
        found = read_traces(out)
        assert set(found.models) == {"small", "large"}
        servers = found.information.servers
        assert set(servers) == {"small", "large"} and servers["small"] != servers["large"]
        assert len(small.seen.bodies) == len(large.seen.bodies) == 24
        named = recorded(dataset, out, small, large, more=("--model", "other"))
        assert named.returncode == 0, named.stderr
        assert set(read_traces(out).models) == {"small", "large", "other"}
        none = recorded(dataset, out, small, large, more=("--model", "othr"))
        assert none.returncode == 2 and "did you mean other" in none.stderr
        assert "server of small: " in suffice("traces", "show", out).stdout


def test_none_of_the_first_twenty_right_stops_and_is_graded_again(tmp_path):
    dataset, out = tmp_path / "mine.jsonl", tmp_path / "t.parquet"
    questions(dataset, 40, checker="text")
    with FakeEngine(adds(), talents=Talents(models=("small",))) as engine:
        done = recorded(dataset, out, engine, samples=16)
        assert done.returncode == 2 and len(engine.seen.bodies) == 20
        assert "0 of the first 20 answers of small are right by checker text" in done.stderr
        told = re.search(
            r"question '(\d+)' wants '(\d+)', found 'that makes \2 in all.'", done.stderr
        )
        assert told and int(told[2]) == 2 * int(told[1]) - 1  # whichever came first
        # What was drawn is a whole file; with another checker it needs nobody to be asked.
        assert not read_traces(out).correct.any()
        questions(dataset, 40)
        refused = recorded(dataset, out, engine, samples=16)
        assert refused.returncode == 2 and len(engine.seen.bodies) == 20
        assert "checker was 'text', is 'number'" in refused.stderr
        again = suffice("traces", "rejudge", out, "--dataset", dataset)
        assert again.returncode == 0, again.stderr
        assert "20 of 20 judged are right; 20 verdicts" in again.stdout
        found = read_traces(out)
        assert found.correct.all() and found.questions[0].answer_format == "number"
        gone_on = recorded(dataset, out, engine, samples=2)
        assert gone_on.returncode == 0, gone_on.stderr
        assert len(engine.seen.bodies) == 80
    assert read_traces(out).count.tolist() == [[2]] * 40


@pytest.mark.parametrize(
    ("change", "told", "remedy"),
    [
        ({"target": 999}, "answer was '1', is '999'", "suffice traces rejudge"),
        ({"checker": "boxed"}, "checker was 'number', is 'boxed'", "suffice traces rejudge"),
        ({"question": "What is 1 + 1?"}, "prompt was", "record into another --out"),
    ],
)
def test_a_changed_question_is_refused_before_the_first_request(tmp_path, change, told, remedy):
    dataset, out = questions(tmp_path / "mine.jsonl"), tmp_path / "t.parquet"
    with FakeEngine(adds(), talents=Talents(models=("small",))) as engine:
        assert recorded(dataset, out, engine).returncode == 0
        before, asked = content(out), len(engine.seen.bodies)
        rows = [json.loads(line) for line in dataset.read_text().splitlines()]
        rows[0] |= change
        dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = recorded(dataset, out, engine, samples=4)
        assert done.returncode == 2 and len(engine.seen.bodies) == asked
        assert told in done.stderr and remedy in done.stderr
        assert "Nothing was asked and the file is as it was" in done.stderr
    assert content(out) == before and not parts_folder(out).exists()
    assert len(read_traces(out)) == 24


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "x", "answr": 1}, "line 1: unknown field 'answr', did you mean answer?"),
        ({"question": "x", "cost": 1}, "allowed: prompt/question/input"),
        ({"question": "x", "prompt": "y"}, "'question' and 'prompt' both would be the prompt"),
        ({"question": "x", "choices": ["a"]}, "write --dataset choices:FILE"),
        ({"question": "x", "answer": ["1", "2"]}, "one right answer is needed, got 2"),
        ({"question": "x", "answer": "1 or 2", "checker": "number"}, "is not one number"),
    ],
)
def test_wrong_questions_are_named_before_anything_is_asked(tmp_path, row, message):
    dataset = tmp_path / "mine.jsonl"
    dataset.write_text(json.dumps(row) + "\n")
    with FakeEngine(adds(), talents=Talents(models=("small",))) as engine:
        done = recorded(dataset, tmp_path / "t.parquet", engine)
        assert done.returncode == 2 and message in done.stderr and not engine.seen.bodies


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_recording_keeps_what_was_drawn(tmp_path, how, code):
    dataset, out = questions(tmp_path / "mine.jsonl", 60), tmp_path / "t.parquet"
    with FakeEngine(adds(delay_s=0.02), talents=Talents(models=("small",))) as engine:
        words = ["record", "--dataset", dataset, "--upstream", engine.url, "--samples", 4]
        words += ["--out", out, "--top-logprobs", 0, "--concurrency", 4]
        command = [sys.executable, "-m", "suffice", *map(str, words)]
        # Whoever runs the tests in the background has its children ignore Ctrl-C.
        heard = ["env", f"--default-signal={how.name}", *command]
        process = subprocess.Popen(heard, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        waited = time.monotonic() + 60.0
        while engine.seen.finished < 30 and time.monotonic() < waited:
            time.sleep(0.02)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said.decode()
        assert "what was drawn is kept" in said.decode()
        parts = [pq.read_table(part) for part in parts_folder(out).glob("*.parquet")]
        kept = sum(len(part) for part in parts)
        assert kept >= 26  # of 30 that the engine had ended, each of four workers may hold one
        asked = len(engine.seen.bodies)
        done = suffice(*words)
        assert done.returncode == 0, done.stderr
        assert len(engine.seen.bodies) - asked == 240 - kept
    assert len(read_traces(out)) == 240
