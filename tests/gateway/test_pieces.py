from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.backends.protocol import Capabilities
from suffice.backends.wire import Dialect, chat_body, message_json
from suffice.core.completions import Budget, Completion, Usage
from suffice.core.draw import Draw
from suffice.core.errors import (
    BudgetTooSmall,
    InputError,
    LacksCapability,
    MalformedStream,
    PolicyMisbehaved,
    SufficeError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import ImagePart, Message, OpaquePart, Request, TextPart
from suffice.gateway.pass_through import outgoing
from suffice.gateway.policy_router import aimed
from suffice.gateway.run_policy import share, tighter
from suffice.gateway.wire.errors import describe, retry_after
from suffice.gateway.wire.receipt import header_text
from suffice.gateway.wire.requests import parse_chat, parse_completion
from suffice.gateway.wire.safe_regex import extractor_of
from suffice.ledger.database import LedgerAway, LedgerError
from suffice.policies.registry import parse_policy


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("x"), 400, "invalid_value"),
        (BudgetTooSmall("x"), 400, "budget_too_small"),
        (LacksCapability("x"), 400, "lacks_capability"),
        (UnknownName("x"), 404, "model_not_found"),
        (UpstreamRefused("x"), 502, "upstream_refused"),
        (UpstreamTimeout("x"), 504, "upstream_timeout"),
        (UpstreamDisconnected("x"), 502, "upstream_disconnected"),
        (MalformedStream("x"), 502, "upstream_malformed"),
        (UpstreamRejected("x", status=422), 422, "upstream_rejected"),
        (UpstreamRejected("x", status=403), 502, "upstream_rejected"),
        (PolicyMisbehaved("x"), 500, "internal_error"),
    ],
)
def test_every_error_has_a_status(error: SufficeError, status: int, code: str) -> None:
    found, envelope = describe(error)
    assert (found, envelope["error"]["code"], envelope["error"]["message"]) == (status, code, "x")


@given(text=st.text(max_size=60))
def test_headers_hold_nothing_that_breaks_them(text: str) -> None:
    shown = header_text(text)
    assert shown.isascii()
    assert shown.isprintable() or not shown


def test_only_our_field_is_taken_out_of_a_body() -> None:
    body = b'{"model":  "m"}'
    assert outgoing(body, {"model": "m"}) is body
    assert outgoing(body, {"model": "m", "suffice": {}, "é": 1}) == '{"model":"m","é":1}'.encode()


limits = st.none() | st.integers(0, 100)
budgets = st.builds(Budget, completion_tokens=limits, samples=limits, elapsed_s=limits, usd=limits)


@given(a=budgets, b=budgets)
def test_the_tighter_budget_is_within_both(a: Budget, b: Budget) -> None:
    both = tighter(a, b)
    for name in ("completion_tokens", "samples", "elapsed_s", "usd"):
        given_limits = [v for v in (getattr(a, name), getattr(b, name)) if v is not None]
        assert getattr(both, name) == min(given_limits, default=None)


@given(budget=budgets, choices=st.integers(1, 16))
def test_shares_of_a_budget_do_not_exceed_it(budget: Budget, choices: int) -> None:
    part = share(budget, choices)
    for name in ("completion_tokens", "samples", "usd"):
        whole = getattr(budget, name)
        if whole is None:
            assert getattr(part, name) is None
        else:
            assert choices * getattr(part, name) <= whole + 1e-9
    assert part.elapsed_s == budget.elapsed_s


def test_a_target_reaches_the_policy_inside() -> None:
    policy = aimed(parse_policy("adaptive_consistency@small"), 0.8)
    assert policy.inner.threshold == 0.8  # type: ignore[attr-defined]
    assert aimed(parse_policy("deepconf"), 0.7).consensus == 0.7  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="target"):
        aimed(parse_policy("single"), 0.7)


