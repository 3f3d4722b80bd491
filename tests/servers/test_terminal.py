"""`suffice ask` and `suffice serve` as commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.cli.serve import overridden
from suffice.core.errors import InputError, SufficeError
from suffice.gateway.config import GatewayConfig
from suffice.policies.policy_table import policy_table
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.tools import Tools

VOTE = ["--policy", "adaptive_consistency:max_samples=8", "--answer-format", "number"]


def test_ask_prints_the_answer_and_its_receipt() -> None:
    with FakeEngine(Reply.saying("it is 4")) as engine:
        result = CliRunner().invoke(app, ["ask", "2+2?", *VOTE, "--upstream", engine.url])
    assert result.exit_code == 0
    assert "it is 4" in result.output
    printed = " ".join(result.output.split())
    assert "4 samples · 12 tokens · confidence 1.00 · costs 4.0x against single@fake" in printed


def test_ask_says_nothing_of_saving_where_one_call_is_what_was_made() -> None:
    with FakeEngine(Reply.saying("hello there")) as engine:
        words = ["ask", "hi", "--policy", "deepconf", "--upstream", engine.url]
        result = CliRunner().invoke(app, words)
    printed = " ".join(result.output.split())
    assert "1 sample ·" in printed
    assert "saved" not in printed and "costs" not in printed


def test_ask_through_a_gateway_shows_what_it_did(tools: type[Tools]) -> None:
    with FakeEngine(Reply.saying("it is 4")) as engine:
        config = tools.config_for(engine.url, policy="self_consistency", answer_format="number")
        with tools.serving(config) as url:
            words = ["ask", "2+2?", "--policy", "single", "--upstream", url]
            shown = CliRunner().invoke(app, words).output
            printed = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert "The server is a suffice gateway. For this answer it drew 16 samples" in " ".join(
        shown.split()
    )
    assert printed["upstream_receipt"]["samples_run"] == 16


def test_ask_for_machines() -> None:
    with FakeEngine(Reply.saying("it is 4")) as engine:
        arguments = ["ask", "2+2?", *VOTE, "--upstream", engine.url, "--json", "--seed", "3",
                     "--system", "be brief", "--max-tokens", "9", "--max-samples", "2"]  # fmt: skip
        result = CliRunner().invoke(app, arguments)
        bodies = engine.seen.bodies
    printed = json.loads(result.output)
    assert printed["answer"] == "it is 4"
    assert printed["suffice"]["samples_run"] == 2
    assert {body["seed"] for body in bodies} == {3, 4}  # two connections: in either order
    assert {(body["messages"][0]["role"], body["max_tokens"]) for body in bodies} == {("system", 9)}


def test_ask_without_anyone_there_says_so() -> None:
    result = CliRunner().invoke(app, ["ask", "2+2?", "--upstream", "http://127.0.0.1:9"])
    assert isinstance(result.exception, SufficeError)
    assert "is the server running" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy", "best_of_n"], "needs a verifier"),
        (["--answer-format", "boxd"], "did you mean boxed"),
        (["--answer-format", "regex:("], "not a pattern"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(tell: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("suffice.cli.serve.embedded", loading)
    result = CliRunner().invoke(app, ["ask", "2+2?", *arguments])
    assert isinstance(result.exception, SufficeError)
    assert says in str(result.exception)


def test_serve_as_a_process(tmp_path: Path, tools: type[Tools]) -> None:
    policy = tmp_path / "careful.toml"
    policy.write_text('policy = "self_consistency"\nsamples = 3\n')
    config = tmp_path / "suffice.toml"
    config.write_text('port = 1\nanswer_format = "number"\n')
    with FakeEngine(Reply.saying("it is 4")) as engine:
        command = [sys.executable, "-m", "suffice", "serve", "--upstream", engine.url,
                   "--upstream", "http://127.0.0.1:9/v1", "--policy",
                   str(policy), "--config", str(config), "--port", "0",
                   "--ledger", str(tmp_path / "ledger.db")]  # fmt: skip
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            until = time.monotonic() + 20.0
            line, said = "", ""
            while "running on" not in line:
                line = process.stderr.readline()
                said += line
                assert time.monotonic() < until
                assert line, "the gateway ended"
            url = line.split("running on ")[1].split(" ")[0]
            body = {"model": "fake", "messages": [{"role": "user", "content": "2+2"}]}
            answer = httpx2.post(f"{url}/v1/chat/completions", json=body).json()
        finally:
            process.terminate()
            process.communicate(timeout=10)
    assert answer["suffice"]["arm"] == "self_consistency"
    assert answer["suffice"]["samples_run"] == 3
    assert "warning: what 127.0.0.1:9 serves is not known yet" in said


def test_options_come_before_the_file(tmp_path: Path) -> None:
    table = tmp_path / "mine.json"
    table.write_text('{"policy": "esc", "window": 3}')
    settings = GatewayConfig(port=1, host="h", model="m")
    found = overridden(settings, port=2, host=None, model=None, upstream=["http://x"],
                       policy=str(table), answer_format=None)  # fmt: skip
    assert (found.port, found.host, found.model, found.policy) == (2, "h", "m", "mine")
    assert found.policies["mine"] == {"policy": "esc", "window": 3}
    assert [upstream.url for upstream in found.upstreams] == ["http://x"]


@pytest.mark.parametrize(("name", "text"), [("a.toml", "x ="), ("a.json", "{"), ("b.json", "[]")])
def test_a_broken_policy_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match="policy file"):
        policy_table(path)
