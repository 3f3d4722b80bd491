"""One recorded sample on its way: what of it is booked, and what the policy has been told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.backends.protocol import Chunk
from suffice.core.arrays import FloatArray
from suffice.core.completions import FinishReason, TokenLogprob, Usage
from suffice.core.decisions import ChunkSeen, Trigger
from suffice.core.requests import ToolCall
from suffice.core.series import DrawnLogprobs, Floats, first_below
from suffice.executors.running_sample import Launch


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSample:
    """One recorded sample, as it would stream. `confidences` hold one value per token, or none.

    A token without a confidence is NaN. A shorter array leaves the last tokens without.
    """

    text: str
    tokens: int
    finish_reason: FinishReason = "stop"
    reasoning_text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_tokens: int = 0
    confidences: FloatArray | None = None
    logprobs: FloatArray | None = None
    answer: str | None = None
    score: float | None = None
    # Completion tokens where only the end of the sample is played, as the one token of `tokens`:
    # samples then end in the order in which they were begun.
    billed_tokens: int | None = None


class RecordedStream:
    """A recorded sample on its way: how much is booked, and how much the policy has been told."""

    __slots__ = (
        "acts_on",
        "booked",
        "counts",
        "cut",
        "logprobs",
        "number",
        "order",
        "recorded",
        "since",
        "start",
        "tokens",
        "told",
        "trigger",
        "values",
        "version",
    )

    def __init__(self, launch: Launch, recorded: RecordedSample, start: int, order: int) -> None:
        limit = launch.draw.sampling.max_tokens
        self.recorded = recorded
        self.tokens = max(recorded.tokens, 1)
        self.cut = limit is not None and limit < self.tokens
        if limit is not None and self.cut:
            self.tokens = limit
        self.number, self.start, self.order = launch.sample, start, order
        self.booked = self.told = self.since = self.version = 0
        self.acts_on: Trigger | None = None
        self.trigger: int | None = None  # tokens after which the policy acts
        # Recorded confidences come from alternatives: a policy that asks for none gets none.
        wished = launch.draw.sampling.top_logprobs
        self.values, self.counts = _known(recorded.confidences if wished else None)
        self.logprobs = recorded.logprobs if wished == 0 else None

    def confidences(self, begin: int, end: int) -> Sequence[float]:
        """Known confidences of the tokens in [begin, end)."""
        if self.values is None:
            return ()
        found = self.values[self._known_before(begin) : self._known_before(end)]
        return Floats(found) if len(found) else ()

    def chunk(self, begin: int, end: int) -> Chunk:
        """The tokens in [begin, end) as they would stream; the last carry the finish reason."""
        recorded = self.recorded
        ends = end >= self.tokens
        if ends and not begin and not self.cut:  # a whole sample: by far the most of votes
            return Chunk(
                text=recorded.text,
                reasoning_text=recorded.reasoning_text,
                token_count=end,
                confidences=() if self.values is None else self.confidences(0, end),
                logprobs=() if self.logprobs is None else self._drawn(),
                tool_calls=recorded.tool_calls,
                finish_reason=recorded.finish_reason,
                usage=self._usage(),
            )
        return Chunk(
            text=self._share(recorded.text, begin, end),
            reasoning_text=self._share(recorded.reasoning_text, begin, end),
            token_count=end - begin,
            confidences=self.confidences(begin, end),
            logprobs=self._drawn() if ends else (),
            tool_calls=recorded.tool_calls if ends and not self.cut else (),
            finish_reason=None if not ends else "length" if self.cut else recorded.finish_reason,
            usage=self._usage() if ends else None,
        )

    def seen(self, begin: int, end: int) -> ChunkSeen:
        """The same tokens as a policy sees them."""
        return ChunkSeen(
            sample=self.number,
            text=self._share(self.recorded.text, begin, end),
            reasoning_text=self._share(self.recorded.reasoning_text, begin, end),
            tokens=end - begin,
            confidences=self.confidences(begin, end),
        )

    def falls_below(self, size: int, threshold: float) -> int | None:
        """Tokens after which a window that opened at `since` is below; None if it never is."""
        if self.values is None:
            return None
        before = self._known_before(self.since)
        at = first_below(self.values[before:], size, threshold)
        if at is None:
            return None
        known = before + at + 1
        return known if self.counts is None else int(np.searchsorted(self.counts, known))

    def _known_before(self, token: int) -> int:
        if self.counts is None:
            return token
        return int(self.counts[min(token, len(self.counts) - 1)])

    def _share(self, text: str, begin: int, end: int) -> str:
        """The part of a text that these tokens drew, as if all tokens were equally long."""
        if not text or (begin == 0 and end >= self.recorded.tokens):
            return text
        whole = max(self.recorded.tokens, 1)
        return text[len(text) * begin // whole : len(text) * end // whole]

    def _drawn(self) -> Sequence[TokenLogprob]:
        return () if self.logprobs is None else DrawnLogprobs(self.logprobs[: self.tokens])

    def _usage(self) -> Usage:
        tokens = self.tokens if self.cut else self.recorded.tokens
        if self.recorded.billed_tokens is not None:
            tokens = self.recorded.billed_tokens
        return Usage(prompt_tokens=self.recorded.prompt_tokens, completion_tokens=tokens)


def _known(values: FloatArray | None) -> tuple[FloatArray | None, NDArray[np.int64] | None]:
    """Confidences without gaps, and where there are gaps how many are known before each token."""
    if values is None or not len(values):
        return None, None
    missing = np.isnan(values)
    if not missing.any():
        return values, None
    counts = np.concatenate(([0], np.cumsum(~missing)))
    return values[~missing], counts.astype(np.int64)