def test_a_chat_body_is_understood() -> None:
    ask = parse_chat(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image_url", "image_url": {"url": "u"}},
                    {"type": "text", "text": "t", "cache_control": {}},
                    {"type": "input_audio", "input_audio": {}},
                ], "weight": 1},
            ],
            "max_tokens": 9, "max_completion_tokens": 5, "logprobs": True, "top_logprobs": 2,
            "response_format": {"type": "json_object"}, "reasoning_effort": "low", "odd": [1],
            "suffice": {"effort": "high", "budget": {"samples": 3}},
        }
    )  # fmt: skip
    message = ask.request.messages[0]
    assert isinstance(message.content, tuple)
    assert [type(part) for part in message.content] == [TextPart, ImagePart, TextPart, OpaquePart]
    assert message.text == "tt"
    assert message_json(message)["weight"] == 1
    assert (ask.request.sampling.max_tokens, ask.request.sampling.top_logprobs) == (5, 2)
    assert ask.request.answer_format is None  # asking for JSON is not asking for a vote
    assert ask.request.thinking is not None
    assert ask.request.thinking.effort == "high"  # ours comes before the standard field
    assert ask.request.extra_json == '{"odd":[1]}'
    assert ask.budget == Budget(samples=3)


@pytest.mark.parametrize(
    "more",
    [
        {"suffice": None},
        {"stream": True, "stream_options": {"include_usage": None}},
        {"stream_options": {"include_usage": True}},
        {"max_tokens": -1},
        {"max_completion_tokens": -1, "max_tokens": -2},
        {"top_p": 0},
        {"tools": [{"type": "custom", "custom": {"name": "sql"}}, {"type": "web_search"}]},
        {"response_format": "text"},
        {"functions": [{"name": "f"}], "function_call": "auto"},
        {"modalities": ["text", "audio"], "audio": {"voice": "x"}},
        {"messages": [{"role": "ipython", "content": "1"}]},
        {"messages": [{"role": "user", "content": {"odd": 1}}]},
        {"messages": [{"role": "user", "content": ["a", {"type": "image_url", "image_url": "u"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}]},
        {"messages": [{"role": "user", "content": "x", "name": 7}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": None}]},
    ],
)
def test_what_passes_otherwise_passes_under_a_policy(more: dict[str, Any]) -> None:
    value = {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}
    ask = parse_chat(value)
    body = chat_body(
        Draw(ask.request, ask.request.sampling, model="m"),
        capabilities=Capabilities(),
        dialect=Dialect(),
    )
    known = {"suffice", "stream", "stream_options"}
    assert {n: v for n, v in value.items() if n not in known}.items() <= body.items()


def test_a_limit_that_is_one_comes_before_none() -> None:
    value = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    ask = parse_chat({**value, "max_tokens": -1, "max_completion_tokens": 7})
    assert (ask.request.sampling.max_tokens, ask.request.extra_json) == (7, "{}")
    with pytest.raises(InputError, match="max_tokens: must be at least 1; leave it out"):
        parse_chat({**value, "max_tokens": 0})


def test_a_list_of_one_prompt_is_a_prompt() -> None:
    ask = parse_completion({"model": "m", "prompt": ["a"], "echo": True})
    assert (ask.request.messages[0].text, ask.request.extra_json) == ("a", '{"echo":true}')


def test_lists_of_prompts_are_left_to_the_upstream() -> None:
    with pytest.raises(InputError, match="one string"):
        parse_completion({"model": "m", "prompt": ["a", "b"]})


@pytest.mark.parametrize("answer_format", ["number", "choice", "json", "regex:is (\\d+)"])
def test_a_long_answer_is_read_beside_the_loop(answer_format: str) -> None:
    question = Request(
        messages=(Message(role="user", content="x"),), model="m", answer_format=answer_format
    )
    ending = '{"a": 4}' if answer_format == "json" else "The answer is (B). It is 4"
    extract = extractor_of(question)
    assert extract is not None

    async def main() -> tuple[Any, Any]:
        short = extract(said(ending))
        assert not inspect.isawaitable(short)
        long = extract(said("word " * 10_000 + ending))
        assert inspect.isawaitable(long)
        return short, await long

    short, long = asyncio.run(main())
    assert short == long
    assert short is not None


def said(text: str) -> Completion:
    return Completion(text=text, finish_reason="stop", usage=Usage())


@pytest.mark.parametrize("kind", [LedgerAway, LedgerError])
def test_a_ledger_that_is_away_is_a_503_that_names_nothing(kind: type[LedgerError]) -> None:
    status, envelope = describe(kind("ledger postgresql://me@db/x: password authentication failed"))
    assert (status, envelope["error"]["code"]) == (503, "ledger_unavailable")
    assert "me@db" not in envelope["error"]["message"]


@pytest.mark.parametrize("wait_s", [float("inf"), float("-inf"), float("nan")])
def test_a_wait_that_is_no_time_gets_no_header(wait_s: float) -> None:
    found = retry_after(UpstreamRejected("no", status=429, retry_after_s=wait_s))
    assert found == {}
