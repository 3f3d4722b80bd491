"""`suffice size` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import SufficeError
from suffice.ledger.records import Batch, Entry, RequestRow
from suffice.ledger.store import Store

runner = CliRunner()
LLAMA = ["size", "--model", "meta-llama/Llama-3.1-8B"]


def test_an_answer_with_limits_and_a_rate() -> None:
    done = runner.invoke(
        app,
        [*LLAMA, "--hardware", "h100", "--rate", "20/s", "--max-ttft", "500ms", "--max-tpot",
         "30ms", "--cached-prompt", "60%", "--speculative", "2.1", "--disaggregated"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    for words in ("20 requests/s at random", "60% of prompts cached", "2.1 tokens per step",
                  "TTFT <= 500 ms and TPOT <= 30.0 ms for 95%", "weights per GPU", "floor",
                  "simulated:", "two pools:", "vllm serve meta-llama/Llama-3.1-8B"):  # fmt: skip
        assert words in told


def test_a_table_over_machines_fits_80_columns() -> None:
    done = runner.invoke(app, ["size", "--model", "gpt-oss-120b", "--rate", "20/s"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("machine"))
    table = lines[first : first + 11]
    assert "…" not in "".join(table)
    assert any(line.startswith("h100 ") for line in table)
    assert max(map(len, table)) <= 80


def test_json_has_what_is_printed() -> None:
    done = runner.invoke(app, [*LLAMA, "--hardware", "h100", "--hardware", "l4", "--json"])
    told = json.loads(done.output)
    assert {one["hardware"] for one in told["answers"]} == {"h100", "l4"}
    assert told["answers"][0]["floor"]["tpot_s"] < told["answers"][0]["tpot_s"]
    assert "cross_check" not in told


def test_a_file_of_lengths(tmp_path: Path) -> None:
    path = tmp_path / "mix.toml"
    path.write_text(
        "[[requests]]\ninput_tokens = 200\noutput_tokens = 100\nweight = 9\n"
        "[[requests]]\ninput_tokens = 8000\noutput_tokens = 400\n"
    )
    done = runner.invoke(app, [*LLAMA, "--hardware", "h100", "--workload", str(path), "--json"])
    assert json.loads(done.output)["question"]["input_tokens"] == pytest.approx(980)


def test_the_ledgers_own_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "ledger.db")
    store = Store(url)
    rows = [
        RequestRow(
            id=str(i), started_s=1.8e9 + i, endpoint="chat", served_model="m",
            prompt_tokens=800, completion_tokens=200, cached_tokens=400,
        )
        for i in range(600)
    ]  # fmt: skip
    store.write(Batch(id="1", at_s=0.0, entries=[Entry(request=row) for row in rows]))
    store.close()
    monkeypatch.setenv("SUFFICE_LEDGER", url)
    asked = [*LLAMA, "--hardware", "h100", "--workload", "ledger", "--max-ttft", "1s"]
    done = runner.invoke(app, asked)
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "600 calls in 0.2 h of the ledger" in told
    assert "50% of prompts cached" in told
    assert "1 requests/s at random (the busiest 5 minutes)" in told
    by_path = runner.invoke(app, [*LLAMA, "--hardware", "h100", "--workload", url, "--json"])
    assert json.loads(by_path.output)["question"]["rate_per_s"] == pytest.approx(1.0, rel=0.01)


def test_the_cross_check_says_what_is_missing() -> None:
    done = runner.invoke(app, [*LLAMA, "--hardware", "h100", "--cross-check"])
    assert isinstance(done.exception, SufficeError)
    assert "aiconfigurator" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--rate", "fast"], "rate 'fast'"),
        (["--max-ttft", "soon"], "--max-ttft 'soon' is not a duration: write 500ms"),
        (["--cached-prompt", "150%"], "--cached-prompt must lie between"),
        (["--workload", "absent.toml"], "absent.toml"),
        (["--since", "24h"], "--since and --of-model are of a ledger"),
        (["--hardware", "h1000"], "unknown hardware 'h1000'"),
        (["--within", "30%"], "within is the share"),
        (["--kv-cache", "fp7"], "kv_dtype 'fp7' is not known"),
    ],
)
def test_bad_input_is_one_line(words: list[str], complaint: str) -> None:
    done = runner.invoke(app, [*LLAMA, *words])
    assert isinstance(done.exception, SufficeError)
    assert complaint in str(done.exception)
