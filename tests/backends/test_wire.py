from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from suffice.backends.chunk_reader import ChunkReader
from suffice.backends.protocol import Capabilities
from suffice.backends.think_block import check_thinking
from suffice.backends.wire import (
    Dialect,
    chat_body,
    completion_body,
    error_message,
    logprob_json,
    logprobs_of,
)
from suffice.core.completions import TokenLogprob
from suffice.core.draw import Draw
from suffice.core.errors import (
    LacksCapability,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRejected,
)
from suffice.core.requests import (
    ImagePart,
    Message,
    OpaquePart,
    Request,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from suffice.core.thinking import ModeTokens, Thinking


def body_of(
    request: Request,
    sampling: Sampling | None = None,
    *,
    thinking: Thinking | None = None,
    prefill: str = "",
    capabilities: Capabilities | None = None,
    dialect: Dialect | None = None,
) -> dict[str, Any]:
    return chat_body(
        Draw(request, sampling or Sampling(), model="m", thinking=thinking, prefill=prefill),
        capabilities=capabilities or Capabilities(),
        dialect=dialect or Dialect(),
    )


QUESTION = Request(messages=(Message(role="user", content="q"),), model="m")
CHOOSES = Capabilities(thinking_switch="enable_thinking", mode_tokens=ModeTokens(think=6, short=5))


def test_only_what_was_asked_is_sent() -> None:
    assert body_of(QUESTION) == {
        "messages": [{"role": "user", "content": "q"}],
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_everything_has_its_place() -> None:
    request = Request(
        messages=(
            Message(
                role="user",
                content=(
                    TextPart(text="t"),
                    ImagePart(url="data:x", detail="low"),
                    OpaquePart(json='{"type": "input_audio", "input_audio": {"data": "aa"}}'),
                ),
                name="ann",
            ),
            Message(role="user", content="x", json='{"role": "user", "content": "x", "w": [1]}'),
            Message(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)),
            Message(role="tool", content="7", tool_call_id="1"),
        ),
        model="m",
        tools=(Tool(name="f", parameters_json='{"type": "object"}', strict=True),),
        tool_choice_json='"auto"',
        response_format_json='{"type": "json_object"}',
        priority=3,
        extra_json='{"guided_choice": ["a"], "messages": "overridden", "n": 8, "best_of": 9}',
    )
    sampling = Sampling(
        max_tokens=9, temperature=0.0, top_k=3, stop=("x",), seed=1, top_logprobs=50
    )
    body = body_of(
        request,
        sampling,
        capabilities=Capabilities(max_top_logprobs=20),
        dialect=Dialect(max_tokens_field="max_completion_tokens", cumulative_usage=True),
    )
    assert body["messages"] == [
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "aa"}},
            ],
        },
        {"role": "user", "content": "x", "w": [1]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "content": "7", "tool_call_id": "1"},
    ]
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body
    assert (body["temperature"], body["top_k"], body["stop"], body["seed"]) == (0.0, 3, ["x"], 1)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert body["tools"][0]["function"] == {
        "name": "f",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert (body["tool_choice"], body["priority"]) == ("auto", 3)
    assert body["response_format"] == {"type": "json_object"}
    assert body["guided_choice"] == ["a"]
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_prefill_by_dialect() -> None:
    flagged = body_of(QUESTION, prefill="So", dialect=Dialect(prefill="continue_final_message"))
    assert flagged["messages"][-1] == {"role": "assistant", "content": "So"}
    assert flagged["continue_final_message"] is True
    assert flagged["add_generation_prompt"] is False
    native = body_of(QUESTION, prefill="So", dialect=Dialect(prefill="native"))
    assert native["messages"][-1]["content"] == "So"
    assert "continue_final_message" not in native
    with pytest.raises(LacksCapability, match="prefill"):
        body_of(QUESTION, prefill="So")


@pytest.mark.parametrize(
    ("capabilities", "thinking", "expected"),
    [
        (
            Capabilities(thinking_switch="enable_thinking"),
            Thinking(enabled=False),
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        (
            Capabilities(thinking_switch="thinking", thinking_budget=True),
            Thinking(budget_tokens=512),
            {"chat_template_kwargs": {"thinking": True}, "thinking_token_budget": 512},
        ),
        (
            Capabilities(thinking_switch="reasoning_effort"),
            Thinking.of_effort("high"),
            {"reasoning_effort": "high"},
        ),
        (Capabilities(thinking_budget=True), Thinking(enabled=False), {"thinking_token_budget": 0}),
        (Capabilities(), Thinking(), {}),
        # A model that chooses by its first token: an effort pushes the other mode down …
        (CHOOSES, Thinking.of_effort("low"), {"logit_bias": {"6": -4.0}}),
        (CHOOSES, Thinking.of_effort("xhigh"), {"logit_bias": {"5": -8.0}}),
        (CHOOSES, Thinking.of_effort("medium"), {}),
        # … and what forces a mode goes through the template, or decides by bias without a switch.
        (CHOOSES, Thinking(), {"chat_template_kwargs": {"enable_thinking": True}}),
        (CHOOSES, Thinking.of_effort("none"), {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            replace(CHOOSES, thinking_switch=None),
            Thinking(enabled=False),
            {"logit_bias": {"6": -100.0}},
        ),
        (replace(CHOOSES, thinking_switch=None), Thinking(), {"logit_bias": {"5": -100.0}}),
    ],
)
def test_thinking_by_engine(
    capabilities: Capabilities, thinking: Thinking, expected: dict[str, Any]
) -> None:
    body = body_of(QUESTION, thinking=thinking, capabilities=capabilities)
    names = ("chat_template_kwargs", "thinking_token_budget", "reasoning_effort", "logit_bias")
    assert {name: body[name] for name in names if name in body} == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("thinking_token_budget", {"thinking_token_budget": 1024}),
        ("thinking_budget_tokens", {"thinking_budget_tokens": 1024}),
        ("custom_params", {"custom_params": {"own": 1, "thinking_budget": 1024}}),
    ],
)
def test_a_thinking_budget_by_engine(field: Any, expected: dict[str, Any]) -> None:
    request = Request(
        messages=QUESTION.messages, model="m", extra_json='{"custom_params": {"own": 1}}'
    )
    body = body_of(
        request, thinking=Thinking.of_effort("low"),
        capabilities=Capabilities(thinking_budget=True), dialect=Dialect(thinking_budget=field),
    )  # fmt: skip
    assert {"custom_params": {"own": 1}, **expected}.items() <= body.items()


SWITCH = Capabilities(thinking_switch="enable_thinking")


@pytest.mark.parametrize(
    ("capabilities", "effort", "max_tokens", "refused"),
    [
        (Capabilities(), "none", None, "neither a thinking switch nor"),
        (Capabilities(), "low", None, "no thinking budget"),
        (Capabilities(), "low", 1025, "no thinking budget"),
        (Capabilities(), "low", 1024, None),  # the answer is no longer than the budget
        (SWITCH, "none", None, None),
        (SWITCH, "high", None, "no thinking budget"),
        (replace(SWITCH, thinking_budget=True), "high", None, None),
        (Capabilities(thinking_budget=True), "none", None, None),
        (Capabilities(thinking_switch="reasoning_effort"), "xhigh", None, None),
        (CHOOSES, "low", None, None),
    ],
)
def test_an_effort_that_would_be_ignored_is_refused(
    capabilities: Capabilities, effort: str, max_tokens: int | None, refused: str | None
) -> None:
    ask = partial(
        check_thinking, Thinking.of_effort(effort), capabilities,
        upstream="u", max_tokens=max_tokens,
    )  # fmt: skip
    if refused is None:
        ask()
    else:
        with pytest.raises(LacksCapability, match=refused):
            ask()


def test_a_clients_own_biases_are_kept() -> None:
    request = Request(
        messages=QUESTION.messages, model="m", extra_json='{"logit_bias": {"6": 1, "9": 2}}'
    )
    body = body_of(request, thinking=Thinking.of_effort("minimal"), capabilities=CHOOSES)
    assert body["logit_bias"] == {"6": -7.0, "9": 2}


def test_a_clients_template_variables_are_kept() -> None:
    request = Request(
        messages=QUESTION.messages, model="m", extra_json='{"chat_template_kwargs": {"tone": 1}}'
    )
    capabilities = Capabilities(thinking_switch="enable_thinking")
    body = body_of(request, thinking=Thinking(), capabilities=capabilities)
    assert body["chat_template_kwargs"] == {"tone": 1, "enable_thinking": True}


def test_text_completions() -> None:
    body = completion_body(
        Draw(QUESTION, Sampling(max_tokens=2, top_logprobs=3), model="m", prefill=" a"),
        dialect=Dialect(max_tokens_field="max_completion_tokens"),
    )
    assert (body["prompt"], body["max_tokens"], body["logprobs"]) == ("q a", 2, 3)


def read(*events: Any) -> tuple[list[Any], ChunkReader]:
    reader = ChunkReader("up")
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return [chunk for line in lines if (chunk := reader.read(line))], reader


def test_tool_calls_are_put_together() -> None:
    def delta(**fields: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [fields]}}]}

    _, reader = read(
        delta(index=0, id="a", function={"name": "f", "arguments": ""}),
        delta(index=1, id="b", function={"name": "g"}),
        delta(index=0, function={"arguments": '{"x"'}),
        delta(index=0, function={"arguments": ": 1}"}),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        "[DONE]",
    )
    last = reader.last()
    assert last.finish_reason == "tool_calls"
    assert [(c.id, c.name, c.arguments) for c in last.tool_calls] == [
        ("a", "f", '{"x": 1}'),
        ("b", "g", ""),
    ]


