"""Clients that others wrote, against a gateway on a real port with an engine that plays scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import OtherRequest, Reply, Talents
from tests.servers.tools import serving

WEATHER = '{"city": "Paris"}'
PERSON = '{"name": "Ada", "age": 36}'


def script(number: int, body: dict[str, Any]) -> Reply:
    """A tool call for who asks about the weather with tools, JSON for who wants JSON, else text."""
    if "prompt" in body:
        return Reply.saying("it is 4")
    said = json.dumps(body["messages"][-1].get("content"))
    results = [turn for turn in body["messages"] if turn["role"] == "tool"]
    names = [tool["function"]["name"] for tool in body.get("tools") or ()]
    wanted = body.get("response_format") or {}
    if wanted.get("type") in ("json_schema", "json_object"):
        return Reply.saying(PERSON)
    structured = [name for name in names if "weather" not in name.lower()]
    if structured and "person" in said:
        return Reply(tokens=(), tool_call=(structured[0], PERSON), finish_reason="tool_calls")
    if names and "weather" in said and not results:
        return Reply(tokens=(), tool_call=(names[0], WEATHER), finish_reason="tool_calls")
    if results:
        return Reply.saying("it is sunny in Paris")
    return Reply.saying("it is 4", reasoning=("let", " me") if "think" in said else ())


def others(asked: OtherRequest) -> tuple[int, str, bytes] | None:
    if asked.path != "/v1/embeddings":
        return None
    value = json.loads(asked.body)
    given = value["input"]
    count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    data = [{"object": "embedding", "index": n, "embedding": [0.5, -1.0]} for n in range(count)]
    answer = {
        "object": "list", "model": value["model"], "data": data,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }  # fmt: skip
    return 200, "application/json", json.dumps(answer).encode()


@dataclass(frozen=True, slots=True)
class Stack:
    """A gateway and the engine behind it."""

    url: str
    engine: FakeEngine

    @property
    def v1(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.url}/v1"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    talents = Talents(context_tokens=100_000)
    with FakeEngine(script, others=others, talents=talents) as engine:
        config = GatewayConfig(upstreams=(UpstreamConfig(url=engine.url),))
        with serving(config) as url:
            yield Stack(url, engine)


@pytest.fixture(params=["fake", "suffice/single"])
def model(request: pytest.FixtureRequest) -> str:
    """Passed through, and answered by a policy."""
    return str(request.param)
