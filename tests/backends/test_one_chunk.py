"""A stream read to its end is one chunk that has everything its pieces had."""

from __future__ import annotations

import pytest

from suffice.backends.placement import one_chunk
from suffice.backends.protocol import Chunk
from suffice.core.completions import Usage
from suffice.core.errors import UpstreamDisconnected


def test_nothing_that_a_piece_said_is_lost() -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    whole = one_chunk([
        Chunk(token_count=0, mode_bias_nats=-8.0),
        Chunk(text="4", reasoning_text="so ", confidences=(1.0,), usage_refused=True),
        Chunk(text="2", usage=usage, token_count=1),
        Chunk(finish_reason="stop", token_count=0),
    ])  # fmt: skip
    assert (whole.text, whole.reasoning_text, whole.finish_reason) == ("42", "so ", "stop")
    assert (whole.token_count, whole.usage, whole.usage_refused) == (2, usage, True)
    assert (whole.mode_bias_nats, whole.confidences) == (-8.0, (1.0,))


@pytest.mark.parametrize("chunks", [[], [Chunk(text="4")]])
def test_a_stream_without_an_end_is_none(chunks: list[Chunk]) -> None:
    with pytest.raises(UpstreamDisconnected):
        one_chunk(chunks)
