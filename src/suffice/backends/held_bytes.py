"""How much of its upstreams' answers one call keeps: bounded for all its samples together."""

from __future__ import annotations

from collections.abc import Iterable

from suffice.backends.protocol import Chunk
from suffice.core.errors import MalformedStream

# What a chunk, and a token with its best alternatives, take in memory besides their text.
CHUNK_BYTES = 300
TOKEN_BYTES = 100
# An honest event has this much on the wire, for each of its tokens; of a larger one all is counted.
HONEST_BYTES = 4096


class HeldBytes:
    """What is left of `most_bytes`; every answer of one call takes from it."""

    __slots__ = ("_left", "_most")

    def __init__(self, most_bytes: int) -> None:
        self._most = self._left = most_bytes

    def take(self, size: int, upstream: str) -> None:
        """So many bytes are kept. Raises MalformedStream if there are too many."""
        self._left -= size
        if self._left < 0:
            raise MalformedStream(
                f"{upstream} sent more than fits: the samples of one call may hold {self._most} "
                "bytes together (traffic.max_response_bytes)"
            )

    def take_chunks(self, chunks: Iterable[Chunk], sent: int, upstream: str) -> None:
        """Chunks that came as `sent` bytes are kept."""
        count, size, tokens = 0, 0, 0
        for chunk in chunks:
            count += 1
            size += len(chunk.text) + len(chunk.reasoning_text)
            tokens += len(chunk.logprobs)
        if sent > HONEST_BYTES * max(1, count, tokens):
            self.take(sent, upstream)
        else:
            self.take(size + count * CHUNK_BYTES + tokens * TOKEN_BYTES, upstream)
