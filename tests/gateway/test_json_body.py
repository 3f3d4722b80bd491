"""What is checked of a body before any work is done for it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.errors import InputError
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.wire.json_body import (
    MOST_DEPTH,
    check_policy_size,
    check_size,
    parse_json,
    unambiguous,
)
from suffice.policies.registry import build_policy, parse_policy

LIMITS = TrafficConfig(max_messages=5, max_parts=6, max_tools=3, max_policy_bytes=300)
TURN = {"role": "user", "content": "x"}


@given(
    value=st.recursive(
        st.none() | st.integers(-9, 9) | st.text('a"\\[]{}:,é', max_size=6),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text('a,"', max_size=2), inner)
        ),
        max_leaves=12,
    )
)
def test_values_are_counted_before_they_are_read(value: Any) -> None:
    body = json.dumps({"x": value}, separators=(",", ":")).encode() + b" " * 99
    count = 1 + counted(value)
    assert parse_json(body, replace(LIMITS, max_values=count)) == {"x": value}
    with pytest.raises(InputError, match="max_values"):
        parse_json(body, replace(LIMITS, max_values=(count - 1) // 2))


def text_of(alphabet: str) -> st.SearchStrategy[str]:
    return st.text(alphabet, max_size=6).filter(lambda text: text.lstrip()[:1] != ":")


@given(
    value=st.recursive(
        st.integers(-9, 9) | text_of('a"\\:'),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(text_of('a,":\\ '), inner, max_size=4)
        ),
        max_leaves=12,
    ),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t : ")]),
)
def test_names_are_counted_before_they_are_read(value: Any, separators: tuple[str, str]) -> None:
    body = json.dumps({"x": value}, separators=separators).encode() + b" " * 999
    count = 1 + names_in(value)
    assert parse_json(body, replace(LIMITS, max_names=count)) == {"x": value}
    with pytest.raises(InputError, match="max_names"):
        parse_json(body, replace(LIMITS, max_names=count - 1))


def names_in(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(names_in(each) for each in value.values())
    return sum(names_in(each) for each in value) if isinstance(value, list) else 0


def test_a_log_full_of_times_is_no_list_of_names() -> None:
    """Colons within texts count for nothing, however many there are."""
    value = {"x": ["12:34:56 done: 1", 'a \\": b'] * 2000}
    body = json.dumps(value).encode()
    assert parse_json(body, replace(LIMITS, max_names=1)) == value


def counted(value: Any) -> int:
    """A value and those in it; an empty list counts as if it held something."""
    if not isinstance(value, (dict, list)):
        return 1
    within = value.values() if isinstance(value, dict) else value
    return 1 + sum(counted(each) for each in within) + (not within)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"x":[' + b"{}," * 2000 + b"1]}", "max_values"),
        (b'{"x":[' + b'"a",' * 2000 + b"1]}", "max_values"),
        (b"[" * 3000, "max_values"),
        (b'""' * 3000 + b"," * 2000, "max_values"),  # no JSON, and not read to find it out
        (b"," * 2000 + b'"' + b'\\"' * 300_000, "max_values"),  # a text without an end
        (b'{"x":"' + b"[{,:" * 3000 + b'"}', None),
        (b'{"x":"' + b'\\",\\\\' * 3000 + b'"}', None),
        (b'{"x":[' + b"1," * 900 + b"1]}", None),
    ],
)
def test_marks_in_texts_are_no_values(body: bytes, said: str | None) -> None:
    if said is None:
        assert parse_json(body, replace(LIMITS, max_values=1000))["x"]
    else:
        with pytest.raises(InputError, match=said):
            parse_json(body, replace(LIMITS, max_values=1000))


@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_the_deepest_body_that_is_taken(opened: str) -> None:
    closed = "]" if opened == "[" else "}"
    for levels, taken in ((MOST_DEPTH - 1, True), (MOST_DEPTH, False), (5000, False)):
        body = '{"x":' + opened * levels + "1" + closed * levels + "}"
        wide = body[:-1] + ',"y":[' + "[]," * 200 + "[]]}"  # brackets alone make nothing deep
        for each in (body, wide):
            if taken:
                assert parse_json(each.encode())["x"]
            elif opened == "[" or levels < 1000:
                with pytest.raises(InputError, match=r"deeper|JSON"):
                    parse_json(each.encode())


def test_shallow_brackets_in_text_are_no_depth() -> None:
    assert parse_json(json.dumps({"x": "[" * 5000}).encode())


DOUBLED = [
    b'{"model": "a", "model": "b"}',
    b'{"model": "a", "x": {"y": [1, "]"]}, "model" : "b"}',
    b'{"stream": false, "model": "a", "stream": true}',
    b'{"model": "a", "mod\\u0065l": "b"}',
    b'{"m\\u006fdel": "a", "m\\u006Fdel": "b"}',
    b'{"messages": [], "model": "a", "messages": [{}]}',
    b'{"model": "a", "max_tokens": 1, "max_tokens": 100000}',
    b'{"n": 1, "model": "a", "n": 99}',
]
SINGLE = [
    b'{"model": "a"}',
    b'{"model": "model", "messages": [{"model": 1, "stream": 2, "n": 3}, {"model": 1}]}',
    b'{"model": "a", "tools": [{"function": {"parameters": {"model": {}, "n": {}}}}, {"n": 1}]}',
    b'{"model": "a", "x": "\\u006dodel", "y": "\\"model\\": 1, \\"model\\": 2"}',
    b'{"model": "a", "x": "\\u00e9", "x": 1, "x": 2}',  # not read here: the engine's own business
    b'{"x": "a\\\\", "model": "a"}',
]


@pytest.mark.parametrize("body", DOUBLED)
def test_a_field_that_is_read_here_stands_once(body: bytes) -> None:
    with pytest.raises(InputError, match="twice"):
        unambiguous(body, parse_json(body))
    padded = body[:-1] + b', "x": "' + b"y" * 2_000_000 + b'"}'
    value = parse_json(padded)
    assert unambiguous(padded, value) in (padded, orjson.dumps(value))
    if b"model" in body and body.count(b'"model"') > 1:
        assert unambiguous(padded, value) == orjson.dumps(value)


@pytest.mark.parametrize("body", SINGLE)
def test_the_very_bytes_pass(body: bytes) -> None:
    assert unambiguous(body, parse_json(body)) is body


NAMES = st.sampled_from(["model", "stream", "n", "x", "messages"])
INNER = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('ab"\\[]{}:,é\u2028', max_size=6) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(pairs=st.lists(st.tuples(NAMES, INNER), max_size=6), ascii_only=st.booleans())
def test_doubled_names_are_found_and_no_others(pairs: list[Any], ascii_only: bool) -> None:
    parts = [f"{json.dumps(n)}: {json.dumps(v, ensure_ascii=ascii_only)}" for n, v in pairs]
    body = ("{" + " , ".join(parts) + "}").encode()
    names = [name for name, _ in pairs if name != "x"]
    value = parse_json(body)
    if len(set(names)) == len(names):
        assert unambiguous(body, value) == body
    else:
        with pytest.raises(InputError, match="twice"):
            unambiguous(body, value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"messages": [TURN] * 6}, "messages: 6, at most 5 are allowed .traffic.max_messages"),
        ({"input": [TURN] * 6}, "input: 6"),
        ({"messages": [{"role": "user", "content": [{}] * 7}]}, "parts and tool calls: 7"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}] * 4, "content": [{}] * 3}]}, "7"),
        ({"messages": [TURN], "tools": [{}] * 4}, "tools: 4, at most 3"),
        ({"messages": [TURN], "stop": ["a"] * 4}, "stop: 4"),
    ],
)
def test_lists_are_counted_before_they_are_read(value: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_size(value, LIMITS)
    assert check_size(value, TrafficConfig()) is None


def test_wishes_are_bounded() -> None:
    check_policy_size({"suffice": {"policy": "single"}}, LIMITS)
    check_policy_size({"suffice": None}, LIMITS)
    for wishes in (
        {"policy": "a" * 400},
        {"policy": {"x": [1] * 400}},
        {f"k{n}": n for n in range(99)},
    ):
        with pytest.raises(InputError, match="max_policy_bytes"):
            check_policy_size({"suffice": wishes}, LIMITS)


def test_steps_are_counted_before_any_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suffice.policies.registry._build", None)  # must not be called
    with pytest.raises(InputError, match="16 steps at most, this one has 20000"):
        parse_policy(" > ".join(["single:accept=.9"] * 20_000))
    with pytest.raises(InputError, match="16 steps at most, this one has 17"):
        build_policy({"policy": "cascade", "rungs": [{"policy": "single"}] * 17})
