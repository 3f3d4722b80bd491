"""Requests that are large in number: refused before any work per item, or encoded once."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import pytest

from suffice.backends import openai as backend
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Json, Reply
from tests.servers.tools import Tools

TURN = {"role": "user", "content": "x"}
VOTE = {"model": "suffice/self_consistency", "suffice": {"answer_format": "number"}}
LARGE: dict[str, Json] = {
    "max_messages": {**VOTE, "messages": [TURN] * 20_000},
    "max_parts": {
        **VOTE,
        "messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 50_000}],
    },
    "max_tools": {
        "model": "suffice/single",
        "messages": [TURN],
        "tools": [{"type": "function", "function": {"name": "f"}}] * 20_000,
    },
    "max_policy_bytes": {
        "model": "fake",
        "messages": [TURN],
        "suffice": {"policy": " > ".join(["single:accept=.9"] * 20_000)},
    },
    "max_values": {"model": "fake", "messages": [TURN], "x": [{}] * 1_000_000},
    "max_names": {"model": "fake", "messages": [TURN], "x": {f"k{n}": 1 for n in range(200_000)}},
}


@pytest.mark.parametrize("setting", LARGE)
def test_what_is_too_many_is_refused_by_the_name_of_its_setting(
    tools: type[Tools], setting: str
) -> None:
    with FakeEngine(Reply.saying("4")) as engine, tools.serving(
        tools.config_for(engine.url)
    ) as url:  # fmt: skip
        answer = httpx2.post(f"{url}/v1/chat/completions", json=LARGE[setting], timeout=30)
        assert engine.seen.bodies == []
    assert answer.status_code == 400
    assert f"traffic.{setting}" in answer.json()["error"]["message"]


def test_what_passes_through_is_not_counted(tools: type[Tools]) -> None:
    with FakeEngine(Reply.saying("4")) as engine, tools.serving(
        tools.config_for(engine.url)
    ) as url:  # fmt: skip
        body = {"model": "fake", "messages": [TURN] * 20_000}
        assert httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=30).status_code == 200
        assert len(engine.seen.bodies[-1]["messages"]) == 20_000


def test_a_conversation_is_encoded_once_for_all_its_samples(
    tools: type[Tools], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    original = backend.fixed_fields

    def counting(request: Any) -> Any:
        encoded.append(request)
        return original(request)

    monkeypatch.setattr(backend, "fixed_fields", counting)
    with FakeEngine(Reply.saying("4")) as engine, tools.serving(
        tools.config_for(engine.url)
    ) as url:  # fmt: skip
        body = {**VOTE, "messages": [TURN] * 3000, "max_tokens": 50, "seed": 1}
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=30)
        assert answer.status_code == 200
        assert len(engine.seen.bodies) == 16
        assert all(len(each["messages"]) == 3000 for each in engine.seen.bodies)
        assert sorted(each["seed"] for each in engine.seen.bodies) == list(range(1, 17))
    assert len(encoded) == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_a_compressed_body_is_told_so(tools: type[Tools], encoding: str) -> None:
    body = gzip.compress(json.dumps({"model": "fake", "messages": [TURN]}).encode())
    with FakeEngine(Reply.saying("4")) as engine, tools.serving(
        tools.config_for(engine.url)
    ) as url:  # fmt: skip
        answer = httpx2.post(
            f"{url}/v1/chat/completions",
            content=body,
            headers={"content-encoding": encoding, "content-type": "application/json"},
        )
        plain = httpx2.post(
            f"{url}/v1/chat/completions",
            json={"model": "fake", "messages": [TURN]},
            headers={"content-encoding": "identity"},
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (
        415, "unsupported_content_encoding",
    )  # fmt: skip
    assert "Content-Encoding" in answer.json()["error"]["message"]
    assert plain.status_code == 200


def test_a_model_field_that_stands_twice_is_refused(tools: type[Tools]) -> None:
    body = b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "model": "other"}'
    with FakeEngine(Reply.saying("4"), ) as engine, tools.serving(
        tools.config_for(engine.url)
    ) as url:  # fmt: skip
        swapped = body.replace(b'"other"', b'"fake"')
        answer = httpx2.post(f"{url}/v1/chat/completions", content=swapped)
        assert engine.seen.bodies == []
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert answer.json()["error"]["message"].startswith("model: the body has this field twice")
