"""A served policy file is enough by itself, and a request that differs is told so by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.coverage import NOT_COVERED
from suffice.evals.traces.files import write_traces
from suffice.evals.traces.trace_set import messages_json
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Json, Reply
from tests.recipes.known_traces import make
from tests.servers.tools import Tools

SYSTEM, AFTER = "You are a calculator.", "Answer with one single number, please."
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 64}


def recorded(path: Path) -> None:
    """A recording of one model, its votes of five and all that a certificate keeps of it."""
    traces = []
    for trace in make(90, samples=5, small=(0.99, 0.98), models=("fake", "other")):
        if trace.model != "fake":
            continue
        asked = f"What is {trace.question.name[1:]} + 2? {AFTER}"
        question = replace(trace.question, messages_json=messages_json(asked, system=SYSTEM))
        traces.append(replace(trace, question=question, sampling_json=json.dumps(SAMPLING)))
    write_traces(path, traces)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Json:
    folder = tmp_path_factory.mktemp("certified")
    recorded(folder / "t.parquet")
    found = CliRunner().invoke(
        app,
        ["calibrate", str(folder / "t.parquet"), "--max-drop", "5%", "--price", "fake=1/2",
         "--out", str(folder / "policy.json")],
    )  # fmt: skip
    assert found.exit_code == 0, found.output + str(found.exception)
    read: Json = json.loads((folder / "policy.json").read_text())
    return read


@contextmanager
def serving(tools: type[Tools], table: Json) -> Iterator[tuple[str, FakeEngine]]:
    settings = {"policies": {"careful": table}, "policy": "careful"}
    with (
        FakeEngine(Reply.saying("it is 4")) as engine,
        tools.serving(tools.config_for(engine.url, **settings)) as url,
    ):
        yield url, engine


def ask(url: str, text: str = f"What is 2 + 2? {AFTER}", *, system: str = SYSTEM,
        **more: Any) -> Json:  # fmt: skip
    turns = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    body = {"model": "fake", "messages": turns} | more
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()["suffice"]
    return found


def test_the_file_holds_what_it_is_about(table: Json) -> None:
    about = table["about"]
    assert about["answer_formats"] == ["number"]
    assert about["sampling"] == {"temperature": 0.7, "top_p": 0.9}
    assert about["least_max_tokens"] > 0  # nothing was cut short: a larger limit changes nothing
    assert about["suffix_characters"] >= len(AFTER)
    assert about["prefix_characters"] == 0
    assert about["single_turn"]
    assert about["thinking"] == "default"
    assert about["prices"] == {"fake": "1/2"}
    assert AFTER not in json.dumps(about)  # the template itself stays at home
    roles = [row["role"] for row in table["costs"]]
    assert roles == ["baseline", "certified", "option"]
    (baseline,) = table["costs"][0]["by_model"]
    assert (baseline["model"], baseline["samples"]) == ("fake", 5.0)
    assert baseline["prompt_tokens"] == 5 * 20.0
    assert baseline["cached_tokens"] == 4 * 20.0
    # Prompt tokens cost: one whole, four found in the prefix cache, at the price of any other.
    cost = (baseline["prompt_tokens"] + 2 * baseline["completion_tokens"]) / 1e6
    assert table["costs"][0]["cost"] == pytest.approx(cost, rel=1e-4)


def test_a_plain_request_is_covered_without_any_flag(tools: type[Tools], table: Json) -> None:
    with serving(tools, table) as (url, engine):
        told = ask(url)
        assert told["certificate"]["status"] == "valid"
        assert told["certificate"]["not_covered"] is None
        assert told["samples_run"] < 5  # all agree: the vote ends early
        for body in engine.seen.bodies:
            # What the client leaves open is drawn as it was recorded.
            assert (body["temperature"], body["top_p"]) == (0.7, 0.9)


DIFFERENT: list[tuple[Json, str]] = [
    ({"temperature": 0.0}, "temperature"),
    ({"top_p": 1.0}, "top_p"),
    ({"max_tokens": 2}, "max_tokens"),
    ({"system": "You are a poet."}, "system_prompt"),
    ({"text": "Tell me a story about a dog."}, "template"),
    ({"suffice": {"answer_format": "choice"}}, "answer_format"),
    ({"suffice": {"answer_format": "text"}}, "free_form"),
    ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools"),
    ({"logit_bias": {"5": 10}}, "extra_field"),
]


@pytest.mark.parametrize(("changed", "field"), DIFFERENT)
def test_a_request_that_differs_is_answered_by_the_baseline(
    tools: type[Tools], table: Json, changed: Json, field: str
) -> None:
    assert field in NOT_COVERED
    with serving(tools, table) as (url, _):
        told = ask(url, **changed)
    assert told["certificate"]["status"] == "not covered"
    assert told["certificate"]["not_covered"] == field
    assert told["certificate"]["reason"]
    assert told["exit"] == "safe"


def test_a_larger_limit_on_tokens_changes_nothing(tools: type[Tools], table: Json) -> None:
    with serving(tools, table) as (url, _):
        assert ask(url, max_tokens=4000)["certificate"]["status"] == "valid"


def test_other_rules_of_extraction_are_another_subject(tools: type[Tools], table: Json) -> None:
    from suffice.policies.policy_file import PolicyFile, sealed

    file = PolicyFile.model_validate(table)
    older = sealed(
        file.model_copy(update={"about": file.about.model_copy(update={"extraction_version": 1})})
    )
    with serving(tools, older.model_dump(mode="json")) as (url, _):
        told = ask(url)
    assert told["certificate"]["not_covered"] == "extraction_version"
