"""Recorded samples played through a session in long pieces, from one event to the next.

Every running sample draws one token per tick; a sample begun at tick s draws its k-th token at
tick s + k, and samples of one tick take turns in the order they were begun. Between two ticks at
which a policy acts (a sample ends, or does what the policy acts on) nothing depends on the
tokens one by one, so they are booked together. The outcome is that of playing token by token.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from suffice.core.completions import (
    Budget,
    Completion,
    CostModel,
    Outcome,
    count_tokens_only,
)
from suffice.core.decisions import AnyPolicy, CallTool, ToolFailure, Trigger, WindowBelow
from suffice.core.requests import Request
from suffice.executors.recorded_stream import RecordedSample, RecordedStream
from suffice.executors.running_sample import Launch
from suffice.executors.session import Command, Session, Stop
from suffice.executors.tool_book import CallEnded, StartCall


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """What a call of a tool came to when it was recorded."""

    result: str = ""
    failure: ToolFailure | None = None
    message: str = ""
    elapsed_s: float = 0.0


# What a call plays.
CallRecording = Callable[[CallTool], RecordedCall]
# What a launch plays; raises LacksCapability where nothing fitting was recorded.
Recording = Callable[[Launch], RecordedSample]
# The comparable key of a sample that the budget cut short, from what there is of it.
CutAnswer = Callable[[Completion], str | None]


# Stands for the version of a stream where an event is the end of a tool call.
CALL = -1


def _not_recorded(action: CallTool) -> RecordedCall:
    return RecordedCall(failure="lost", message=f"no call of {action.tool} was recorded")


class Span(NamedTuple):
    """When a sample ran: its tokens were drawn at the ticks start + 1 to end."""

    start: int
    end: int


class ReplayedSession(NamedTuple):
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
    calls: CallRecording | None = None,
) -> ReplayedSession:
    """The outcome of `request` had its samples been the recorded ones.

    A tick lasts `token_s`; `first_ticks` pass before a sample's first token. `piece` tokens at a
    time reach the policy; None: as many as it is indifferent to. `calls` plays calls of tools;
    without it there are none.
    """
    session = Session(policy, request, budget=budget, cost_model=cost_model)
    clock = _Clock(token_s, first_ticks)
    return _Player(
        session,
        recording,
        clock,
        extract_cut=extract_cut,
        piece=piece,
        calls=calls or _not_recorded,
    ).run()


class _Clock(NamedTuple):
    token_s: float
    first_ticks: int


class _Player:
    def __init__(
        self,
        session: Session,
        recording: Recording,
        clock: _Clock,
        *,
        extract_cut: CutAnswer | None,
        piece: int | None,
        calls: CallRecording,
    ) -> None:
        session.catch_up = self._catch_up
        self._session, self._recording, self._clock = session, recording, clock
        self._extract_cut, self._piece = extract_cut, piece
        # Nothing changes what such a policy acts on: no need to ask it again and again.
        self._indifferent = session.policy.waits_for_ends
        self._streams: dict[int, RecordedStream] = {}
        self._all: list[RecordedStream] = []
        self._events: list[tuple[int, int, int, int]] = []  # tick, order, version, sample
        self._calls = calls
        self._ends: dict[int, CallEnded] = {}  # of the calls that run
        self._begun = 0
        self._tick = 0  # of the event at hand
        self._order = -1  # of the sample whose event it is

    def run(self) -> ReplayedSession:
        """Play to the decision."""
        session = self._session
        self._obey(session.start(0.0))
        last, events, streams = self._deadline(), self._events, self._streams
        while events and session.decision is None:
            tick, order, version, sample = heapq.heappop(events)
            stream = streams.get(sample)
            is_call = version == CALL
            if is_call and sample not in self._ends:
                continue
            if not is_call and (stream is None or stream.version != version):
                continue
            if last is not None and last < tick:
                self._tick = last
                self._expire()
                break
            self._tick, self._order = tick, order
            if is_call:
                self._obey(session.end_call(self._ends.pop(sample), tick * self._clock.token_s))
                continue
            assert stream is not None
            self._advance(stream, tick - stream.start)
        outcome = session.outcome(self._tick * self._clock.token_s)
        session.catch_up = None  # no cycle: thousands of sessions are gone as soon as they end
        spans = tuple([Span(each.start, each.start + each.booked) for each in self._all])
        return ReplayedSession(outcome, self._tick, spans)

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
        first = min(self._streams.values(), key=lambda stream: stream.order, default=None)
        if first is None:  # tools are at work alone
            session.tick(now_s)
            return
        self._order = first.order
        self._book(first, max(0, self._tick - first.start))
        if first.acts_on != "nothing":
            seen = first.seen(first.told, first.booked)
            first.told = first.booked
            session.see(seen, now_s)
        session.tick(now_s)

    def _advance(self, stream: RecordedStream, drawn: int) -> None:
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
                stream = RecordedStream(command, self._recording(command), start, self._begun)
                self._begun += 1
                self._streams[command.sample] = stream
                self._all.append(stream)
                stream.acts_on = self._acts_on(stream)
                self._plan(stream)
            elif isinstance(command, Stop):
                self._streams.pop(command.sample, None)
            elif isinstance(command, StartCall):
                self._begin_call(command)
            else:
                self._ends.pop(command.call, None)
        if not self._indifferent and self._session.decision is None:
            self._look_again()

    def _begin_call(self, command: StartCall) -> None:
        """Put a call's end on the list."""
        found, call = self._calls(command.action), command.call
        self._session.attempt_call(call)
        elapsed_s, limit_s = found.elapsed_s, command.limit_s
        ended = CallEnded(
            call=call, result=found.result, failure=found.failure, message=found.message
        )
        if limit_s is not None and elapsed_s > limit_s:
            why = f"the time for tools ended after {limit_s:g} s"
            elapsed_s, ended = limit_s, CallEnded(call=call, failure="budget", message=why)
        token_s = self._clock.token_s
        ticks = math.ceil(elapsed_s / token_s) if token_s else 0
        self._ends[call] = ended
        heapq.heappush(self._events, (self._tick + ticks, self._begun, CALL, call))
        self._begun += 1

    def _look_again(self) -> None:
        """What the policy acts on in running samples may have changed with its state."""
        for stream in self._streams.values():
            acts_on = self._acts_on(stream)
            if acts_on != stream.acts_on:
                stream.acts_on = acts_on
                stream.told = stream.since = self._drawn_by_now(stream)
                self._plan(stream)

    def _acts_on(self, stream: RecordedStream) -> Trigger:
        if self._piece:
            return "everything"
        return "nothing" if self._indifferent else self._session.acts_on(stream.number)

    def _plan(self, stream: RecordedStream) -> None:
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

    def _drawn_by_now(self, stream: RecordedStream) -> int:
        """Tokens that a running sample has drawn when its turn of this tick came, or has yet to."""
        had_turn = stream.order <= self._order
        drawn = self._tick - stream.start - (0 if had_turn else 1)
        return min(max(drawn, stream.booked), stream.tokens)

    def _catch_up(self, sample: int) -> None:
        stream = self._streams.get(sample)
        if stream is not None:
            self._book(stream, self._drawn_by_now(stream))

    def _book(self, stream: RecordedStream, drawn: int) -> None:
        """Count tokens; the time told is that of the sample's first, all that is kept of it."""
        if drawn > stream.booked:
            chunk = stream.chunk(stream.booked, drawn)
            self._session.book(stream.number, chunk, (stream.start + 1) * self._clock.token_s)
            stream.booked = drawn
