"""Bodies that break parsers, in every place of every path that reads one: a 4xx, never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.feedback import MOST_BYTES
from suffice.gateway.observe.serving_hooks import open_hooks
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.tools import config_for, serving

PLACE = "@@"
# Raw JSON, or what is none, by why it is nasty.
NASTY: dict[str, bytes] = {
    "a lone surrogate": rb'"\ud800"',
    "a lone surrogate as a key": rb'{"\udc00": 1}',
    "NUL": rb'"\u0000"',
    "invalid UTF-8": b'"\xff\xfe"',
    "NaN": b"NaN",
    "-Infinity": b"-Infinity",
    "a float beyond all": b"1e999",
    "a huge integer": b"1" + b"0" * 400,
    "an integer of 5,000 digits": b"-" + b"9" * 5000,
    "2**63": str(2**63).encode(),
    "2**64": str(2**64).encode(),
    "lists nested 260 deep": b"[" * 260 + b"]" * 260,
    "objects nested 900 deep": b'{"a":' * 900 + b"1" + b"}" * 900,
    "lists nested 1,020 deep": b"[" * 1020 + b"]" * 1020,
    "objects nested 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}
# Never JSON, or deeper than anyone means it: these have to be refused wherever they stand.
ALWAYS_REFUSED = {
    "a lone surrogate", "a lone surrogate as a key", "invalid UTF-8", "NaN", "-Infinity",
    "lists nested 260 deep", "objects nested 900 deep", "lists nested 1,020 deep",
    "objects nested 100,000 deep",
}  # fmt: skip

TURN: dict[str, Any] = {"role": "user", "content": "2+2"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": PLACE}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": PLACE}}
SUFFICE: list[dict[str, Any]] = [
    {"policy": PLACE}, {"policy": {"policy": "esc", "window": PLACE}}, {"model": PLACE},
    {"budget": PLACE}, {"budget": {"completion_tokens": PLACE}}, {"budget": {"usd": PLACE}},
    {"effort": PLACE}, {"target": PLACE}, {"answer_format": PLACE}, {"cache": PLACE},
]  # fmt: skip
FIELDS = [
    "model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k", "min_p", "stop", "seed", "presence_penalty", "priority", "logprobs",
    "top_logprobs", "tools", "tool_choice", "response_format", "reasoning_effort", "suffice",
    "user", "metadata", "logit_bias", "unheard_of",
]  # fmt: skip


def chat_bodies(model: str) -> Iterator[dict[str, Any]]:
    base = {"model": model, "messages": [TURN]}
    yield base | {"messages": PLACE}
    for turn in (
        {"role": PLACE, "content": "x"}, {"role": "user", "content": PLACE}, TURN | {"name": PLACE},
        {"role": "user", "content": [{"type": "text", "text": PLACE}]}, TURN | {"more": PLACE},
        {"role": "assistant", "tool_calls": [CALL]},
    ):  # fmt: skip
        yield base | {"messages": [turn]}
    yield base | {"tools": [TOOL]}
    for wishes in SUFFICE:
        yield base | {"suffice": wishes}
    for name in FIELDS:
        yield base | {name: PLACE}


def completion_bodies(model: str) -> Iterator[dict[str, Any]]:
    base = {"model": model, "prompt": "2+2"}
    yield base | {"prompt": PLACE}
    for name in ("model", "stream", "n", "max_tokens", "stop", "logprobs", "suffice", "suffix"):
        yield base | {name: PLACE}


def feedback_bodies(request_id: str) -> Iterator[dict[str, Any]]:
    base = {"request_id": request_id, "correct": True}
    for name in (*base, "score", "harmed", "baseline_correct", "source", "comment", "unheard_of"):
        yield base | {name: PLACE}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    path: Path = tmp_path_factory.mktemp("hostile")
    with FakeEngine(Reply.saying("it is 4")) as engine:
        # Texts are kept, so that what was asked goes through the ledger as well.
        ledger = LedgerConfig(url=str(path / "ledger.db"), flush_s=0.05, texts="all")
        config = config_for(engine.url, patience_s=10.0, max_choices=3, ledger=ledger)
        opened = open_hooks(config)
        with (
            serving(config, hooks=opened.in_order) as url,
            httpx2.Client(base_url=url, timeout=20) as c,
        ):
            yield c
            assert opened.writer.health.dropped == 0


def refused(path: str, data: bytes) -> int:
    return 413 if path == "/v1/feedback" and len(data) > MOST_BYTES else 400


def check(gateway: httpx2.Client, path: str, body: dict[str, Any], nasty: str) -> None:
    data = json.dumps(body).encode().replace(b'"@@"', NASTY[nasty])
    where = f"{nasty} in {path} {body}"
    answer = gateway.post(path, content=data, headers={"content-type": "application/json"})
    assert answer.status_code < 500, f"{where}: {answer.text[:200]}"
    if nasty in ALWAYS_REFUSED:
        assert answer.status_code == refused(path, data), f"{where}: {answer.text[:200]}"
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"], where
        assert {"message", "type", "param", "code"} <= set(error), where


@pytest.mark.parametrize("nasty", NASTY)
def test_no_body_is_a_bug_of_ours(gateway: httpx2.Client, nasty: str) -> None:
    for model in ("fake", "suffice/single"):
        for body in chat_bodies(model):
            check(gateway, "/v1/chat/completions", body, nasty)
        for body in completion_bodies(model):
            check(gateway, "/v1/completions", body, nasty)
    asked = {"model": "fake", "messages": [TURN]}
    made = gateway.post("/v1/chat/completions", json=asked).headers["x-request-id"]
    for body in feedback_bodies(made):
        check(gateway, "/v1/feedback", body, nasty)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/feedback"):
        answer = gateway.post(path, content=NASTY[nasty])  # no object at all
        assert answer.status_code == refused(path, NASTY[nasty])
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("query", ["span=%ff", "span=%ed%a0%80", "span=%00", "span[]=1", "span="])
def test_no_query_is_either(gateway: httpx2.Client, query: str) -> None:
    answer = gateway.get(f"/admin/state?{query}")
    if answer.status_code != 200:
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_value"


@pytest.mark.parametrize("value", [1, 0, "true", [], {"a": 1}])
def test_a_stream_is_asked_for_by_true_alone(gateway: httpx2.Client, value: Any) -> None:
    """An upstream may take 1 for true where we do not: whose answer would it be?"""
    for model in ("fake", "suffice/single"):
        body = {"model": model, "messages": [TURN], "stream": value}
        answer = gateway.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert "stream must be true or false" in answer.json()["error"]["message"]
    body["stream"] = None
    assert gateway.post("/v1/chat/completions", json=body | {"n": None}).status_code == 200
