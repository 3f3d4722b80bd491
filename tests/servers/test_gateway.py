"""The gateway as its users meet it: the official client, a real port, an engine behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from suffice.backends.fake import FakeBackend, Script
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Json, Misdeed, Reply, Talents
from tests.scripted_server import ScriptedServer, framed, plain
from tests.servers.tools import Tools

MESSAGES: Any = [{"role": "user", "content": "what is 2+2"}]
NUMBER = {"answer_format": "number"}
VOTE = {"suffice": {**NUMBER, "policy": "adaptive_consistency"}}


@contextmanager
def stack(
    tools: type[Tools], script: Any, *, talents: Talents | None = None, **settings: Any
) -> Iterator[tuple[openai.OpenAI, FakeEngine]]:
    with (
        FakeEngine(script, talents=talents) as engine,
        tools.serving(tools.config_for(engine.url, **settings)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client, engine


@contextmanager
def held_stack(tools: type[Tools]) -> Iterator[tuple[openai.OpenAI, threading.Event]]:
    """An engine that says `a`, and the rest of `a b c d e f` once the event is set."""
    go_on = threading.Event()

    def event(delta: Json | None, **rest: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "fake",
                 "choices": [] if rest else [choice | {"delta": delta or {}}], **rest}  # fmt: skip
        return framed(b"data: " + json.dumps(whole).encode() + b"\n\n")

    def steps(body: Json) -> Iterator[Any]:
        if not body.get("stream"):  # a probe
            yield plain(b'{"error": {"message": "no"}}', status=400)
            return
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        yield b"transfer-encoding: chunked\r\n\r\n" + event({"role": "assistant", "content": ""})
        yield event({"content": "a"})
        while not go_on.is_set():
            yield 0.01
        for word in "bcdef":
            yield event({"content": f" {word}"})
        usage = {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
        yield event(None) + event(None, usage=usage) + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    with (
        ScriptedServer(steps) as server,
        tools.serving(tools.config_for(server.url, patience_s=60.0)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client, go_on


def votes(*answers: str, **how: Any) -> Any:
    return lambda number, body: Reply.saying(f"it is {answers[number % len(answers)]}", **how)


def receipt_of(response: Any) -> Json:
    found: Json = response.model_extra["suffice"]
    return found


# --- passing through


def test_an_upstreams_own_model_passes_untouched(tools: type[Tools]) -> None:
    with stack(tools, Reply.saying("the answer is 4")) as (client, engine):
        raw = client.chat.completions.with_raw_response.create(
            model="fake", messages=MESSAGES, n=3, logprobs=True, top_logprobs=2, seed=7,
            extra_body={"made_up_field": {"deep": [1, 2]}},
        )  # fmt: skip
        response = raw.parse()
    assert [choice.message.content for choice in response.choices] == ["the answer is 4"] * 3
    logprobs = response.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content[0].top_logprobs) == 2
    assert raw.headers["x-suffice-arm"] == "bypass"
    assert response.model_extra == {"engine_extra": {"kept": True}}  # theirs, nothing of ours
    assert engine.seen.bodies[0]["made_up_field"] == {"deep": [1, 2]}
    assert (engine.seen.bodies[0]["n"], engine.seen.bodies[0]["seed"]) == (3, 7)


def test_the_very_bytes_are_forwarded(tools: type[Tools]) -> None:
    body = b'{"model" :"fake",  "messages":[{"role":"user","content":"\\u00e9"}], "x": 1.50}'
    with FakeEngine(Reply()) as engine, tools.serving(tools.config_for(engine.url)) as url:
        answer = httpx2.post(f"{url}/v1/chat/completions", content=body)
        assert answer.status_code == 200
        assert int(engine.seen.headers[0]["content-length"]) == len(body)


def test_pass_through_streams_as_it_comes(tools: type[Tools]) -> None:
    with held_stack(tools) as (client, go_on):
        stream = client.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
        seen = []
        for chunk in stream:
            seen += [choice.delta.content for choice in chunk.choices]
            go_on.set()  # the engine says the rest only now
    assert "".join(text or "" for text in seen) == "a b c d e f"


def test_images_and_tools_pass_through_and_through_a_policy(tools: type[Tools]) -> None:
    messages: Any = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        }
    ]
    functions: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    reply = Reply(tokens=(), tool_call=("f", '{"x": 1}'), finish_reason="tool_calls")
    with stack(tools, reply) as (client, engine):
        for model in ("fake", "suffice/single"):
            stream = client.chat.completions.create(
                model=model, messages=messages, tools=functions, tool_choice="auto", stream=True
            )
            arguments = ""
            reason = None
            for chunk in stream:
                for choice in chunk.choices:
                    for call in choice.delta.tool_calls or []:
                        assert call.function is not None
                        arguments += call.function.arguments or ""
                    reason = choice.finish_reason or reason
            assert (json.loads(arguments), reason) == ({"x": 1}, "tool_calls")
        assert engine.seen.bodies[0]["messages"] == engine.seen.bodies[1]["messages"] == messages
        assert engine.seen.bodies[1]["tools"] == functions
        assert engine.seen.bodies[1]["tool_choice"] == "auto"


# --- policies


def test_a_vote_and_its_receipt(tools: type[Tools]) -> None:
    with stack(tools, votes("4")) as (client, engine):
        raw = client.chat.completions.with_raw_response.create(
            model="suffice/adaptive_consistency", messages=MESSAGES, extra_body={"suffice": NUMBER}
        )
        response = raw.parse()
        assert len(engine.seen.bodies) == 4  # 4-0 is the first stop at .95
    receipt = receipt_of(response)
    assert response.choices[0].message.content == "it is 4"
    assert (receipt["samples_run"], receipt["votes"]) == (4, {"4": 4})
    assert receipt["confidence"] == 1.0
    assert receipt["measure"] == pytest.approx(1 - 0.5**5)
    assert receipt["saved"] == pytest.approx(-3.0)  # 4 samples instead of one call
    saving = receipt["saving"]
    assert (saving["baseline"], saving["basis"], saving["method"]) == (
        "single@fake",
        "measured",
        "calls",
    )
    assert raw.headers["x-suffice-saved"] == "-3.0000"
    assert raw.headers["x-suffice-baseline"] == "single@fake"
    assert [sample["completion_tokens"] for sample in receipt["samples"]] == [3] * 4
    assert response.usage is not None
    assert response.usage.completion_tokens == 12  # every sample's, not only the accepted one's
    assert raw.headers["x-suffice-arm"] == "adaptive_consistency"
    assert raw.headers["x-suffice-samples"] == "4"
    assert float(raw.headers["x-suffice-overhead-ms"]) >= 0


def test_the_majority_wins_against_a_minority(tools: type[Tools]) -> None:
    with stack(tools, votes("4", "4", "5", "4", "4", "4", "4")) as (client, _):
        response = client.chat.completions.create(
            model="fake", messages=MESSAGES, extra_body=VOTE, logprobs=True, top_logprobs=1
        )
    assert response.choices[0].message.content == "it is 4"
    logprobs = response.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == ["it", " is", " 4"]
    assert len(logprobs.content[0].top_logprobs) == 1


def test_a_single_sample_streams_as_it_comes(tools: type[Tools]) -> None:
    with held_stack(tools) as (client, go_on):
        stream = client.chat.completions.create(
            model="suffice/single", messages=MESSAGES, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            if chunk.choices and chunk.choices[0].delta.content:
                go_on.set()  # the engine says the rest only now
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(text or "" for text in texts) == "a b c d e f"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert receipt_of(chunks[-2])["arm"] == "single"
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("model", ["suffice/single", "suffice/adaptive_consistency"])
@pytest.mark.parametrize("n", [1, 3])
def test_streamed_text_is_unstreamed_text(tools: type[Tools], model: str, n: int) -> None:
    ask: Any = {"model": model, "messages": MESSAGES, "n": n, "extra_body": {"suffice": NUMBER}}
    with stack(tools, votes("4", delay_s=0.002)) as (client, _):
        whole = client.chat.completions.create(**ask)
        pieces = [""] * n
        ends = 0
        for chunk in client.chat.completions.create(**ask, stream=True):
            for choice in chunk.choices:
                pieces[choice.index] += choice.delta.content or ""
                ends += choice.finish_reason == "stop"
    assert pieces == [choice.message.content for choice in whole.choices] == ["it is 4"] * n
    assert ends == n


def test_a_vote_keeps_the_stream_alive_until_it_is_decided(tools: type[Tools]) -> None:
    wishes = {**NUMBER, "policy": {"policy": "self_consistency", "samples": 3}}
    body = {"model": "suffice/auto", "messages": MESSAGES, "stream": True, "suffice": wishes}
    with (
        FakeEngine(votes("4", delay_s=0.1)) as engine,
        tools.serving(tools.config_for(engine.url, keep_alive_s=0.05)) as url,
    ):
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body)
    before, _, after = answer.text.partition("data: ")
    assert before.count(": keep-alive\n\n") >= 2
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert answer.headers["x-suffice-arm"] == "self_consistency"
    assert "assistant" in after.split("\n")[0]


def test_text_completions(tools: type[Tools]) -> None:
    with stack(tools, votes("4")) as (client, engine):
        response = client.completions.create(
            model="suffice/adaptive_consistency", prompt="2+2=", extra_body={"suffice": NUMBER}
        )
        streamed = client.completions.create(model="suffice/single", prompt="2+2=", stream=True)
        text = "".join(chunk.choices[0].text for chunk in streamed if chunk.choices)
        assert engine.seen.bodies[0]["prompt"] == "2+2="
    assert response.choices[0].text == text == "it is 4"
    assert receipt_of(response)["samples_run"] == 4


def test_reasoning_has_both_names(tools: type[Tools]) -> None:
    with stack(tools, Reply(tokens=("4",), reasoning=("hm", " so"))) as (client, _):
        message = client.chat.completions.create(
            model="suffice/single", messages=MESSAGES
        ).choices[0].message  # fmt: skip
    assert message.content == "4"
    extra = message.model_extra or {}
    assert (extra["reasoning"], extra["reasoning_content"]) == ("hm so", "hm so")


def test_limits_effort_and_unknown_fields_reach_every_sample(tools: type[Tools]) -> None:
    talents = Talents(thinking_switch=True)
    with stack(tools, votes("4"), talents=talents) as (client, engine):
        client.chat.completions.create(
            model="suffice/adaptive_consistency", messages=MESSAGES, max_completion_tokens=50,
            reasoning_effort="none", seed=10, stop=["END"],
            extra_body={"suffice": NUMBER, "made_up": 1},
        )  # fmt: skip
        bodies = engine.seen.bodies
    assert len(bodies) == 4
    assert {body["max_tokens"] for body in bodies} == {50}
    assert {body["seed"] for body in bodies} == {10, 11, 12, 13}
    assert all(body["made_up"] == 1 and body["stop"] == ["END"] for body in bodies)
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in bodies)
    assert not any("suffice" in body for body in bodies)


def test_the_target_moves_the_threshold(tools: type[Tools]) -> None:
    with stack(tools, votes("4")) as (client, engine):
        wishes = {"suffice": {**NUMBER, "policy": "adaptive_consistency", "target": 0.7}}
        client.chat.completions.create(model="fake", messages=MESSAGES, extra_body=wishes)
        assert len(engine.seen.bodies) == 1  # one vote gives .75


def test_free_form_text_is_not_voted_on(tools: type[Tools]) -> None:
    with stack(tools, votes("4")) as (client, engine):
        response = client.chat.completions.create(
            model="suffice/adaptive_consistency", messages=MESSAGES
        )
        assert len(engine.seen.bodies) == 1
    assert "free-form" in receipt_of(response)["why"]


def test_the_operators_policy_answers_for_the_upstreams_model(tools: type[Tools]) -> None:
    tables = {"careful": {"policy": "self_consistency", "samples": 3}}
    settings = {"policy": "careful", "policies": tables, "answer_format": "number"}
    with stack(tools, votes("4"), **settings) as (client, engine):
        response = client.chat.completions.create(model="fake", messages=MESSAGES)
        assert receipt_of(response)["samples_run"] == 3
        names = {card.id for card in client.models.list()}
        client.chat.completions.create(
            model="fake", messages=MESSAGES, extra_body={"suffice": {"policy": "bypass"}}
        )
        assert len(engine.seen.bodies) == 4
        assert "suffice" not in engine.seen.bodies[-1]
    assert {"fake", "suffice/auto", "suffice/careful", "suffice/adaptive_consistency"} <= names


def test_two_upstreams(tools: type[Tools]) -> None:
    with (
        FakeEngine(votes("1"), talents=Talents(models=("small",))) as one,
        FakeEngine(votes("2"), talents=Talents(models=("large",))) as two,
        tools.serving(tools.config_for(one.url, two.url, model="large")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        said = [
            client.chat.completions.create(model=model, messages=MESSAGES).choices[0].message
            for model in ("small", "large", "suffice/single")
        ]
        rungs = "adaptive_consistency:max_samples=2,accept=0.99@small > single@large"
        cascade = client.chat.completions.create(
            model="suffice/auto",
            messages=MESSAGES,
            extra_body={"suffice": {**NUMBER, "policy": rungs}},
        )
        assert httpx2.get(f"{url}/health").json()["status"] == "ok"
    assert [message.content for message in said] == ["it is 1", "it is 2", "it is 2"]
    assert cascade.choices[0].message.content == "it is 2"
    receipt = receipt_of(cascade)
    assert [sample["model"] for sample in receipt["samples"]] == ["small", "small", "large"]


def test_a_model_in_this_process(tools: type[Tools]) -> None:
    backend = FakeBackend([Script.of("in here")])
    with (
        tools.serving(tools.config_for(), [backend]) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        response = client.chat.completions.create(model="fake", messages=MESSAGES, n=2)
    assert [choice.message.content for choice in response.choices] == ["in here"] * 2
    receipt = receipt_of(response)  # one form, whatever n is
    assert [choice["index"] for choice in receipt["choices"]] == [0, 1]
    assert [sample["choice"] for sample in receipt["samples"]] == [0, 1]
    assert receipt["saved"] is None


class BrokenBackend(FakeBackend):
    def _script_of(self, call: Any) -> Script:
        raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_bug_is_a_500_that_tells_nothing(
    tools: type[Tools], streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "suffice/single", "messages": MESSAGES, "stream": streaming}
    with tools.serving(tools.config_for(), [BrokenBackend([Script.of("x")])]) as url:
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "internal error, see the gateway's log"
    assert "ZeroDivisionError: a bug" in caplog.text


# --- leaving early


@pytest.mark.parametrize("model", ["fake", "suffice/single", "suffice/self_consistency"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_leaving_client_stops_every_upstream_request(
    tools: type[Tools], model: str, streaming: bool
) -> None:
    body = {"model": model, "messages": MESSAGES, "stream": streaming, "suffice": NUMBER}
    if model == "fake":
        del body["suffice"]
    reply = Reply(tokens=("4 ",) * 400, delay_s=0.02)
    with FakeEngine(reply) as engine, tools.serving(tools.config_for(engine.url)) as url:
        wanted = 16 if "consistency" in model else 1
        with httpx2.Client(base_url=url, timeout=15.0 if streaming else 0.5) as client:
            if streaming:
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    pieces = answer.iter_bytes()  # dropping it would close the connection
                    next(pieces)  # at least a keep-alive has come
                    tools.wait_for(lambda: engine.seen.running == wanted)
            else:
                with pytest.raises(httpx2.ReadTimeout):
                    client.post("/v1/chat/completions", json=body)
        tools.wait_for(lambda: engine.seen.aborted == wanted)
        assert engine.seen.running == 0


# --- faults


def patience_of(reply: Reply) -> float:
    """Seconds that an upstream may be silent: few only where it is silent for good."""
    return 0.6 if reply.misdeed == "hang" else 20.0


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (Reply(misdeed="cut"), 502, "upstream_disconnected"),
        (Reply(misdeed="malformed"), 502, "upstream_malformed"),
        (Reply(misdeed="hang"), 504, "upstream_timeout"),
        (Reply(status=503, error="overloaded"), 503, "upstream_rejected"),
        (Reply(status=401, error="bad key"), 502, "upstream_rejected"),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
def test_faults_before_the_first_token_have_a_status(
    tools: type[Tools], reply: Reply, status: int, code: str, streaming: bool
) -> None:
    with (
        stack(tools, reply, keep_alive_s=5.0, patience_s=patience_of(reply)) as (client, _),
        pytest.raises(openai.APIStatusError) as caught,
    ):
        stream: Any = client.chat.completions.create(
            model="suffice/single", messages=MESSAGES, stream=streaming
        )
        list(stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize("misdeed", ["cut", "malformed", "hang", "error_event"])
@pytest.mark.parametrize("model", ["fake", "suffice/single"])
def test_faults_in_the_middle_of_a_stream_are_errors_not_answers(
    tools: type[Tools], misdeed: Misdeed, model: str
) -> None:
    reply = Reply(tokens=("a", "b", "c"), misdeed=misdeed, misdeed_after=2)
    with stack(tools, reply, patience_s=patience_of(reply)) as (client, _):
        seen = ""
        with pytest.raises(openai.APIError):
            for chunk in client.chat.completions.create(
                model=model, messages=MESSAGES, stream=True
            ):
                seen += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert seen == "ab"


def test_some_samples_may_fail(tools: type[Tools]) -> None:
    def script(number: int, body: Json) -> Reply:
        broken = Reply(tokens=("it", " is"), misdeed="cut", misdeed_after=1)
        return broken if number % 2 else Reply.saying("it is 4")

    with stack(tools, script) as (client, _):
        response = client.chat.completions.create(model="fake", messages=MESSAGES, extra_body=VOTE)
    receipt = receipt_of(response)
    assert response.choices[0].message.content == "it is 4"
    assert {sample["status"] for sample in receipt["samples"]} == {"finished", "failed"}


def test_nobody_upstream(tools: type[Tools]) -> None:
    with (
        tools.serving(tools.config_for("http://127.0.0.1:9")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        for model in ("fake", "suffice/auto"):
            with pytest.raises(openai.APIStatusError, match="is the server running") as caught:
                client.chat.completions.create(model=model, messages=MESSAGES)
            assert caught.value.status_code == 502
        health = httpx2.get(f"{url}/health")
    assert (health.status_code, health.json()["status"]) == (503, "down")


def test_a_policy_that_needs_logprobs_says_so(tools: type[Tools]) -> None:
    talents = Talents(logprobs=False)
    with (
        stack(tools, votes("4"), talents=talents) as (client, _),
        pytest.raises(openai.BadRequestError, match="needs logprobs") as caught,
    ):
        client.chat.completions.create(
            model="suffice/deepconf", messages=MESSAGES, extra_body={"suffice": NUMBER}
        )
    assert caught.value.code == "lacks_capability"


def test_nothing_to_extract_is_answered_and_admitted(tools: type[Tools]) -> None:
    with stack(tools, Reply.saying("I do not know")) as (client, _):
        budget = {"suffice": {**VOTE["suffice"], "budget": {"samples": 4}}}
        response = client.chat.completions.create(
            model="fake", messages=MESSAGES, extra_body=budget
        )
    receipt = receipt_of(response)
    assert response.choices[0].message.content == "I do not know"
    assert (receipt["escalated"], receipt["votes"]) == (True, {})
    assert receipt["confidence"] is None


@pytest.mark.parametrize("budget", [{"completion_tokens": 0}, {"samples": 0}])
def test_a_budget_too_small(tools: type[Tools], budget: dict[str, int]) -> None:
    wishes = {"suffice": {**VOTE["suffice"], "budget": budget}}
    with (
        stack(tools, votes("4")) as (client, engine),
        pytest.raises(openai.BadRequestError, match="leaves no room for") as caught,
    ):
        client.chat.completions.create(model="fake", messages=MESSAGES, extra_body=wishes)
    assert caught.value.code == "budget_too_small"
    assert engine.seen.bodies == []


def test_over_long_prompts_and_bodies(tools: type[Tools]) -> None:
    with stack(tools, votes("4"), max_body_bytes=2000) as (client, _):
        with pytest.raises(openai.BadRequestError, match="cannot be greater than 4096"):
            client.chat.completions.create(
                model="suffice/single", messages=MESSAGES, max_tokens=5000
            )
        with pytest.raises(openai.APIStatusError, match="2000 bytes") as caught:
            client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "x" * 3000}]
            )
    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"model": "other"}, 404, "unknown model"),
        ({"model": "suffice/adaptive_consistancy"}, 404, "adaptive_consistency"),
        ({"model": "suffice/single", "n": 99}, 400, "at most 16"),
        ({"model": "suffice/single", "temperature": -1}, 400, "temperature"),
        ({"model": "suffice/single", "messages": [{"role": 7}]}, 400, "messages.0.role"),
        ({"model": "suffice/single", "messages": []}, 400, "messages"),
        ({"model": "suffice/single", "reasoning_effort": "huge"}, 400, "effort"),
        ({"suffice": {"polcy": "single"}}, 400, "suffice.polcy"),
        ({"suffice": {"policy": "adaptive_consistency:max=3"}}, 404, "max_samples"),
        ({"suffice": {"policy": "single", "answer_format": "poem"}}, 404, "answer format"),
        ({"suffice": {"policy": "single", "target": 0.9}}, 400, "target"),
        ({"suffice": {"budget": {"samples": -1}}}, 400, "suffice.budget.samples"),
    ],
)
def test_bad_requests_are_named(
    tools: type[Tools], changes: dict[str, Any], status: int, said: str
) -> None:
    with FakeEngine(votes("4")) as engine, tools.serving(tools.config_for(engine.url)) as url:
        body = {"model": "fake", "messages": MESSAGES, **changes}
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body)
        assert engine.seen.bodies == []
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"messages": []}'])
def test_bodies_that_are_no_request(tools: type[Tools], content: bytes) -> None:
    with tools.serving(tools.config_for("http://127.0.0.1:9")) as url:
        answer = httpx2.post(f"{url}/v1/chat/completions", content=content)
        lost = httpx2.get(f"{url}/v1/nowhere")
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "not_found")
