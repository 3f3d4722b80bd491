"""Parallel tool calls in every way that servers number their fragments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from suffice.backends.chunk_reader import ChunkReader
from suffice.backends.tool_calls import CallFragments, calls_of, tool_call_json
from suffice.core.errors import MalformedStream

TWO = [("f", {"x": 1}), ("g", {"y": 2})]


def call(name: str | None = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    function = {} if name is None else {"name": name}
    if arguments is not None:
        function["arguments"] = arguments
    return {**fields, "function": function}


HABITS: dict[str, list[dict[str, Any]]] = {
    "OpenAI: index and id in the first fragment of each": [
        call("f", "", index=0, id="a", type="function"),
        call(None, '{"x":', index=0),
        call(None, " 1}", index=0),
        call("g", "", index=1, id="b", type="function"),
        call(None, '{"y": 2}', index=1),
    ],
    "interleaved": [
        call("f", "", index=0, id="a"),
        call("g", "", index=1, id="b"),
        call(None, '{"x"', index=0),
        call(None, '{"y"', index=1),
        call(None, ": 1}", index=0),
        call(None, ": 2}", index=1),
    ],
    "the later one first": [
        call("g", '{"y": 2}', index=1, id="b"),
        call("f", '{"x": 1}', index=0, id="a"),
    ],
    "Ollama: whole calls, all with index 0": [
        call("f", '{"x": 1}', index=0, id="a", type="function"),
        call("g", '{"y": 2}', index=0, id="b", type="function"),
    ],
    "index 0 and no id": [
        call("f", '{"x": 1}', index=0),
        call("g", '{"y": 2}', index=0),
    ],
    "Gemini: no index": [
        call("f", '{"x": 1}', id="a"),
        call("g", '{"y": 2}', id="b"),
    ],
    "neither index nor id": [call("f", '{"x": 1}'), call("g", '{"y": 2}')],
    "index null, id empty": [
        call("f", '{"x": 1}', index=None, id=""),
        call("g", '{"y": 2}', index=None, id=""),
    ],
    "no index, in pieces": [
        call("f", "", id="a"),
        call(None, '{"x": 1}'),
        call("g", "", id="b"),
        call(None, '{"y": 2}'),
    ],
    "no index, interleaved by id": [
        call("f", "", id="a"),
        call("g", "", id="b"),
        call(None, '{"x": 1}', id="a"),
        call(None, '{"y": 2}', id="b"),
    ],
    "another id with every fragment": [
        call("f", "", index=0, id="a"),
        call(None, '{"x"', index=0, id="a2"),
        call(None, ": 1}", index=0, id="a3"),
        call("g", '{"y": 2}', index=1, id="b"),
    ],
    "id and name again with every fragment": [
        call("f", '{"x"', index=0, id="a"),
        call("f", ": 1}", index=0, id="a"),
        call("g", '{"y"', index=1, id="b"),
        call("g", ": 2}", index=1, id="b"),
    ],
    "the name again, without index or id": [
        call("f", '{"x"'),
        call("f", ": 1}"),
        call("g", '{"y"'),
        call("g", ": 2}"),
    ],
    "arguments as objects": [
        call("f", {"x": 1}, index=0, id="a"),
        call("g", {"y": 2}, index=0, id="b"),
    ],
    "a name in pieces": [
        call("", "", index=0),
        call("f", "", index=0),
        call(None, '{"x": 1}', index=0),
        call("g", "", index=1),
        call(None, '{"y": 2}', index=1),
    ],
}


def read(fragments: list[dict[str, Any]], *, at_once: bool) -> list[tuple[str, Any]]:
    reader = ChunkReader("up")
    pieces = [fragments] if at_once else [[fragment] for fragment in fragments]
    for piece in pieces:
        reader.read(json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": piece}}]}))
    reader.read('{"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}')
    return [(each.name, json.loads(each.arguments)) for each in reader.last().tool_calls]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("habit", HABITS)
def test_both_calls_are_whole(habit: str, at_once: bool) -> None:
    assert read(HABITS[habit], at_once=at_once) == TWO


def test_the_same_function_twice() -> None:
    for again in ({"index": 0, "id": "b"}, {"index": 0}, {}, {"id": "b"}, {"id": "a"}):
        first = {**again, "id": "a"} if again.get("id") else again
        fragments = [call("f", '{"x": 1}', **first), call("f", '{"x": 2}', **again)]
        if again == {"id": "a"} or "index" not in again or again.get("id") != "a":
            assert read(fragments, at_once=False) == [("f", {"x": 1}), ("f", {"x": 2})], again


def test_the_first_id_stays() -> None:
    parts = CallFragments()
    for fragment in HABITS["another id with every fragment"]:
        parts.add(fragment)
    assert [each.id for each in parts.whole()] == ["a", "b"]


@pytest.mark.parametrize(
    "given",
    [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"},
         "extra_content": {"google": {"thought_signature": "x=="}}},
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}", "strict": 1}},
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
    ],
)  # fmt: skip
def test_what_else_a_call_holds_goes_on(given: dict[str, Any]) -> None:
    (whole,) = calls_of([given])
    assert tool_call_json(whole) == given
    parts = CallFragments()
    parts.add({"index": 0, **given})
    assert [tool_call_json(each) for each in parts.whole()] == [given]


def test_a_custom_call_streams_its_input() -> None:
    parts = CallFragments()
    parts.add({"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "sel"}})
    parts.add({"index": 0, "custom": {"input": "ect 1"}})
    (whole,) = parts.whole()
    assert (whole.name, whole.arguments) == ("sql", "select 1")


@pytest.mark.parametrize("calls", [7, {"a": 1}, [7], ["x"], [None]])
def test_what_is_no_call_is_malformed(calls: Any) -> None:
    reader = ChunkReader("up")
    with pytest.raises(MalformedStream):
        reader.read(json.dumps({"choices": [{"delta": {"tool_calls": calls}}]}))
