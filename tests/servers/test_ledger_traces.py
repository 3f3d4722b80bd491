"""Traffic becomes traces: from the gateway over the ledger and feedback to a certificate."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.evals.traces.files import read_traces
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.run import calibrate
from suffice.testing.fake_replies import Reply
from tests.servers.test_recording import ASK, stack
from tests.servers.tools import Tools

QUESTIONS, SAMPLES = 130, 3


def said(number: int, body: dict[str, Any]) -> Reply:
    """Of question i a multiple of 10 is always answered wrongly, of 7 once in a while."""
    i = int(re.findall(r"question (\d+)", json.dumps(body))[-1])
    stray = i % 7 == 0 and number % SAMPLES == 2
    return Reply.saying(f"it is {-i - 1 if i % 10 == 0 else 1000 + i if stray else i}")


def ask(client: httpx2.Client, i: int) -> httpx2.Response:
    vote = {"answer_format": "number", "policy": f"self_consistency:samples={SAMPLES}"}
    messages = [{"role": "user", "content": f"question {i}: which number is it?"}]
    body = {"model": "fake", "messages": messages, "suffice": vote}
    return client.post("/v1/chat/completions", json=body)


def judge(client: httpx2.Client, answer: httpx2.Response, *, correct: bool) -> None:
    told = {"request_id": answer.headers["x-request-id"], "correct": correct}
    assert client.post("/v1/feedback", json=told).status_code == 200


def run(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, list(words))
    return found.exit_code, found.output + str(found.exception or "")


def test_served_judged_and_calibrated(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, said, ledger={"texts": "all"}) as s:
        with httpx2.Client(base_url=s.url) as client:
            answers = [ask(client, i) for i in range(QUESTIONS)]
            with ThreadPoolExecutor(16) as threads:  # each waits until its row is on disk
                list(threads.map(lambda i: judge(client, answers[i], correct=i % 10 != 0),
                                 range(QUESTIONS)))  # fmt: skip
        s.rows(QUESTIONS)
        out = tmp_path / "traffic.parquet"
        code, told = run("traces", "from-ledger", "--ledger", s.path, "--judged", "--out", str(out))
        assert code == 0, told
        assert f"{QUESTIONS} of {QUESTIONS} requests judged" in told
    traces = read_traces(out)
    assert (len(traces.questions), len(traces)) == (QUESTIONS, SAMPLES * QUESTIONS)
    assert traces.datasets == ("ledger",)
    numbers = [int(re.findall(r"question (\d+)", q.prompt)[0]) for q in traces.questions]
    for code, i in enumerate(numbers):
        rows = traces.rows(code, 0)
        answers = [traces.answer_of(row) for row in range(rows.start, rows.stop)]
        right = [a == str(i) for a in answers]
        np.testing.assert_array_equal(traces.correct[rows], right)
        assert any(right) == (i % 10 != 0)
    assert (traces.completion_tokens > 0).all()
    config = CalibrateConfig(
        max_drop=0.05, baseline=f"self_consistency:samples={SAMPLES}@fake",
        options=("adaptive_consistency:max_samples=3@fake",),
    )  # fmt: skip
    certificate = calibrate(traces, config).file.certificate
    assert certificate.expected.saving.low > 0.2  # the third sample is rarely needed
    assert certificate.expected.baseline_accuracy == pytest.approx(0.9, abs=0.06)


def test_passed_through_requests_and_unjudged_ones(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, Reply.saying("it is 4"), ledger={"texts": "all"}) as s:
        with httpx2.Client(base_url=s.url) as client:
            first = client.post("/v1/chat/completions", json=ASK)
            second = client.post("/v1/chat/completions", json=ASK | {"stream": True})
            s.rows(2)
        assert first.status_code == 200, first.text
        assert second.text.rstrip().endswith("[DONE]"), second.text
        out = tmp_path / "plain.parquet"
        words = ("traces", "from-ledger", "--ledger", s.path, "--out", str(out))
        code, told = run(*words, "--judged")
        assert code != 0
        assert "none of the 2 requests" in told and "/v1/feedback" in told
        with httpx2.Client(base_url=s.url) as client:
            judge(client, first, correct=True)
        code, told = run(*words, "--answer-format", "number")
        assert code == 0, told
    traces = read_traces(out)
    assert (len(traces), len(traces.questions)) == (2, 1)  # one prompt, asked twice
    assert [traces.answer_of(row) for row in (0, 1)] == ["4", "4"]
    assert traces.correct.tolist() == [1.0, 1.0]  # the same answer, judged once
    assert traces.text_of(1) == "it is 4"


@pytest.mark.parametrize("kept", ["none", "prompts", "outputs"])
def test_a_ledger_without_texts_is_refused(tools: type[Tools], tmp_path: Path, kept: str) -> None:
    with stack(tools, tmp_path, ledger={"texts": kept}) as s:
        s.ask(ASK)
        s.rows(1)
        out = tmp_path / "none.parquet"
        code, told = run("traces", "from-ledger", "--ledger", s.path, "--out", str(out))
    assert code != 0
    assert "without a stored" in told and 'texts = "all"' in told
    assert not out.exists()


def test_an_empty_ledger_is_refused(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path) as s:
        s.get("/health")
        code, told = run("traces", "from-ledger", "--ledger", s.path, "--out", "x.parquet")
    assert code != 0
    assert "no request of that time" in told