def test_usage_after_the_finish_reason_is_on_the_last_chunk() -> None:
    chunks, reader = read(
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "4"}, "finish_reason": "stop"}]},
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
        },
        "[DONE]",
    )
    assert [chunk.text for chunk in chunks] == ["4"]
    last = reader.last()
    assert last.finish_reason == "stop"
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.cached_tokens) == (5, 4)
    assert (last.usage.completion_tokens, last.usage.reasoning_tokens) == (2, 1)


def test_cumulative_usage_counts_tokens() -> None:
    def event(text: str, drawn: int) -> dict[str, Any]:
        usage = {"prompt_tokens": 5, "completion_tokens": drawn}
        return {"choices": [{"delta": {"content": text}}], "usage": usage}

    chunks, _ = read(event("a", 1), event("bcd", 4), event("", 5))
    assert [(chunk.text, chunk.token_count) for chunk in chunks] == [("a", 1), ("bcd", 3), ("", 1)]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_under_both_names(name: str) -> None:
    chunks, _ = read({"choices": [{"delta": {name: "hm"}}]})
    assert (chunks[0].reasoning_text, chunks[0].text) == ("hm", "")


@pytest.mark.parametrize(
    "event",
    [
        "{oops",
        "[1]",
        {"choices": [5]},
        {"choices": [{"delta": {"content": 7}}]},
        {"choices": {"a": 1}},
        {"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a"}]}}]},
    ],
)
def test_nonsense_is_malformed(event: Any) -> None:
    with pytest.raises(MalformedStream, match=r"^up sent"):
        read(event)


