"""Endpoints through GuideLLM: its command line as it is called, its report as it is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from suffice.architecture.catalog import load_shape
from suffice.core.errors import InputError, MeasurementError, MissingExtra
from suffice.throughput.engines.openai_engine import (
    GuideLlm,
    LoadResult,
    OpenAIEngine,
    read_report,
)
from suffice.throughput.engines.protocol import Lengths

LENGTHS = Lengths(input_tokens=64, output_tokens=9)
SHAPE = load_shape("HuggingFaceTB/SmolLM2-135M")
# A stand-in for the command: answers --version, else writes a report with what it was called with.
FAKE = """#!{python}
import json, sys, pathlib
if sys.argv[1] == "--version":
    print("guidellm version: 0.8.1"); raise SystemExit
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
parts = lambda text: dict(p.split("=", 1) for p in text.split(","))
if "refuse" in given["--backend"]:
    sys.stderr.write("RuntimeError: Could not connect\\n"); raise SystemExit(1)
n = int(parts(given["--constraint"])["count"]); out = int(parts(given["--data"])["output_tokens"])
mean = lambda value: {{"successful": {{"mean": value}}}}
report = {{"benchmarks": [{{"metrics": {{
    "request_totals": {{"successful": n, "errored": 0, "incomplete": 0}},
    "time_to_first_token_ms": mean(120.0), "request_latency": mean(0.12 + 0.015 * (out - 1)),
    "output_token_count": mean(out)}}}}], "seed": parts(given["--seed"])["value"]}}
pathlib.Path(parts(given["--output"])["path"]).write_text(json.dumps(report))
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    path = tmp_path / "guidellm"
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def report(**changes: Any) -> dict[str, Any]:
    metrics = {
        "request_totals": {"successful": 8, "errored": 0, "incomplete": 0},
        "time_to_first_token_ms": {"successful": {"mean": 250.0}},
        "request_latency": {"successful": {"mean": 2.25}},
        "output_token_count": {"successful": {"mean": 9.0}},
    }
    return {"benchmarks": [{"metrics": metrics | changes}]}


def test_a_repeat_keeps_the_batch_in_flight_and_leaves_the_first_token_out(command: str) -> None:
    engine = OpenAIEngine(
        url="http://host:1/v1/", model="m", load=GuideLlm(tokenizer="folder", command=command)
    )
    assert engine.environment().engine_version == "guidellm 0.8.1"
    assert engine.environment().device == "http://host:1"
    with engine.open([SHAPE], LENGTHS, [2]) as (session,):
        session.prepare(2)
        timing = session.measure(2, prefill=True)
        assert session.measure(2, prefill=False).ttft_s is None
    assert timing.ttft_s == pytest.approx(0.12)
    assert timing.decode_s == pytest.approx(8 * 0.015)
    assert session.describe(2) == {"load": "2 streams, 8 requests"}


def test_every_repeat_has_prompts_of_its_own() -> None:
    seeds = []

    class Load:
        def version(self) -> str:
            return "scripted"

        def run(self, *, seed: int, lengths: Lengths, **rest: object) -> LoadResult:
            seeds.append(seed)
            return LoadResult(ttft_s=1, e2e_s=2, output_tokens=9, successful=1, failed=0)

    engine = OpenAIEngine(url="http://h", model="m", load=Load())
    with engine.open([SHAPE], LENGTHS, [1]) as (session,):
        for _ in range(3):
            session.measure(1, prefill=True)
    assert len(set(seeds)) == 3


def test_arguments_are_those_of_guidellm_08(command: str) -> None:
    arguments = GuideLlm(tokenizer=None, command=command).arguments(
        url="http://h", model="m", lengths=LENGTHS, streams=3, seed=5, report=Path("r.json")
    )
    assert arguments[0] == "run"
    assert "kind=concurrent,streams=3" in arguments
    assert "kind=max_requests,count=12" in arguments
    assert "kind=synthetic_text,prompt_tokens=64,output_tokens=9" in arguments
    assert "kind=huggingface_auto,model=m" in arguments


def test_report_is_read_and_failures_are_not_averaged_away() -> None:
    assert read_report(report()) == LoadResult(
        ttft_s=0.25, e2e_s=2.25, output_tokens=9.0, successful=8, failed=0
    )
    with pytest.raises(MeasurementError, match="no request succeeded, 3 failed"):
        read_report(report(request_totals={"successful": 0, "errored": 2, "incomplete": 1}))
    with pytest.raises(MeasurementError, match=r"unknown layout .*0\.8"):
        read_report({"benchmarks": []})


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (LoadResult(ttft_s=1, e2e_s=2, output_tokens=4, successful=4, failed=0), "ended after 4"),
        (LoadResult(ttft_s=1, e2e_s=2, output_tokens=9, successful=3, failed=1), "1 of 4"),
    ],
)
def test_short_answers_and_failed_requests_are_no_measurement(
    seen: LoadResult, message: str
) -> None:
    class Load:
        def version(self) -> str:
            return "scripted"

        def run(self, **rest: object) -> LoadResult:
            return seen

    engine = OpenAIEngine(url="http://h", model="m", load=Load())
    with (
        engine.open([SHAPE], LENGTHS, [1]) as (session,),
        pytest.raises(MeasurementError, match=message),
    ):
        session.measure(1, prefill=True)


def test_what_is_missing_is_named(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load = GuideLlm(tokenizer="t", command=command)
    with pytest.raises(InputError, match="--url"):
        OpenAIEngine(url=None, model="m", load=load)
    engine = OpenAIEngine(url="http://h", model="m", load=load)
    with pytest.raises(InputError, match="one by one"):
        engine.open([SHAPE, load_shape("llama-3.2-1b")], LENGTHS, [1])
    with pytest.raises(MeasurementError, match="Could not connect"):
        load.run(url="http://refuse", model="m", lengths=LENGTHS, streams=1, seed=0)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("SUFFICE_GUIDELLM", raising=False)
    if not (Path(sys.executable).parent / "guidellm").exists():
        with pytest.raises(MissingExtra, match=r"guidellm"):
            GuideLlm(tokenizer=None)
