"""Recorded samples played through a session in long pieces, from one event to the next.

Every running sample draws one token per tick; a sample begun at tick s draws its k-th token at
tick s + k, and samples of one tick take turns in the order they were begun. Between two ticks at
which a policy acts (a sample ends, or does what the policy acts on) nothing depends on the
tokens one by one, so they are booked together. The outcome is that of playing token by token.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suffice.backends.protocol import Chunk
from suffice.core.completions import (
    Budget,
    Completion,
    CostModel,
    FinishReason,
    Outcome,
    TokenLogprob,
    Usage,
    count_tokens_only,
)
from suffice.core.decisions import AnyPolicy, ChunkSeen, Trigger, WindowBelow
from suffice.core.requests import Request, ToolCall
from suffice.core.series import DrawnLogprobs, FloatArray, Floats, first_below
from suffice.executors.running_sample import Launch
from suffice.executors.session import Command, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
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


# What a launch plays; raises LacksCapability where nothing fitting was recorded.
Recording = Callable[[Launch], Recorded]
# The comparable key of a sample that the budget cut short, from what there is of it.
CutAnswer = Callable[[Completion], str | None]


class Span(NamedTuple):
    """When a sample ran: its tokens were drawn at the ticks start + 1 to end."""

    start: int
    end: int


class Played(NamedTuple):
    """What a replay came to, the ticks until the decision, and when each sample ran."""

    outcome: Outcome
    ticks: int
    spans: tuple[Span, ...]  # in the order in which samples were begun


def play(
    policy: AnyPolicy,
    request: Request,
    recording: Recording,
    *,
    budget: Budget | None = None,
    cost_model: CostModel = count_tokens_only,
    extract_cut: CutAnswer | None = None,
    token_s: float = 0.0,
    first_ticks: int = 0,
    piece: int | None = None,
) -> Played:
    """The outcome of `request` had its samples been the recorded ones.

    A tick lasts `token_s`; `first_ticks` pass before a sample's first token. `piece` tokens at a
    time reach the policy; None: as many as it is indifferent to.
    """
    session = Session(policy, request, budget=budget, cost_model=cost_model)
    clock = _Clock(token_s, first_ticks)
    return _Player(session, recording, clock, extract_cut, piece).run()


class _Clock(NamedTuple):
    token_s: float
    first_ticks: int


class _Stream:
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

    def __init__(self, launch: Launch, recorded: Recorded, start: int, order: int) -> None:
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


class _Player:
    def __init__(
        self,
        session: Session,
        recording: Recording,
        clock: _Clock,
        extract_cut: CutAnswer | None,
        piece: int | None,
    ) -> None:
        session.catch_up = self._catch_up
        self._session, self._recording, self._clock = session, recording, clock
        self._extract_cut, self._piece = extract_cut, piece
        # Nothing changes what such a policy acts on: no need to ask it again and again.
        self._indifferent = session.policy.waits_for_ends
        self._streams: dict[int, _Stream] = {}
        self._all: list[_Stream] = []
        self._events: list[tuple[int, int, int, int]] = []  # tick, order, version, sample
        self._begun = 0
        self._tick = 0  # of the event at hand
        self._order = -1  # of the sample whose event it is

    def run(self) -> Played:
        """Play to the decision."""
        session = self._session
        self._obey(session.start(0.0))
        last, events, streams = self._deadline(), self._events, self._streams
        while events and session.decision is None:
            tick, order, version, sample = heapq.heappop(events)
            stream = streams.get(sample)
            if stream is None or stream.version != version:
                continue
            if last is not None and last < tick:
                self._tick = last
                self._expire()
                break
            self._tick, self._order = tick, order
            self._advance(stream, tick - stream.start)
        outcome = session.outcome(self._tick * self._clock.token_s)
        session.catch_up = None  # no cycle: thousands of sessions are gone as soon as they end
        spans = tuple([Span(each.start, each.start + each.booked) for each in self._all])
        return Played(outcome, self._tick, spans)

    def _deadline(self) -> int | None:
        """First tick past the time budget, None without one."""
        limit_s = self._session.deadline_s
        if limit_s is None or not self._clock.token_s:
            return None
        tick = max(0, int(limit_s / self._clock.token_s) - 1)
        while tick * self._clock.token_s < limit_s:
            tick += 1
        return tick

    def _expire(self) -> None:
        """The time budget ends between two events."""
        session, now_s = self._session, self._tick * self._clock.token_s
        first = min(self._streams.values(), key=lambda stream: stream.order)
        self._order = first.order
        self._book(first, max(0, self._tick - first.start))
        if first.acts_on != "nothing":
            seen = first.seen(first.told, first.booked)
            first.told = first.booked
            session.see(seen, now_s)
        session.tick(now_s)

    def _advance(self, stream: _Stream, drawn: int) -> None:
        """The sample has drawn `drawn` tokens, and something happens."""
        session, now_s = self._session, self._tick * self._clock.token_s
        self._book(stream, drawn)
        if drawn == stream.trigger:
            seen = stream.seen(stream.told, drawn)
            stream.told = drawn
            self._obey(session.see(seen, now_s))
            if session.decision is not None or stream.number not in self._streams:
                return
        if drawn < stream.tokens:
            self._plan(stream)
            return
        del self._streams[stream.number]
        answer, score = stream.recorded.answer, stream.recorded.score
        if stream.cut:  # the recorded answer lies beyond what the budget allows
            said = session.completion_of(stream.number)
            answer = None if self._extract_cut is None else self._extract_cut(said)
            score = None
        self._obey(session.finish(stream.number, now_s, answer=answer, score=score))

    def _obey(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Launch):
                start = self._tick + self._clock.first_ticks
                stream = _Stream(command, self._recording(command), start, self._begun)
                self._begun += 1
                self._streams[command.sample] = stream
                self._all.append(stream)
                stream.acts_on = self._acts_on(stream)
                self._plan(stream)
            else:
                self._streams.pop(command.sample, None)
        if not self._indifferent and self._session.decision is None:
            self._look_again()

    def _look_again(self) -> None:
        """What the policy acts on in running samples may have changed with its state."""
        for stream in self._streams.values():
            acts_on = self._acts_on(stream)
            if acts_on != stream.acts_on:
                stream.acts_on = acts_on
                stream.told = stream.since = self._drawn_by_now(stream)
                self._plan(stream)

    def _acts_on(self, stream: _Stream) -> Trigger:
        if self._piece:
            return "everything"
        return "nothing" if self._indifferent else self._session.acts_on(stream.number)

    def _plan(self, stream: _Stream) -> None:
        """Put the sample's next event on the list."""
        match stream.acts_on:
            case "nothing" | None:
                stream.trigger = None
            case "everything":
                stream.trigger = min(stream.told + (self._piece or 1), stream.tokens)
            case WindowBelow(size=size, threshold=threshold):
                at = stream.falls_below(size, threshold)
                stream.trigger = None if at is None else max(at, stream.told + 1)
        drawn = stream.tokens
        if stream.trigger is not None:
            drawn = min(drawn, stream.trigger)
        stream.version += 1
        heapq.heappush(
            self._events, (stream.start + drawn, stream.order, stream.version, stream.number)
        )

    def _drawn_by_now(self, stream: _Stream) -> int:
        """Tokens that a running sample has drawn when its turn of this tick came, or has yet to."""
        had_turn = stream.order <= self._order
        drawn = self._tick - stream.start - (0 if had_turn else 1)
        return min(max(drawn, stream.booked), stream.tokens)

    def _catch_up(self, sample: int) -> None:
        stream = self._streams.get(sample)
        if stream is not None:
            self._book(stream, self._drawn_by_now(stream))

    def _book(self, stream: _Stream, drawn: int) -> None:
        """Count tokens; the time told is that of the sample's first, all that is kept of it."""
        if drawn > stream.booked:
            chunk = stream.chunk(stream.booked, drawn)
            self._session.book(stream.number, chunk, (stream.start + 1) * self._clock.token_s)
            stream.booked = drawn
