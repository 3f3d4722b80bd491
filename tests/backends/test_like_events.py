"""Events that differ in their text alone are read as if each was parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.backends.chunk_reader import ChunkReader
from suffice.backends.protocol import Chunk
from suffice.core.errors import MalformedStream

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=6), st.sampled_from([' "', "\\", "a\\n", "\\u0041", "é", "}", "\x7f"])
    ),
    min_size=1, max_size=12,
)  # fmt: skip


def event(text: str, *, ascii_only: bool, spaced: bool, **more: Any) -> bytes:
    value = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "content",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        **more,
    }
    separators = (", ", ": ") if spaced else (",", ":")
    found = json.dumps(value, ensure_ascii=ascii_only, separators=separators)
    return found.encode(errors="surrogatepass")


def joined(events: list[bytes], *, one_reader: bool) -> str:
    reader = ChunkReader("up")
    chunks: list[Chunk] = []
    for each in events if not one_reader else [events]:
        batch = each if isinstance(each, list) else [each]
        chunks += ChunkReader.read_all(reader if one_reader else ChunkReader("up"), batch)
    return "".join(chunk.text for chunk in chunks)


@given(TEXTS, st.booleans(), st.booleans())
def test_the_text_is_what_json_says(texts: list[str], ascii_only: bool, spaced: bool) -> None:
    texts = [text for text in texts if text.isprintable() or ascii_only or text.isascii()]
    events = [event(text, ascii_only=ascii_only, spaced=spaced) for text in texts]
    assert joined(events, one_reader=True) == "".join(texts)
    assert joined(events, one_reader=True) == joined(events, one_reader=False)


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (event("b", ascii_only=True, spaced=True, usage={"completion_tokens": 2}), "ab"),
        (event("b", ascii_only=True, spaced=True, note={"content": "c"}), "ab"),
        (event("b", ascii_only=True, spaced=True).replace(b'"b"', b'"b", "reasoning": "r"'), "ab"),
        (event("b", ascii_only=True, spaced=True).replace(b'"b"', b'"x", "content": "b"'), "ab"),
        (event("b", ascii_only=True, spaced=True).replace(b'"b"', b'"\xe9b"'), "a\ufffdb"),
    ],
)  # fmt: skip
def test_an_event_that_says_more_is_parsed(second: bytes, text: str) -> None:
    events = [event("a", ascii_only=True, spaced=True), second]
    assert joined(events, one_reader=True) == text


@pytest.mark.parametrize("wrong", [b"\x01", b"\n", b'" ', b"\\"])
def test_what_json_forbids_is_refused_in_any_event(wrong: bytes) -> None:
    good = event("a", ascii_only=True, spaced=True)
    with pytest.raises(MalformedStream):
        joined([good, good.replace(b'"a"', b'"' + wrong + b'"')], one_reader=True)


def test_what_stands_elsewhere_is_not_taken_for_the_text() -> None:
    first = event("x", ascii_only=True, spaced=True, note={"content": "x"})
    second = event("x", ascii_only=True, spaced=True, note={"content": "y"})
    assert joined([first, first, second], one_reader=True) == "xxx"
