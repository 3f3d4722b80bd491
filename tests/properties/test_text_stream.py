"""Streamed text is the decoded whole, cut at the first stop string, however tokens split it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from suffice.backends.detokenize import TextStream


class ByteTokenizer:
    """A token is a byte, so that characters are split in the worst way."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(token_ids).decode("utf-8", errors="replace")


@given(
    text=st.text("ab·é😀", max_size=20),
    stops=st.lists(st.text("ab·", min_size=1, max_size=3), max_size=3),
)
def test_streamed_text_is_the_whole_cut_at_a_stop(text: str, stops: list[str]) -> None:
    stream = TextStream(ByteTokenizer(), stop=tuple(stops))
    shown = ""
    for token in text.encode():
        if stream.stopped:
            break
        piece = stream.push(token)
        shown += piece
        assert "\ufffd" not in piece
        assert not any(stop in shown for stop in stops)
    shown += stream.flush()
    # The first stop to be completed ends the text, where it begins.
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    earliest = min((end for end, _ in ends), default=None)
    expected = text if not ends else text[: min(start for end, start in ends if end == earliest)]
    assert shown == expected
    assert stream.stopped == bool(ends)
