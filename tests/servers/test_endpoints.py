"""Every endpoint of an engine through the gateway, with official clients where there are any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Capabilities
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.cors import CorsConfig
from suffice.gateway.observe.serving_hooks import ServingHooks, open_hooks
from suffice.gateway.wire.headers import HeadersConfig
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import OtherRequest, Reply, Talents
from tests.scripted_server import ScriptedServer, plain
from tests.servers.tools import Tools

HELLO: Any = [{"role": "user", "content": "hi"}]
SOUND = bytes(range(256)) * 40


def embeddings(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "object": "list", "model": asked["model"],
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }  # fmt: skip


def others(asked: OtherRequest) -> tuple[int, str, bytes] | None:
    path = asked.path.partition("?")[0]
    if path == "/v1/audio/speech":
        return 200, "audio/mpeg", SOUND
    if path == "/v1/audio/transcriptions":
        assert SOUND in asked.body
        usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 2, "total_tokens": 16}
        said = {"text": "hello", "usage": usage}
        return 200, "application/json", json.dumps(said).encode()
    value = json.loads(asked.body)
    answers: dict[str, Any] = {
        "/v1/embeddings": embeddings,
        "/v1/rerank": lambda a: {
            "results": [{"index": 1, "relevance_score": 0.9}], "usage": {"total_tokens": 11},
        },
        "/v1/score": lambda a: {"data": [{"index": 0, "score": 0.5}]},
        "/tokenize": lambda a: {"tokens": [1, 2, 3], "count": 3},
        "/detokenize": lambda a: {"prompt": "x"},
        "/v1/moderations": lambda a: {"id": "m", "model": "fake", "results": []},
        "/v1/images/generations": lambda a: {"created": 1, "data": [{"b64_json": "eA=="}]},
        "/v1/something/new": lambda a: [1, 2],
    }  # fmt: skip
    if path not in answers:
        return None
    return 200, "application/json", json.dumps(answers[path](value)).encode()


@contextmanager
def stack(
    tools: type[Tools],
    *,
    hooks: bool = False,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[tuple[str, FakeEngine, ServingHooks | None]]:
    with FakeEngine(Reply.saying("it is 4"), others=others, headers=headers) as engine:
        config = tools.config_for(
            engine.url, patience_s=10.0, ledger=LedgerConfig(flush_s=0.01), **settings
        )
        opened = open_hooks(config) if hooks else None
        with tools.serving(config, hooks=opened.in_order if opened else ()) as url:
            yield url, engine, opened


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-theirs", max_retries=0)


def test_openais_client_on_every_endpoint(tools: type[Tools]) -> None:
    with stack(tools) as (url, engine, _), client_of(url) as client:
        found = client.embeddings.create(model="fake", input="x", encoding_format="float")
        assert found.data[0].embedding == [0.5, -1.0]
        speech = client.audio.speech.create(model="fake", voice="alloy", input="hello")
        assert speech.content == SOUND
        said = client.audio.transcriptions.create(model="fake", file=("a.wav", SOUND))
        assert said.text == "hello"
        assert client.moderations.create(model="fake", input="x").id == "m"
        assert client.images.generate(model="fake", prompt="x").data[0].b64_json == "eA=="
        assert {other.path for other in engine.seen.others} == {
            "/v1/embeddings", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/moderations",
            "/v1/images/generations",
        }  # fmt: skip
        assert engine.seen.probes == []


def test_paths_beside_openais(tools: type[Tools]) -> None:
    with stack(tools) as (url, engine, _), httpx2.Client(base_url=url) as client:
        ask = {"model": "fake", "query": "q", "documents": ["a", "b"], "prompt": "x"}
        assert client.post("/v1/rerank", json=ask).json()["usage"]["total_tokens"] == 11
        assert client.post("/v1/score", json=ask).json()["data"][0]["score"] == 0.5
        assert client.post("/tokenize", json=ask).json()["count"] == 3
        assert client.post("/detokenize", json=ask).json()["prompt"] == "x"
        assert client.post("/v1/something/new?deep=1&key=s", json=ask).json() == [1, 2]
        assert engine.seen.others[-1].path == "/v1/something/new?deep=1"
        missing = client.post("/v1/nothing/here", json=ask)
        assert missing.status_code == 404
        assert client.post("/v1/embeddings", json={"model": "nope"}).status_code == 404
        policy = client.post("/v1/embeddings", json={"model": "suffice/auto"})
        assert policy.status_code == 400
        assert "is a policy" in policy.json()["error"]["message"]


def test_several_upstreams_want_a_model(tools: type[Tools]) -> None:
    talents = (Talents(models=("one",)), Talents(models=("two",)))
    with (
        FakeEngine(Reply(), others=others, talents=talents[0]) as one,
        FakeEngine(Reply(), others=others, talents=talents[1]) as two,
        tools.serving(tools.config_for(one.url, two.url)) as url,
        httpx2.Client(base_url=url) as client,
    ):
        assert client.post("/tokenize", json={"model": "two", "prompt": "x"}).status_code == 200
        assert (len(one.seen.others), len(two.seen.others)) == (0, 1)
        unnamed = client.post("/tokenize", json={"prompt": "x"})
        assert unnamed.status_code == 400
        assert "name the model" in unnamed.json()["error"]["message"]


def test_the_ledger_books_them(tools: type[Tools]) -> None:
    with stack(tools, hooks=True) as (url, _, opened), client_of(url) as client:
        assert opened is not None
        client.embeddings.create(model="fake", input="x", encoding_format="float")
        client.audio.speech.create(model="fake", voice="alloy", input="hello").read()
        client.audio.transcriptions.create(model="fake", file=("a.wav", SOUND))
        tools.wait_for(lambda: len(rows(opened)) == 3)
        assert sorted(rows(opened)) == [
            ("/v1/audio/speech", "fake", "answered", None, None),
            ("/v1/audio/transcriptions", "fake", "answered", 14, 2),
            ("/v1/embeddings", "fake", "answered", 8, 0),
        ]


def rows(opened: ServingHooks) -> list[tuple[Any, ...]]:
    query = "SELECT endpoint, model, ending, prompt_tokens, completion_tokens FROM requests"
    return [tuple(row) for row in opened.reader.database.execute(query, ())]


# --- ways of writing a path


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions/", "/chat/completions", "/openai/v1/chat/completions",
     "/openai/deployments/fake/chat/completions?api-version=2024-10-21"],
)  # fmt: skip
def test_a_path_may_be_written_otherwise(tools: type[Tools], path: str) -> None:
    with stack(tools) as (url, engine, _):
        body = {"messages": HELLO} | ({} if "deployments" in path else {"model": "fake"})
        answer = httpx2.post(f"{url}{path}", json=body)
        assert answer.status_code == 200
        assert engine.seen.paths == ["/v1/chat/completions"]


def test_azures_client(tools: type[Tools]) -> None:
    with stack(tools) as (url, _, _):
        client = openai.AzureOpenAI(
            azure_endpoint=url, api_key="k", api_version="2024-10-21", max_retries=0
        )
        with client:
            answer = client.chat.completions.create(model="fake", messages=HELLO)
        assert answer.choices[0].message.content == "it is 4"


def test_methods(tools: type[Tools]) -> None:
    with stack(tools) as (url, _, _), httpx2.Client(base_url=url) as client:
        assert client.head("/health").status_code == 200
        assert client.head("/v1/models").status_code == 200
        assert client.get("/v1/models/").status_code == 200
        assert client.get("/models").status_code == 200
        allowed = client.options("/v1/chat/completions")
        assert (allowed.status_code, allowed.headers["allow"]) == (204, "OPTIONS, POST")
        assert client.options("/health").headers["allow"] == "GET, HEAD, OPTIONS"
        assert client.options("/nothing").status_code == 404
        assert "access-control-allow-origin" not in allowed.headers
        wrong = client.get("/v1/chat/completions")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_pages_of_named_origins(tools: type[Tools]) -> None:
    page, other = {"origin": "https://app.example"}, {"origin": "https://evil.example"}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    with (
        stack(tools, hooks=True, cors=CorsConfig(origins=("https://app.example",))) as (url, _, _),
        httpx2.Client(base_url=url) as client,
    ):
        path, body = "/v1/chat/completions", {"model": "fake", "messages": HELLO}
        before = client.options(path, headers=page | asks)
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in before.headers
        answer = client.post(path, json=body, headers=page)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
        assert client.options(path, headers=other | asks).status_code == 400
        assert client.post(path, json=body, headers=other).status_code == 403


# --- upstreams that write their paths otherwise


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("/api/paas/v4/", "/api/paas/v4/chat/completions"),
        ("/openai/deployments/x?api-version=2024-10-21",
         "/openai/deployments/x/chat/completions?api-version=2024-10-21"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["fake", "suffice/single"])
def test_other_base_paths(tools: type[Tools], written: str, seen: str, model: str) -> None:
    with FakeEngine(Reply()) as engine:
        upstream = UpstreamConfig(url=engine.url + written, api_key="k", api_key_header="api-key")
        with tools.serving(GatewayConfig(upstreams=(upstream,))) as url:
            body = {"model": model, "messages": HELLO}
            assert httpx2.post(f"{url}/v1/chat/completions", json=body).status_code == 200
        assert engine.seen.paths[-1] == seen
        assert engine.seen.headers[-1]["api-key"] == "k"
        assert "authorization" not in engine.seen.headers[-1]


def test_an_upstream_without_a_list(tools: type[Tools]) -> None:
    with FakeEngine(Reply(), talents=Talents(models=("deployed",))) as engine:
        upstream = UpstreamConfig(url=engine.url, models=("deployed",))
        with (
            tools.serving(GatewayConfig(upstreams=(upstream,))) as url,
            client_of(url) as client,
        ):
            assert client.models.list().data[0].id == "deployed"
            client.chat.completions.create(model="deployed", messages=HELLO)
        assert engine.seen.gets == []


# --- headers


@pytest.mark.parametrize("model", ["fake", "suffice/single"])
@pytest.mark.parametrize("stream", [True, False])
def test_headers_pass_both_ways(tools: type[Tools], model: str, stream: bool) -> None:
    theirs = {
        "x-request-id": "req.mine:1", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "x-session-id": "s", "x-data-parallel-rank": "1", "openai-organization": "org",
        "x-tenant": "t", "cookie": "c=1", "x-forwarded-for": "1.2.3.4",
    }  # fmt: skip
    engines = {
        "x-ratelimit-remaining-requests": "7", "openai-processing-ms": "12", "x-other": "o",
        "x-request-id": "engine-1",
    }  # fmt: skip
    settings = {"headers": HeadersConfig(to_upstream=("x-tenant",))}
    with (
        FakeEngine(Reply.saying("it is 4"), headers=engines) as engine,
        tools.serving(tools.config_for(engine.url, **settings)) as url,
        client_of(url) as client,
    ):
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=HELLO, extra_headers=theirs, stream=stream
        )
        raw.http_response.read()
        sent = engine.seen.headers[-1]
        assert {name: sent.get(name) for name in theirs} == {
            **theirs, "cookie": None, "x-forwarded-for": None,
        }  # fmt: skip
        assert "authorization" not in sent
        assert raw.headers["x-request-id"] == "req.mine:1"
        assert raw.headers["x-suffice-id"].startswith("req-")
        if model == "fake":
            assert raw.headers["x-ratelimit-remaining-requests"] == "7"
            assert raw.headers["openai-processing-ms"] == "12"
            assert raw.headers["x-suffice-upstream-request-id"] == "engine-1"
            assert "x-other" not in raw.headers


def test_an_id_that_cannot_be_kept_is_replaced(tools: type[Tools]) -> None:
    with stack(tools) as (url, engine, _), client_of(url) as client:
        for odd in ("x" * 200, "a b"):
            raw = client.chat.completions.with_raw_response.create(
                model="fake", messages=HELLO, extra_headers={"x-request-id": odd}
            )
            assert raw.headers["x-request-id"].startswith("req-")
            assert engine.seen.headers[-1]["x-request-id"] == raw.headers["x-request-id"]


def test_samples_have_ids_of_their_own(tools: type[Tools]) -> None:
    with stack(tools, answer_format="number") as (url, engine, _), client_of(url) as client:
        client.chat.completions.create(
            model="suffice/adaptive_consistency",
            messages=HELLO,
            extra_headers={"x-request-id": "mine"},
        )
        ids = [headers["x-request-id"] for headers in engine.seen.headers]
        assert len(set(ids)) == len(ids) == 4
        assert all(one.startswith("mine") for one in ids)


# --- limits of answers that are not streamed


def test_a_long_answer_that_is_not_streamed_is_waited_for(tools: type[Tools]) -> None:
    # Nothing comes before the whole answer is there: first_byte_s is for streams.
    with FakeEngine(Reply(tokens=("a",), delay_s=1.0)) as engine:
        upstream = UpstreamConfig(url=engine.url, first_byte_s=0.2, silence_s=0.2)
        with (
            tools.serving(GatewayConfig(upstreams=(upstream,))) as url,
            client_of(url) as client,
        ):
            client.chat.completions.create(model="fake", messages=HELLO)
            with pytest.raises(openai.APIError, match=r"sent nothing for 0\.2 s"):
                list(client.chat.completions.create(model="fake", messages=HELLO, stream=True))


def test_after_a_time_out_it_is_not_begun_anew(tools: type[Tools]) -> None:
    with (
        FakeEngine(Reply(delay_s=5.0)) as one,
        FakeEngine(Reply(delay_s=5.0)) as two,
        tools.serving(tools.config_for(one.url, two.url, patience_s=0.5)) as url,
        client_of(url) as client,
    ):
        with pytest.raises(openai.InternalServerError, match=r"sent nothing for 0\.5 s") as caught:
            client.chat.completions.create(model="fake", messages=HELLO)
        assert caught.value.status_code == 504
        assert len(one.seen.bodies) + len(two.seen.bodies) == 1


def test_a_body_that_trickles_is_bounded_as_a_whole(tools: type[Tools]) -> None:
    # Every piece is in time; the answer as a whole, a minute of pieces, is not.
    def steps(body: dict[str, Any]) -> list[Any]:
        whole = plain(b'{"choices": []}' + b" " * 1000)
        return [part for byte in whole for part in (bytes([byte]), 0.05)]

    limits = Timeouts(first_byte_s=30.0, silence_s=30.0, answer_s=0.3)
    able = Capabilities(models=("fake",))
    with (
        ScriptedServer(steps) as server,
        tools.serving(
            GatewayConfig(), [OpenAIBackend(server.url, timeouts=limits, declared=able)]
        ) as url,
        client_of(url) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="fake", messages=HELLO)
    assert caught.value.status_code == 504


# --- odd ways of streaming


def streamed(kind: str, gap: str) -> Any:
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    events = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    body = "".join(f"data: {event}{gap}" for event in events).encode()
    return lambda asked: [plain(body, kind=kind)]


@pytest.mark.parametrize("model", ["fake", "suffice/single"])
@pytest.mark.parametrize(
    ("kind", "gap"),
    [
        ("Text/Event-Stream", "\n\n"),
        ("TEXT/EVENT-STREAM; charset=UTF-8", "\n\n"),
        ("text/event-stream", "\r\r"),
        ("text/event-stream", "\n\r\n"),
        ("text/event-stream", "\r\n\r\n"),
        ("text/event-stream", "\r\n\n"),
        ("text/event-stream", "\r\r\n"),
        ("text/event-stream", "\n\n\n"),
    ],
)
def test_media_types_and_ends_of_lines(tools: type[Tools], model: str, kind: str, gap: str) -> None:
    able = Capabilities(models=("fake",))
    with (
        ScriptedServer(streamed(kind, gap)) as server,
        tools.serving(GatewayConfig(), [OpenAIBackend(server.url, declared=able)]) as url,
        client_of(url) as client,
    ):
        chunks = client.chat.completions.create(model=model, messages=HELLO, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "4"


@pytest.mark.parametrize("words", ["stream_options: Extra inputs are not permitted", "Bad Request"])
def test_an_engine_that_refuses_stream_options(tools: type[Tools], words: str) -> None:
    script = lambda number, body: (  # noqa: E731
        Reply(status=400, error=words) if "stream_options" in body else Reply.saying("it is 4")
    )
    with (
        FakeEngine(script) as engine,
        tools.serving(tools.config_for(engine.url)) as url,
        client_of(url) as client,
    ):
        for _ in range(3):
            answer = client.chat.completions.create(model="suffice/single", messages=HELLO)
            assert answer.choices[0].message.content == "it is 4"
        refused = [body for body in engine.seen.bodies if "stream_options" in body]
        assert len(refused) == 1  # it is learned once


def test_what_is_refused_for_another_reason_keeps_its_reason(tools: type[Tools]) -> None:
    with (
        FakeEngine(Reply(status=400, error="too long")) as engine,
        tools.serving(tools.config_for(engine.url)) as url,
        client_of(url) as client,
        pytest.raises(openai.BadRequestError, match="too long"),
    ):
        client.chat.completions.create(model="suffice/single", messages=HELLO)


def test_feedback_by_the_clients_own_id(tools: type[Tools]) -> None:
    with stack(tools, hooks=True) as (url, _, opened), client_of(url) as client:
        assert opened is not None
        own = {"x-request-id": "task/7:2"}
        raw = None
        for _ in range(2):  # the same name twice: the newest is meant
            raw = client.chat.completions.with_raw_response.create(
                model="fake", messages=HELLO, extra_headers=own
            )
        assert raw is not None
        judged = httpx2.post(f"{url}/v1/feedback", json={"request_id": "task/7:2", "correct": True})
        assert judged.json()["request_id"] == raw.headers["x-suffice-id"]
        query = "SELECT count(*) FROM requests WHERE request_id = 'task/7:2'"
        assert opened.reader.database.execute(query, ())[0][0] == 2  # both are in the books
        unknown = httpx2.post(f"{url}/v1/feedback", json={"request_id": "nobody", "correct": True})
        assert unknown.status_code == 404
