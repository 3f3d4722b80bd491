"""Samples that nothing looks at before their end are asked for without a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from suffice.executors.pace import PACE
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.observe.serving_hooks import ServingHooks, open_hooks
from suffice.ledger.queries import recent
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Json, Reply
from tests.scripted_server import ScriptedServer, plain
from tests.servers.tools import Tools

MESSAGES = [{"role": "user", "content": "2+2?"}]
SHORT = {"max_tokens": 50}


@contextmanager
def stack(
    tools: type[Tools], script: Any, **settings: Any
) -> Iterator[tuple[str, FakeEngine, ServingHooks]]:
    with FakeEngine(script) as engine:
        config = tools.config_for(engine.url, patience_s=5.0, **settings)
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            yield url, engine, opened


def ask(url: str, policy: str, **more: Any) -> Json:
    wishes = {"policy": policy, "answer_format": "number", **more.pop("suffice", {})}
    body = {"model": "fake", "messages": MESSAGES, "suffice": wishes, **SHORT, **more}
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    if more.get("stream"):
        return {"text": answer.text}
    return dict(answer.json())


UNSTREAMED: list[tuple[str, Json]] = [
    ("single", {}),
    ("self_consistency:samples=3", {}),
    ("adaptive_consistency", {}),
    ("esc", {}),
    ("difficulty_binned", {}),
    ("deepconf_offline:samples=4", {}),
    ("sequential_revision:revisions=1", {}),
    ("adaptive_consistency:accept=.9 > single", {}),
    ("self_consistency:samples=3", {"stream": True}),
]
STREAMED: list[tuple[str, Json]] = [
    ("single", {"stream": True}),  # shown as it comes
    ("single", {"max_tokens": 2000}),
    ("single", {"max_tokens": None}),
    ("single", {"suffice": {"budget": {"elapsed_s": 9}}}),
    ("single", {"suffice": {"budget": {"completion_tokens": 900}}}),
    ("self_consistency:samples=3,stop_when_decided=yes", {}),
    ("adaptive_consistency:ahead=2", {}),
    ("two_sided", {}),
    ("short_m_at_k:k=3,m=2", {}),
    ("deepconf:max_samples=4,warmup=2,parallel=2", {}),
    ("answer_stability", {}),
    ("budget_forcing", {}),
]


@pytest.mark.parametrize(("policy", "more"), UNSTREAMED)
def test_what_nothing_looks_at_is_not_streamed(tools: type[Tools], policy: str, more: Json) -> None:
    with stack(tools, Reply.saying("it is 4")) as (url, engine, _):
        answer = ask(url, policy, **more)
        asked = engine.seen.bodies
    assert asked
    assert not any(body["stream"] or "stream_options" in body for body in asked)
    if "usage" in answer:
        assert answer["usage"]["completion_tokens"] == 3 * len(asked)
        assert answer["choices"][0]["message"]["content"] == "it is 4"
    else:
        assert '"content":"it is 4"' in answer["text"]


@pytest.mark.parametrize(("policy", "more"), STREAMED)
def test_what_is_looked_at_is_streamed(tools: type[Tools], policy: str, more: Json) -> None:
    with stack(tools, Reply.saying("it is 4")) as (url, engine, _):
        ask(url, policy, **more)
        asked = engine.seen.bodies
    assert asked
    assert all(body["stream"] for body in asked)


def test_an_operator_can_have_all_streamed(tools: type[Tools]) -> None:
    with stack(tools, Reply.saying("it is 4"), unstreamed_tokens=0) as (url, engine, _):
        ask(url, "self_consistency:samples=3")
        assert all(body["stream"] for body in engine.seen.bodies)


def test_all_waves_of_a_request_carry_its_age_where_the_operator_wants_it(
    tools: type[Tools],
) -> None:
    answers = ("it is 1", "it is 2", "it is 3", "it is 3", "it is 3", "it is 3", "it is 3")

    def script(number: int, body: Json) -> Reply:
        del body
        return Reply.saying(answers[min(number, len(answers) - 1)])

    for by_age in (False, True):
        traffic = TrafficConfig(priority_by_age=by_age)
        before_ms = time.time() * 1e3
        with stack(tools, script, traffic=traffic) as (url, engine, _):
            ask(url, "adaptive_consistency:max_samples=7")
            first = [body.get("priority") for body in engine.seen.bodies]
            ask(url, "single", priority=7)
            assert engine.seen.bodies[-1]["priority"] == 7  # a client's own stays
        assert len(first) > 2
        assert len(set(first)) == 1  # of every wave
        assert first[0] is None or before_ms - 1 <= first[0] <= time.time() * 1e3
        assert (first[0] is not None) == by_age


def test_log_probabilities_come_whole_too(tools: type[Tools]) -> None:
    with stack(tools, Reply.saying("it is 4")) as (url, engine, _):
        answer = ask(url, "single", logprobs=True, top_logprobs=2)
        assert not engine.seen.bodies[0]["stream"]
    entries = answer["choices"][0]["logprobs"]["content"]
    assert [len(entry["top_logprobs"]) for entry in entries] == [2, 2, 2]


@pytest.mark.parametrize("policy", ["single", "self_consistency:samples=3"])
def test_engines_stop_when_the_client_leaves(tools: type[Tools], policy: str) -> None:
    slow = Reply.saying("one two three four five six seven it is 4", delay_s=0.2)
    with stack(tools, slow) as (url, engine, opened):
        wishes = {"policy": policy, "answer_format": "number"}
        body = {"model": "fake", "messages": MESSAGES, "suffice": wishes, **SHORT}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=0.7)
        many = 3 if "samples" in policy else 1
        tools.wait_for(lambda: engine.seen.aborted == many)
        assert engine.seen.finished == 0
        tools.wait_for(lambda: not opened.process.live)


def test_the_live_view_and_the_books_go_by_their_models_pace(tools: type[Tools]) -> None:
    slow = Reply.saying("one two three four five six seven it is 4", delay_s=0.3)
    PACE.learn("fake", 1000, 10.0)
    with stack(tools, slow) as (url, engine, opened):
        wishes = {"policy": "self_consistency:samples=2", "answer_format": "number"}
        body = {"model": "fake", "messages": MESSAGES, "suffice": wishes, **SHORT}
        with ThreadPoolExecutor() as threads:
            asking = threads.submit(timed_out, url, body)
            tools.wait_for(lambda: engine.seen.running == 2)
            tools.wait_for(lambda: min(tokens_shown(opened), default=0) > 0)
            assert max(tokens_shown(opened)) <= SHORT["max_tokens"]
            asking.result()
        tools.wait_for(lambda: bool(recent(opened.reader, 1)))
        (row,) = recent(opened.reader, 1)
    assert (row["ending"], row["usage_source"]) == ("left", "estimated")
    assert 0 < row["completion_tokens"] <= 2 * SHORT["max_tokens"]


def timed_out(url: str, body: Json) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=1.0)


def tokens_shown(opened: ServingHooks) -> list[int]:
    return [
        sample["tokens"] for call in opened.process.shown()["live"] for sample in call["samples"]
    ]


def test_an_answer_that_is_no_json_is_malformed(tools: type[Tools]) -> None:
    page = plain(b"<html>", kind="text/html")
    declared = plain(json.dumps({"choices": [{"message": {"content": "ok"}}]}).encode())

    def steps(body: Json) -> list[Any]:
        return [page if body.get("max_tokens") == 50 else declared]

    with ScriptedServer(steps) as server, tools.serving(tools.config_for(server.url)) as url:
        body = {"model": "fake", "messages": MESSAGES, "suffice": {"policy": "single"}, **SHORT}
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_malformed")
    assert "where JSON was asked for" in answer.json()["error"]["message"]
