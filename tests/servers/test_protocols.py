"""`/v1/responses` and `/v1/messages` with the official clients: native, translated, by policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import open_hooks, serving_hooks
from suffice.testing.fake_engine import FakeEngine, Others
from suffice.testing.fake_replies import OtherRequest, Reply, Script
from tests.servers.tools import Tools

TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
MODELS = ["fake", "suffice/single"]


def script(number: int, body: dict[str, Any]) -> Reply:
    said = str(body["messages"][-1].get("content"))
    if "weather" in said and body.get("tools"):
        return Reply(
            tokens=(), tool_call=("weather", '{"city": "Paris"}'), finish_reason="tool_calls"
        )
    if "think" in said:
        return Reply.saying("it is 4", reasoning=("let", " me", " see"))
    if "long" in said:
        return Reply(tokens=("a",) * 400, delay_s=0.05)
    if "die" in said:
        return Reply(tokens=("it", " is"), misdeed="cut", misdeed_after=2)
    if "refuse" in said:
        return Reply(status=400, error="too long")
    return Reply.saying("it is 4")


@contextmanager
def stack(
    tools: type[Tools],
    *,
    others: Others | None = None,
    reply: Script | Reply = script,
    **settings: Any,
) -> Iterator[tuple[str, FakeEngine]]:
    with FakeEngine(reply, others=others) as engine:
        config = tools.config_for(engine.url, patience_s=5.0, **settings)
        with tools.serving(config) as url:
            yield url, engine


@contextmanager
def openai_of(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@contextmanager
def anthropic_of(url: str, key: str = "none") -> Iterator[Any]:
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0) as client:
        yield client


# --- Responses


@pytest.mark.parametrize("model", MODELS)
def test_a_response(tools: type[Tools], model: str) -> None:
    with stack(tools) as (url, engine), openai_of(url) as client:
        found = client.responses.create(
            model=model, instructions="Be short.", input="think", max_output_tokens=50,
            extra_headers={"x-request-id": "mine"},
        )  # fmt: skip
        assert found.output_text == "it is 4"
        assert [item.type for item in found.output] == ["reasoning", "message"]
        assert found.output[0].content[0].text == "let me see"
        assert (found.status, found.usage.output_tokens) == ("completed", 6)
        body = engine.seen.bodies[-1]
        assert body["messages"] == [
            {"role": "system", "content": "Be short."}, {"role": "user", "content": "think"},
        ]  # fmt: skip
        assert body["max_tokens"] == 50
        assert engine.seen.headers[-1]["x-request-id"] == "mine"
        if model != "fake":
            assert found.suffice["arm"] == "single"


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_response(tools: type[Tools], model: str) -> None:
    with stack(tools) as (url, _), openai_of(url) as client:
        with client.responses.stream(model=model, input="think") as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert final.output_text == "it is 4"
        assert final.usage.output_tokens == 6
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        assert kinds.count("response.output_text.delta") >= 1
        assert "response.reasoning_text.delta" in kinds
        if model != "fake":
            assert final.suffice["arm"] == "single"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [True, False])
def test_tools_of_responses(tools: type[Tools], model: str, stream: bool) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": TOOL, "strict": None}
    with stack(tools) as (url, engine), openai_of(url) as client:
        asked: Any = [{"role": "user", "content": "weather?"}]
        if stream:
            with client.responses.stream(model=model, input=asked, tools=[tool]) as events:
                first = events.get_final_response()
        else:
            first = client.responses.create(model=model, input=asked, tools=[tool])
        (call,) = first.output
        assert (call.type, call.name, call.arguments) == (
            "function_call", "weather", '{"city": "Paris"}',
        )  # fmt: skip
        asked += [
            call.model_dump(exclude_none=True),
            {"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees"},
        ]
        second = client.responses.create(model=model, input=asked, tools=[tool])
        assert second.output_text == "it is 4"
        turns = engine.seen.bodies[-1]["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
        assert turns[1]["tool_calls"][0]["id"] == turns[2]["tool_call_id"] == call.call_id


def test_a_vote_through_responses(tools: type[Tools]) -> None:
    with stack(tools, answer_format="number") as (url, engine), openai_of(url) as client:
        found = client.responses.create(model="suffice/adaptive_consistency", input="2+2?")
        assert found.suffice["samples_run"] == len(engine.seen.bodies) == 4
        with client.responses.stream(
            model="fake", input="2+2?", extra_body={"suffice": {"policy": "self_consistency"}}
        ) as stream:
            final = stream.get_final_response()
        assert final.suffice["samples_run"] == 16
        assert final.output_text == "it is 4"


def native(asked: OtherRequest) -> tuple[int, str, bytes] | None:
    """An engine that speaks both protocols itself."""
    value = json.loads(asked.body)
    if asked.path.startswith("/v1/responses"):
        response = {
            "id": "resp_engine", "object": "response", "created_at": 1, "status": "completed",
            "model": value["model"], "parallel_tool_calls": True, "tool_choice": "auto",
            "tools": [], "output": [{
                "type": "message", "id": "m", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": "native", "annotations": []}],
            }],
            "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11,
                      "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
                      "output_tokens_details": {"reasoning_tokens": 1}},
        }  # fmt: skip
        events = [
            {"type": "response.created", "sequence_number": 0, "response": {
                **response, "status": "in_progress", "output": [], "usage": None}},
            {"type": "response.completed", "sequence_number": 1, "response": response},
        ]  # fmt: skip
        return as_asked(value, response, events)
    if asked.path.startswith("/v1/messages"):
        if asked.path.partition("?")[0].endswith("/count_tokens"):
            return 200, "application/json", b'{"input_tokens": 12}'
        message = {
            "id": "msg_engine", "type": "message", "role": "assistant", "model": value["model"],
            "content": [{"type": "text", "text": "native"}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 2},
        }  # fmt: skip
        start = {**message, "content": [], "usage": {"input_tokens": 9, "output_tokens": 0}}
        events = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0,
             "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0,
             "delta": {"type": "text_delta", "text": "native"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
             "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ]  # fmt: skip
        return as_asked(value, message, events)
    return None


def as_asked(value: Any, whole: Any, events: list[Any]) -> tuple[int, str, bytes]:
    if not value.get("stream"):
        return 200, "application/json", json.dumps(whole).encode()
    text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    return 200, "text/event-stream", text.encode()


def test_an_engine_that_speaks_responses_is_left_to_it(tools: type[Tools]) -> None:
    with stack(tools, others=native) as (url, engine), openai_of(url) as client:
        found = client.responses.create(model="fake", input="x", previous_response_id="resp_0")
        assert (found.id, found.output_text) == ("resp_engine", "native")
        events = list(client.responses.create(model="fake", input="x", stream=True))
        assert [event.type for event in events] == ["response.created", "response.completed"]
        assert engine.seen.bodies == []
        assert json.loads(engine.seen.others[0].body)["previous_response_id"] == "resp_0"
        policy = client.responses.create(model="suffice/single", input="x")
        assert policy.output_text == "it is 4"


def test_what_an_engine_lacks_is_asked_once(tools: type[Tools]) -> None:
    with stack(tools) as (url, engine), openai_of(url) as client:
        for _ in range(4):
            client.responses.create(model="fake", input="x")
        assert [other.path for other in engine.seen.others] == ["/v1/responses"]


@pytest.mark.parametrize("model", MODELS)
def test_errors_of_responses(tools: type[Tools], model: str) -> None:
    with stack(tools) as (url, _), openai_of(url) as client:
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            client.responses.create(model=model, input="x", previous_response_id="r")
        with pytest.raises(openai.BadRequestError, match="the tool web_search"):
            client.responses.create(model=model, input="x", tools=[{"type": "web_search"}])
        with pytest.raises(openai.BadRequestError, match="too long"):
            client.responses.create(model=model, input="refuse")
        with pytest.raises(openai.APIError, match=r"complete|closed"):
            list(client.responses.create(model=model, input="die", stream=True))
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="nope", input="x")


# --- Messages

HI: Any = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("model", MODELS)
def test_a_message(tools: type[Tools], model: str) -> None:
    with stack(tools) as (url, engine), anthropic_of(url) as client:
        found = client.messages.create(
            model=model, max_tokens=50, system="Be short.", extra_body={"top_k": 7},
            messages=[{"role": "user", "content": "think"}],
        )  # fmt: skip
        assert [block.type for block in found.content] == ["thinking", "text"]
        assert found.content[0].thinking == "let me see"
        assert (found.content[1].text, found.stop_reason) == ("it is 4", "end_turn")
        body = engine.seen.bodies[-1]
        assert body["messages"][0] == {"role": "system", "content": "Be short."}
        assert (body["max_tokens"], body["top_k"]) == (50, 7)
        if model != "fake":
            assert found.suffice["arm"] == "single"


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_message(tools: type[Tools], model: str) -> None:
    with stack(tools) as (url, _), anthropic_of(url) as client:
        asked = [{"role": "user", "content": "think"}]
        with client.messages.stream(model=model, max_tokens=50, messages=asked) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == "it is 4"
        assert final.content[0].thinking == "let me see"
        assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [True, False])
def test_tools_of_messages(tools: type[Tools], model: str, stream: bool) -> None:
    tool = {"name": "weather", "description": "d", "input_schema": TOOL}
    with stack(tools) as (url, engine), anthropic_of(url) as client:
        asked: Any = [{"role": "user", "content": "weather?"}]
        how = {"model": model, "max_tokens": 50, "messages": asked, "tools": [tool]}
        if stream:
            with client.messages.stream(**how) as events:
                first = events.get_final_message()
        else:
            first = client.messages.create(**how)
        (call,) = first.content
        assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Paris"})
        assert first.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"}
        asked += [
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        second = client.messages.create(**how)
        assert second.content[0].text == "it is 4"
        turns = engine.seen.bodies[-1]["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
        assert engine.seen.bodies[-1]["tools"][0]["function"]["parameters"] == TOOL


def test_a_vote_through_messages(tools: type[Tools]) -> None:
    with stack(tools, answer_format="number") as (url, engine), anthropic_of(url) as client:
        found = client.messages.create(
            model="suffice/adaptive_consistency", max_tokens=50, messages=HI
        )
        assert found.suffice["samples_run"] == len(engine.seen.bodies) == 4
        with client.messages.stream(
            model="fake", max_tokens=50, messages=HI,
            extra_body={"suffice": {"policy": "adaptive_consistency"}},
        ) as stream:  # fmt: skip
            assert stream.get_final_text() == "it is 4"


def test_an_engine_that_speaks_messages_is_left_to_it(tools: type[Tools]) -> None:
    with stack(tools, others=native) as (url, engine), anthropic_of(url) as client:
        found = client.messages.create(model="fake", max_tokens=5, messages=HI)
        assert (found.id, found.content[0].text) == ("msg_engine", "native")
        with client.messages.stream(model="fake", max_tokens=5, messages=HI) as stream:
            assert stream.get_final_text() == "native"
        counted = client.messages.count_tokens(model="fake", messages=HI)
        assert counted.input_tokens == 12
        beta = client.beta.messages.create(
            model="fake",
            max_tokens=5,
            messages=HI,
            betas=["context-1m-2025-08-07"],
            extra_query={"beta": "true"},
        )
        assert beta.id == "msg_engine"
        assert engine.seen.bodies == []
        assert engine.seen.others[-1].path == "/v1/messages?beta=true"
        assert engine.seen.others[-1].headers["anthropic-beta"] == "context-1m-2025-08-07"
        assert "x-api-key" not in engine.seen.others[-1].headers


def test_tokens_of_a_message_are_counted_by_engines_that_only_tokenize(tools: type[Tools]) -> None:
    anthropic = pytest.importorskip("anthropic")

    def tokenizes(asked: OtherRequest) -> tuple[int, str, bytes] | None:
        if asked.path != "/tokenize":
            return None
        turns = json.loads(asked.body)["messages"]
        return 200, "application/json", json.dumps({"count": 10 * len(turns)}).encode()

    with stack(tools, others=tokenizes) as (url, _), anthropic_of(url) as client:
        found = client.messages.count_tokens(model="fake", system="Be short.", messages=HI)
        assert found.input_tokens == 20
    with (
        stack(tools) as (url, _),
        anthropic_of(url) as client,
        pytest.raises(anthropic.NotFoundError),
    ):
        client.messages.count_tokens(model="fake", messages=HI)


@pytest.mark.parametrize("model", MODELS)
def test_errors_of_messages(tools: type[Tools], model: str) -> None:
    anthropic = pytest.importorskip("anthropic")
    with stack(tools) as (url, _), anthropic_of(url) as client:

        def ask(text: str, **how: Any) -> Any:
            asked = [{"role": "user", "content": text}]
            return client.messages.create(max_tokens=9, messages=asked, **{"model": model, **how})

        with pytest.raises(anthropic.BadRequestError, match="too long") as caught:
            ask("refuse")
        assert caught.value.body["error"]["type"] == "invalid_request_error"
        with pytest.raises(anthropic.BadRequestError, match="web_search"):
            ask("x", tools=[{"type": "web_search_20250305", "name": "web_search"}])
        with pytest.raises(anthropic.NotFoundError, match="unknown model") as caught:
            ask("x", model="nope")
        assert caught.value.body["type"] == "error"
        with pytest.raises(anthropic.APIError, match=r"complete|closed"):
            list(ask("die", stream=True))


def test_a_key_where_anthropics_clients_put_it(tools: type[Tools], tmp_path: Any) -> None:
    anthropic = pytest.importorskip("anthropic")
    from suffice.ledger.api_keys import add_key, make_key
    from suffice.ledger.store import Store

    ledger = LedgerConfig(url=str(tmp_path / "ledger.db"), flush_s=0.01)
    store = Store(ledger.url)
    key, text = make_key("alice")
    add_key(store, key)
    store.close()
    with FakeEngine(script) as engine:
        config = tools.config_for(engine.url, ledger=ledger)
        with tools.serving(config, hooks=serving_hooks(config)) as url:
            with anthropic_of(url, text) as client:
                client.messages.create(model="fake", max_tokens=5, messages=HI)
            with (
                anthropic_of(url, "sk-ant-wrong") as client,
                pytest.raises(anthropic.AuthenticationError, match="this key is unknown"),
            ):
                client.messages.create(model="fake", max_tokens=5, messages=HI)


def test_who_leaves_a_translated_stream_stops_the_engine(tools: type[Tools]) -> None:
    with stack(tools) as (url, engine), openai_of(url) as client:
        stream = client.responses.create(model="fake", input="long", stream=True)
        for event in stream:
            if event.type == "response.output_text.delta":
                break
        stream.close()
        tools.wait_for(lambda: engine.seen.aborted == 1)


def test_the_ledger_books_translated_calls(tools: type[Tools]) -> None:
    with FakeEngine(script) as engine:
        config = tools.config_for(engine.url, ledger=LedgerConfig(flush_s=0.01, texts="prompts"))
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url, openai_of(url) as client:
            client.responses.create(model="fake", input="hi")
            list(client.responses.create(model="suffice/single", input="hi", stream=True))
            query = "SELECT endpoint, arm, ending, completion_tokens FROM requests ORDER BY arm"
            rows = lambda: opened.reader.database.execute(query, ())  # noqa: E731
            tools.wait_for(lambda: len(rows()) == 2)
            assert [tuple(row) for row in rows()] == [
                ("/v1/responses", "bypass", "answered", 3),
                ("/v1/responses", "single", "answered", 3),
            ]
            texts = opened.reader.database.execute("SELECT prompt FROM texts", ())
            assert [row[0] for row in texts] == ["hi", "hi"]


def test_bodies_that_are_none(tools: type[Tools]) -> None:
    with stack(tools) as (url, _), httpx2.Client(base_url=url) as client:
        for path, where in (("/v1/messages", "type"), ("/v1/responses", "error")):
            bad = client.post(path, content=b"{")
            assert bad.status_code == 400
            assert where in bad.json()
            assert client.post(path, json={"model": "fake"}).status_code == 400
            assert client.post(path, json={}).status_code == 400
