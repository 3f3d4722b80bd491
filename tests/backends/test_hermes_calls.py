"""Calls of tools in an answer's text: in whatever pieces it comes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.backends.hermes_calls import HermesCalls
from suffice.core.requests import ToolCall


def read(pieces: list[str]) -> tuple[str, tuple[ToolCall, ...]]:
    reader = HermesCalls()
    shown = "".join(reader.push(piece) for piece in pieces)
    rest, calls = reader.finish()
    return shown + rest, calls


TWO = (
    'let me see <tool_call>{"name": "a", "arguments": {"x": 1}}</tool_call>\n'
    '<tool_call>{"name": "b", "arguments": {}}</tool_call>'
)


def test_two_calls() -> None:
    text, calls = read([TWO])
    assert text.strip() == "let me see"
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("a", {"x": 1}),
        ("b", {}),
    ]
    assert len({call.id for call in calls}) == 2


@given(st.lists(st.integers(0, len(TWO)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TWO)]
    pieces = [TWO[a:b] for a, b in pairwise(edges)]
    assert read(pieces) == read([TWO])


@pytest.mark.parametrize(
    "text",
    ["plain", "a < b", "<tool", "<tool_call>no json</tool_call>", "<tool_call>[1]</tool_call>",
     '<tool_call>{"arguments": {}}</tool_call>', "<tool_call>", "x <tool_call>{"],
)  # fmt: skip
def test_what_is_no_call_is_text(text: str) -> None:
    assert read(list(text)) == (text, ())


def test_text_is_shown_as_soon_as_it_can_be_no_call() -> None:
    reader = HermesCalls()
    assert [reader.push(piece) for piece in ("a <", "b", " <tool_", "x")] == [
        "a ",
        "<b",
        " ",
        "<tool_x",
    ]


def test_a_call_that_was_cut_short_is_read_where_it_is_whole() -> None:
    assert [call.name for call in read(['<tool_call>{"name": "a"}'])[1]] == ["a"]