def test_an_error_in_the_stream() -> None:
    with pytest.raises(UpstreamRejected, match="overloaded") as caught:
        read({"error": {"message": "overloaded", "code": 503}})
    assert caught.value.status == 503


def test_no_finish_reason_means_it_died() -> None:
    _, reader = read({"choices": [{"delta": {"content": "4"}}]}, "[DONE]")
    with pytest.raises(UpstreamDisconnected):
        reader.last()
    with pytest.raises(UpstreamDisconnected, match="abort"):
        read({"choices": [{"delta": {}, "finish_reason": "abort"}]})


def test_sentinels_arrive_and_leave_as_json() -> None:
    (entry,) = logprobs_of(
        {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": [
            {"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -math.inf},
            {"token": "c", "logprob": -9999.0},
        ]}]}
    )  # fmt: skip
    assert entry.confidence() == pytest.approx(0.1)
    written = logprob_json(entry)
    assert [top["logprob"] for top in written["top_logprobs"]] == [-0.1, -9999.0, -9999.0]
    assert json.loads(json.dumps(written, allow_nan=False)) == written


def test_logprobs_of_text_completions() -> None:
    found = logprobs_of(
        {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {"b": -1.0}]}
    )
    assert found == (TokenLogprob(token="b", logprob=-1.0, top=(("b", -1.0),)),)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "code": 4}}, "m"),
        ({"error": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"message": "m"}, "m"),
        ({"odd": 1}, '{"odd": 1}'),
    ],
)
def test_error_bodies(body: Any, expected: str) -> None:
    assert error_message(body) == expected
