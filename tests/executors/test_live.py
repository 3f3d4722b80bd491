"""The live loop against the scripted backend: streaming, cancelling, faults."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from suffice.backends.fake import ABLE, FakeBackend, Fault, Script
from suffice.core.completions import Budget
from suffice.core.errors import (
    BudgetTooSmall,
    LacksCapability,
    MalformedStream,
    NoAnswer,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Message, Request, Sampling
from suffice.core.thinking import Thinking
from suffice.evals.extract import number
from suffice.executors.live import Failed, Finished, Launched, Settled, Streamed, run, stream
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.answer_stability import AnswerStability
from suffice.policies.deepconf import DeepConfOnline
from suffice.policies.fixed import BestOfN, SelfConsistency, Single
from suffice.policies.short_m_at_k import ShortMAtK

REQUEST = Request(
    messages=(Message(role="user", content="2+2?"),), model="fake", answer_format="number"
)


def go(policy, backend, **how):
    return asyncio.run(run(policy, REQUEST, backend, extract=number, **how))


def test_a_vote_over_a_real_loop():
    backend = FakeBackend([Script.of(f"it is {n}") for n in (4, 4, 5, 4, 4)])
    outcome = go(AdaptiveConsistency(max_samples=5), backend)
    assert outcome.completion.text == "it is 4"
    assert outcome.usage.completion_tokens == backend.traffic.tokens
    assert backend.traffic.cancelled == 0
    assert 0 <= outcome.overhead_s <= outcome.elapsed_s


def test_what_is_no_longer_needed_is_closed_upstream():
    slow = Script.of("so " * 500 + "9", delay_s=0.01)
    backend = FakeBackend([Script.of("it is 4"), Script.of("it is 4"), slow, slow])
    outcome = go(ShortMAtK(k=4, m=2), backend)
    assert outcome.samples_cancelled == 2
    assert backend.traffic.tokens < 1000  # neither of the slow ones came to its end
    traffic = backend.traffic
    assert (traffic.running, traffic.cancelled, traffic.finished) == (0, 2, 2)


def test_tokens_arrive_before_the_sample_ends():
    backend = FakeBackend([Script.of("one two three four", delay_s=0.02)])
    events = []

    async def watch():
        async for event in stream(Single(), REQUEST, backend, extract=number):
            events.append(event)
            if isinstance(event, Streamed) and event.chunk.text == "one":
                assert backend.traffic.tokens < 4
                assert event.final

    asyncio.run(watch())
    assert isinstance(events[0], Launched)
    assert isinstance(events[-1], Settled)
    assert isinstance(events[-2], Finished)
    text = "".join(event.chunk.text for event in events if isinstance(event, Streamed))
    assert text == events[-1].outcome.completion.text == "one two three four"


def test_a_slow_reader_is_not_overhead():
    backend = FakeBackend([Script.of("one two three four")])

    now_s = 60.0  # a machine that has just booted

    async def watch():
        nonlocal now_s
        async for event in stream(
            Single(),
            REQUEST,
            backend,
            extract=number,
            clock=lambda: now_s,  # noqa: B023
        ):
            now_s += 1.0  # the reader takes a second for every event
            if isinstance(event, Settled):
                return event.outcome
        return None

    outcome = asyncio.run(watch())
    assert outcome.elapsed_s >= 4.0
    assert outcome.overhead_s == 0.0


def test_leaving_the_loop_closes_every_stream():
    backend = FakeBackend([Script.of("a " * 500, delay_s=0.01)])

    async def leave():
        events = stream(SelfConsistency(samples=6), REQUEST, backend, extract=number)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Streamed):
                    assert backend.traffic.running == 6
                    break
        return backend.traffic.running, backend.traffic.cancelled

    assert asyncio.run(leave()) == (0, 6)


def test_cancelling_the_task_closes_every_stream():
    backend = FakeBackend([Script.of("a " * 500, delay_s=0.01)])

    async def leave():
        task = asyncio.create_task(run(SelfConsistency(samples=3), REQUEST, backend))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return backend.traffic.running

    assert asyncio.run(leave()) == 0


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refused", UpstreamRefused),
        ("timeout", UpstreamTimeout),
        ("disconnected", UpstreamDisconnected),
        ("malformed", MalformedStream),
        ("rejected", UpstreamRejected),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
def test_a_fault_is_an_error_when_nothing_else_answers(kind, error, after):
    broken = Script.of("it is surely 4", fault=Fault(kind=kind, after_chunks=after))
    with pytest.raises(error):
        go(Single(), FakeBackend([broken]))
    backend = FakeBackend([broken, *[Script.of("it is 4")] * 6])
    outcome = go(AdaptiveConsistency(), backend)
    assert outcome.completion.text == "it is 4"
    assert [record.status for record in outcome.records].count("failed") == 1


def test_an_upstream_that_is_down_is_not_asked_forty_times():
    backend = FakeBackend([Script.of("4", fault=Fault(kind="refused"))])
    with pytest.raises(UpstreamRefused):
        go(AdaptiveConsistency(max_samples=40), backend)
    assert len(backend.traffic.calls) <= 6


def test_a_hang_ends_with_the_time_budget():
    hang = Script.of("it is 4", fault=Fault(kind="hang", after_chunks=1))
    backend = FakeBackend([hang])
    outcome = go(Single(), backend, budget=Budget(elapsed_s=0.1))
    assert (outcome.completion.text, outcome.completion.finish_reason) == ("it", "length")
    assert backend.traffic.running == 0
    silent = FakeBackend([Script.of("4", fault=Fault(kind="hang"))])
    with pytest.raises(NoAnswer, match="time budget reached"):
        go(Single(), silent, budget=Budget(elapsed_s=0.1))


def test_needs_are_checked_before_anything_is_spent():
    poor = replace(ABLE, logprobs=False, max_top_logprobs=0, prefill=False)
    backend = FakeBackend([Script.of("4")], capabilities=poor)
    for policy, says in (
        (DeepConfOnline(), "no top logprobs"),
        (AnswerStability(), "cannot continue"),
        (BestOfN(), "no verifier"),
    ):
        with pytest.raises(LacksCapability, match=says):
            go(policy, backend)
    assert backend.traffic.calls == []
    assert go(Single(), backend).confidence is None  # its wish for logprobs is no need
    assert backend.traffic.calls[0].sampling.top_logprobs is None


def test_single_goes_by_its_mean_token_probability_where_asked():
    backend = FakeBackend([Script.of("it is 4")])
    outcome = go(Single(logprobs=True), backend)
    assert outcome.measure == pytest.approx(0.5)  # the fake draws every token at 1/2
    assert outcome.confidence is None  # one sample agrees with itself only
    plain = go(Single(), backend)
    assert plain.measure is None
    assert backend.traffic.calls[-1].sampling.top_logprobs is None


def test_deepconf_cancels_hesitant_traces_live():
    def director(n, call):
        level = 0.2 if n >= 4 else 2.0
        delay = 0.002 if n >= 4 else 0.0
        answer = "4" if n % 2 else "5"
        return Script.of("so " * 60 + answer, confidences=(level,), delay_s=delay)

    backend = FakeBackend(director)
    outcome = go(DeepConfOnline(max_samples=8, warmup=4, parallel=2), backend)
    assert outcome.samples_cancelled == 4
    assert backend.traffic.cancelled == 4
    assert all(record.usage.completion_tokens < 40 for record in outcome.records[4:])


def test_a_score_may_be_a_coroutine():
    async def score(request, completion):
        await asyncio.sleep(0.01)
        return float(completion.text[-1])

    backend = FakeBackend([Script.of(f"it is {n}") for n in (3, 7, 5)])
    outcome = go(BestOfN(samples=3), backend, score=score)
    assert outcome.completion.text == "it is 7"
    assert [record.score for record in outcome.records] == [3.0, 7.0, 5.0]


def test_a_bug_in_a_scorer_is_raised_not_swallowed():
    def score(request, completion):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        go(BestOfN(samples=2), FakeBackend([Script.of("it is 4")]), score=score)


def test_budget_reaches_the_engine_as_its_limit():
    backend = FakeBackend([Script.of("a b c d e f g h 4")])
    outcome = go(SelfConsistency(samples=3), backend, budget=Budget(completion_tokens=10))
    assert [call.sampling.max_tokens for call in backend.traffic.calls] == [3, 3, 4]
    assert outcome.usage.completion_tokens == backend.traffic.tokens == 10
    with pytest.raises(BudgetTooSmall):
        go(Single(), backend, budget=Budget(completion_tokens=0))


def test_failures_are_events():
    broken = Script.of("it is 4", fault=Fault(kind="refused"))

    async def watch():
        backend = FakeBackend([broken, Script.of("it is 4")])
        policy = SelfConsistency(samples=2)
        return [event async for event in stream(policy, REQUEST, backend, extract=number)]

    events = asyncio.run(watch())
    kinds = [type(event) for event in events]
    # Nor does one hold on to what it went through: of a flood, all that had come.
    assert [e.error.__traceback__ for e in events if isinstance(e, Failed)] == [None]
    assert kinds[-1] is Settled


class Ignoring(FakeBackend):
    """An engine that pays no heed to max_tokens."""

    async def stream(self, draw):
        unlimited = replace(draw.sampling, max_tokens=None)
        async for chunk in super().stream(replace(draw, sampling=unlimited)):
            yield chunk


async def number_later(completion):
    await asyncio.sleep(0.01)
    return number(completion)


def test_a_sample_that_overran_is_still_judged_by_a_coroutine():
    backend = Ignoring([Script.of("4 " * 50)])
    request = replace(REQUEST, sampling=Sampling(max_tokens=3))
    answering = run(SelfConsistency(samples=2), request, backend, extract=number_later)
    outcome = asyncio.run(asyncio.wait_for(answering, 2.0))
    assert outcome.votes == (("4", 2),)
    assert outcome.completion.finish_reason == "length"
    assert backend.traffic.running == 0


@pytest.mark.parametrize("budget", [Budget(samples=16), Budget(completion_tokens=48)])
def test_hundreds_of_refused_samples_do_not_end_those_that_run(budget):
    backend = FakeBackend([Script.of("it is 4")])
    request = replace(REQUEST, sampling=Sampling(max_tokens=3))
    policy = SelfConsistency(samples=600)
    outcome = asyncio.run(run(policy, request, backend, extract=number, budget=budget))
    assert outcome.votes == (("4", 16),)


class Lingering(FakeBackend):
    """An engine whose sockets take long to close."""

    closing = most_closing = 0

    async def stream(self, draw):
        try:
            async for chunk in super().stream(draw):
                yield chunk
        finally:
            self.closing += 1
            self.most_closing = max(self.most_closing, self.closing)
            await asyncio.sleep(0.05)
            self.closing -= 1


def test_streams_are_closed_together_not_one_after_the_other():
    slow = Script.of("so " * 500 + "9", delay_s=0.01)
    backend = Lingering([Script.of("it is 4"), slow])
    outcome = go(ShortMAtK(k=12, m=1), backend)
    assert outcome.samples_cancelled == 11
    assert backend.most_closing >= 11
    assert backend.traffic.running == 0


def test_a_judgement_that_is_cancelled_before_it_begins_leaves_nothing_behind():
    backend = FakeBackend([Script.of("4")])
    hurried = ShortMAtK(k=4, m=1)
    outcome = asyncio.run(run(hurried, REQUEST, backend, extract=number_later))
    assert outcome.samples_run == 4


def test_an_effort_that_nobody_would_heed_is_refused_before_anything_is_sent():
    backend = FakeBackend(
        [Script.of("4")], capabilities=replace(ABLE, thinking_switch=None, thinking_budget=False)
    )
    request = replace(REQUEST, thinking=Thinking.of_effort("low"))
    with pytest.raises(LacksCapability, match="neither a thinking switch nor a thinking budget"):
        asyncio.run(run(Single(), request, backend))
    assert backend.traffic.calls == []


def test_what_the_session_launches_is_what_the_backend_is_asked_for():
    backend = FakeBackend([Script.of("so 4")])
    request = replace(REQUEST, sampling=Sampling(max_tokens=9, seed=5))
    launched = []

    def note(event):
        if isinstance(event, Launched):
            launched.append(event.launch)

    asyncio.run(run(SelfConsistency(samples=3), request, backend, extract=number, happened=note))
    assert [launch.draw.sampling.seed for launch in launched] == [5, 6, 7]
    assert [launch.draw for launch in launched] == backend.traffic.calls
