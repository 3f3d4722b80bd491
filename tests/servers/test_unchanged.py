"""Under a policy as without one: what comes in goes out, what comes back arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from tests.scripted_server import ScriptedServer, framed, plain
from tests.servers.tools import Tools

ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake",
    "system_fingerprint": "fp_1", "citations": ["https://a.example"], "service_tier": None,
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "text", "text": "4"},
]
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'},
     "extra_content": {"google": {"thought_signature": "s=="}}},
    {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y": 2}'}},
]  # fmt: skip
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": {"role": "assistant", "content": "4"},
    "refusal": {"role": "assistant", "content": None, "refusal": "I cannot"},
    "annotations": {
        "role": "assistant", "content": "4",
        "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "start_index": 0}}],
    },
    "parts": {"role": "assistant", "content": PARTS},
    "calls": {"role": "assistant", "content": None, "tool_calls": CALLS},
    "thoughts": {"role": "assistant", "content": "4", "reasoning_content": "hm",
                 "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
    "audio": {"role": "assistant", "content": None, "audio": {"id": "x", "data": "aa=="}},
    "function_call": {
        "role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}
    },
}  # fmt: skip
FINISH = {"calls": "tool_calls", "function_call": "function_call"}
POLICIES = ["single", "self_consistency:samples=3", "adaptive_consistency:max_samples=4"]
QUESTION = {"model": "fake", "messages": [{"role": "user", "content": "2+2?"}]}


OWN = ("id", "created", "usage", "object", "model")


class Recorder:
    """An engine with one answer, whole or streamed, that keeps what it was asked."""

    def __init__(self, name: str, *, fragments: list[list[dict[str, Any]]] | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.choice = {
            "index": 0, "finish_reason": FINISH.get(name, "stop"), "stop_reason": 7,
            "content_filter_results": {"hate": {"filtered": False}}, "message": MESSAGES[name],
        }  # fmt: skip
        self._fragments = fragments

    def steps(self, body: dict[str, Any]) -> list[Any]:
        self.bodies.append(body)
        if not body.get("stream"):
            return [plain(json.dumps({**ANSWER, "choices": [self.choice]}).encode())]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        events = [json.dumps(event) for event in self._events()]
        data = b"".join(framed(f"data: {each}\n\n".encode()) for each in [*events, "[DONE]"])
        return [head + b"transfer-encoding: chunked\r\n\r\n" + data + b"0\r\n\r\n"]

    def _events(self) -> Iterator[dict[str, Any]]:
        outer = {n: v for n, v in ANSWER.items() if n != "usage"}
        rest = {n: v for n, v in self.choice.items() if n not in ("message", "finish_reason")}
        message = dict(self.choice["message"])
        deltas = [{"role": message.pop("role"), "content": ""}]
        for piece in self._fragments or [message.pop("tool_calls", [])]:
            calls = [{"index": i, **call} for i, call in enumerate(piece)]
            deltas.append({"tool_calls": piece if self._fragments else calls})
        message.pop("tool_calls", None)
        deltas += [{name: value} for name, value in message.items()]
        for delta in deltas:
            yield {**outer, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        last = {**rest, "delta": {}, "finish_reason": self.choice["finish_reason"]}
        yield {**outer, "choices": [last]}
        yield {**outer, "choices": [], "usage": ANSWER["usage"]}

    @property
    def asked(self) -> dict[str, Any]:
        """The last request that was no probe."""
        return self.bodies[-1]


@contextmanager
def stack(tools: type[Tools], engine: Recorder) -> Iterator[str]:
    with (
        ScriptedServer(engine.steps) as server,
        tools.serving(tools.config_for(server.url, patience_s=5.0)) as url,
    ):
        yield url


WAYS = {"streamed": {}, "whole": {"max_tokens": 50}}  # how samples come from the engine


def ask(url: str, policy: str, **more: Any) -> dict[str, Any]:
    wishes = {"suffice": {"policy": policy, "answer_format": "number"}}
    answer = httpx2.post(f"{url}/v1/chat/completions", json={**QUESTION, **wishes, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def events_of(url: str, policy: str) -> list[dict[str, Any]]:
    wishes = {"suffice": {"policy": policy, "answer_format": "number"}}
    answer = httpx2.post(f"{url}/v1/chat/completions", json={**QUESTION, **wishes, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n")]
    assert lines[-2:] == ["[DONE]", ""]
    return [json.loads(line) for line in lines[:-2] if not line.startswith(":")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_arrives_as_it_was_sent(
    tools: type[Tools], name: str, policy: str, way: str
) -> None:
    engine = Recorder(name)
    with stack(tools, engine) as url:
        answer = ask(url, policy, **WAYS[way])
    assert engine.asked["stream"] == (way == "streamed")
    (choice,) = answer["choices"]
    if way == "whole":
        assert {**choice, "message": {}} == {**engine.choice, "message": {}, "logprobs": None}
        assert {n: choice["message"].get(n, ...) for n in MESSAGES[name]} == MESSAGES[name]
        assert {n: answer[n] for n in ANSWER if n not in OWN} == {
            n: value for n, value in ANSWER.items() if n not in OWN
        }
        return
    sent = {n: v for n, v in MESSAGES[name].items() if not (n == "content" and name == "parts")}
    assert {n: choice["message"].get(n) or None for n in sent} == sent
    for field in ("finish_reason", "stop_reason", "content_filter_results"):
        assert choice[field] == engine.choice[field], field
    for field in ("system_fingerprint", "citations"):
        assert answer[field] == ANSWER[field], field


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_streamed_message_arrives_as_it_was_sent(
    tools: type[Tools], name: str, policy: str
) -> None:
    engine = Recorder(name)
    with stack(tools, engine) as url:
        chunks = events_of(url, policy)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    for field, value in MESSAGES[name].items():
        came = [delta[field] for delta in deltas if delta.get(field)]
        if field == "content" and isinstance(value, str):
            assert "".join(came) == value
        elif field == "tool_calls":
            assert [{**each, "index": None} for each in came[0]] == [
                {**each, "index": None} for each in value
            ]
        elif value is not None and field != "role":
            assert came == [value], field
    last = [choice for chunk in chunks for choice in chunk["choices"]][-1]
    assert last["finish_reason"] == engine.choice["finish_reason"]
    said = {name: value for chunk in chunks for name, value in chunk.items()}
    assert said["citations"] == ANSWER["citations"]
    assert any(c.get("stop_reason") == 7 for chunk in chunks for c in chunk["choices"])


@pytest.mark.parametrize("policy", POLICIES)
def test_parallel_calls_stay_apart(tools: type[Tools], policy: str) -> None:
    bare = [{**call, "index": 0} for call in CALLS]
    for stream in (False, True):
        engine = Recorder("calls", fragments=[[call] for call in bare])
        with stack(tools, engine) as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
            wishes = {"suffice": {"policy": policy, "answer_format": "tool"}}
            with client, client.chat.completions.stream(
                model="fake", messages=QUESTION["messages"], extra_body=wishes,  # type: ignore[arg-type]
            ) as events:  # fmt: skip
                whole = events.get_final_completion()
        found = whole.choices[0].message.tool_calls or []
        assert [(c.id, c.function.name, c.function.arguments) for c in found] == [
            ("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}'),
        ], stream  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_a_request_arrives_as_it_was_sent(tools: type[Tools], policy: str) -> None:
    more: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "t", "cache_control": {"a": 1}}],
             "weight": 1},
            {"role": "assistant", "tool_calls": [
                {"id": "a", "type": "function", "extra_content": {"google": {"s": "=="}},
                 "function": {"name": "f", "arguments": {"a": 1, "b": [None, 1.5, "é"]}}}]},
            {"role": "tool", "tool_call_id": "a", "content": "7", "name": None},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}, "odd": 1},
             "cache_control": {"type": "ephemeral"}},
            {"type": "web_search", "filters": {"domains": ["a.example"]}},
        ],
        "tool_choice": {"type": "allowed_tools", "tools": []},
        "response_format": {"type": "grammar", "value": "x"},
        "guided": {"deep": [1, {"x": None}]}, "user": None,
    }  # fmt: skip
    engine = Recorder("calls")
    with stack(tools, engine) as url:
        ask(url, policy, **more)
    assert more.items() <= engine.asked.items()
