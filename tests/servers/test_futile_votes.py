"""What a vote costs where there is nothing to vote on, seen by the engine and on the receipt."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Json, Reply
from tests.servers.tools import Tools

MESSAGES = [{"role": "user", "content": "2+2?"}]
TALE = "Once upon a time there was a fox who never counted anything at all"


def prose(number: int, body: Json) -> Reply:
    del body
    return Reply.saying(f"In {1900 + number} two foxes lived near Paris")


def asked(tools: type[Tools], script: Any, body: Json, **settings: Any) -> tuple[int, Json, str]:
    """Requests that reached the engine, the answer, and the gateway's metrics."""
    with FakeEngine(script) as engine:
        config = tools.config_for(engine.url, **settings)
        with tools.serving(config, hooks=serving_hooks(config)) as url:
            answer = httpx2.post(
                f"{url}/v1/chat/completions", json={"model": "fake", "messages": MESSAGES, **body}
            )
            assert answer.status_code == 200, answer.text
            seen = len(engine.seen.bodies)
            tools.wait_for(lambda: "suffice_requests_total{" in metrics_of(url))
            return seen, answer.json(), metrics_of(url)


def metrics_of(url: str) -> str:
    return httpx2.get(f"{url}/metrics").text


OPERATOR = {"policy": "adaptive_consistency", "answer_format": "number"}


def test_a_turn_of_tool_calls_is_compared_as_such(tools: type[Tools]) -> None:
    reply = Reply(tokens=(), tool_call=("add", '{"a": 1}'), finish_reason="tool_calls")
    seen, answer, _ = asked(tools, reply, {}, **OPERATOR)
    assert (seen, answer["suffice"]["confidence"], answer["suffice"]["note"]) == (4, 1.0, None)
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"


@pytest.mark.parametrize("policy", ["revise_once", "sequential_revision"])
def test_a_call_of_tools_is_not_revised(tools: type[Tools], policy: str) -> None:
    reply = Reply(tokens=(), tool_call=("add", '{"a": 1}'), finish_reason="tool_calls")
    body = {"suffice": {"policy": policy, "answer_format": "tool"}}
    seen, answer, _ = asked(tools, reply, body)
    assert seen == 1
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"


def test_prose_without_a_number_takes_one_wave(tools: type[Tools]) -> None:
    seen, answer, metrics = asked(tools, Reply.saying(TALE), {}, **OPERATOR)
    receipt = answer["suffice"]
    assert (seen, receipt["note"], receipt["confidence"]) == (4, "nothing_comparable", None)
    assert (
        'suffice_futile_votes_total{arm="adaptive_consistency",note="nothing_comparable"} 1.0'
        in metrics
    )


def test_prose_full_of_years_is_given_up(tools: type[Tools]) -> None:
    seen, answer, metrics = asked(tools, prose, {}, **OPERATOR)
    receipt = answer["suffice"]
    assert (seen, receipt["note"], receipt["confidence"]) == (16, "all_different", 1 / 16)
    assert 'suffice_futile_votes_total{arm="adaptive_consistency",note="all_different"}' in metrics


@pytest.mark.parametrize("policy", ["adaptive_consistency", "self_consistency"])
def test_asking_for_json_is_not_asking_for_a_vote(tools: type[Tools], policy: str) -> None:
    body = {"model": f"suffice/{policy}", "response_format": {"type": "json_object"}}
    seen, answer, _ = asked(tools, Reply.saying('{"a": 1}'), body)
    assert (seen, answer["suffice"]["note"]) == (1, "free_form")


def test_json_that_was_asked_for_is_compared_as_json(tools: type[Tools]) -> None:
    def script(number: int, body: Json) -> Reply:
        return Reply.saying('{"a": 1, "b": 2}' if number % 2 else '{"b": 2.0, "a": 1}')

    body = {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}
    seen, answer, _ = asked(tools, script, body, **OPERATOR)
    assert (seen, answer["suffice"]["confidence"]) == (4, 1.0)


@pytest.mark.parametrize("policy", ["self_consistency", "adaptive_consistency", "esc"])
def test_a_vote_of_copies_is_one_sample(tools: type[Tools], policy: str) -> None:
    settings = {"policy": policy, "answer_format": "number"}
    seen, answer, _ = asked(tools, Reply.saying("it is 4"), {"temperature": 0}, **settings)
    receipt = answer["suffice"]
    assert (seen, receipt["note"], receipt["confidence"]) == (1, "greedy", None)


@pytest.mark.parametrize("policy", ["self_consistency", "adaptive_consistency:scatter=none"])
def test_the_same_scatter_has_the_same_confidence(tools: type[Tools], policy: str) -> None:
    settings = {"policy": policy, "answer_format": "number"}
    seen, answer, _ = asked(tools, prose, {}, **settings)
    assert answer["suffice"]["confidence"] == 1 / seen
