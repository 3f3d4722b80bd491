"""The straight way to one sample's answer gives what the loop around several gives."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import pytest

from suffice.backends.fake import FakeBackend, Fault, Script
from suffice.backends.pool import BackendPool
from suffice.backends.retry import RetryConfig
from suffice.backends.router import Affinity
from suffice.core.completions import Budget, Completion, Cost, Usage, count_tokens_only
from suffice.core.errors import SufficeError
from suffice.core.requests import Message, Request, Sampling, ToolCall
from suffice.evals.extract import number
from suffice.executors import live
from suffice.executors.one_sample import OneSample
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.fixed import SelfConsistency, Single
from suffice.policies.registry import parse_policy

ASKED = Request(
    messages=(Message(role="user", content="2+2?"),),
    model="fake",
    answer_format="number",
    sampling=Sampling(max_tokens=40, seed=7),
)
FREE = replace(ASKED, answer_format=None)
GREEDY = replace(ASKED, sampling=Sampling(max_tokens=40, temperature=0.0))
CALL = ToolCall(id="a", name="f", arguments="{}")
SCRIPTS = {
    "a number": Script.of("it is 4"),
    "no number": Script.of("nobody knows"),
    "nothing": replace(Script.of(""), tokens=()),
    "a call": Script.of("", tool_calls=(CALL,)),
    "too long": Script.of("so " * 60 + "4"),
    "no usage": replace(Script.of("4"), prompt_tokens=0),
    **{
        kind: Script.of("it is 4", fault=Fault(kind=kind, after_chunks=1))  # type: ignore[arg-type]
        for kind in ("refused", "timeout", "disconnected", "malformed", "rejected")
    },
    "refused at once": Script.of("4", fault=Fault(kind="refused", after_chunks=0)),
}
POLICIES = (
    (Single(), ASKED), (Single(), FREE), (Single(logprobs=True), ASKED),
    (Single(effort="low"), ASKED), (Single(max_tokens=3), ASKED),
    (AdaptiveConsistency(), FREE), (SelfConsistency(samples=3), GREEDY),
)  # fmt: skip


async def later(completion: Completion) -> str | None:
    await asyncio.sleep(0)
    return number(completion)


def broken(completion: Completion) -> str | None:
    raise ZeroDivisionError(completion.text)


def priced(model: str, usage: Usage) -> Cost:
    del model
    return Cost(tokens=usage.total_tokens, usd=2.0 * usage.total_tokens)


def answered(policy: Any, request: Request, script: Script, **how: Any) -> Any:
    """Outcome or error, the events, and which samples were with an engine."""
    events: list[Any] = []
    reached: set[int] = set()

    async def go() -> Any:
        pool = BackendPool([FakeBackend([script])], retry=RetryConfig(attempts=1))
        try:
            return await live.run(
                policy, request, pool.placed(Affinity()), reached=reached, happened=events.append,
                unstreamed_tokens=100, clock=lambda: 0.0, **how,
            )  # fmt: skip
        except (SufficeError, ZeroDivisionError) as error:
            return type(error), str(error)

    found = asyncio.run(go())
    told = [
        (type(event), str(event.error), event.sample) if isinstance(event, live.Failed) else event
        for event in events
    ]
    return found, told, reached


@pytest.mark.parametrize("extract", [number, None, later, broken])
def test_outcome_events_and_errors_are_those_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, extract: Any
) -> None:
    how = {"extract": extract, "cost_model": count_tokens_only if extract else priced}
    cases = [(*pair, script) for pair in POLICIES for script in SCRIPTS.values()]
    straight = [answered(*case, **how) for case in cases]
    monkeypatch.setattr(OneSample, "of", lambda *_, **__: None)
    for case, found in zip(cases, straight, strict=True):
        outcome, told, reached = answered(*case, **how)
        assert found[0] == outcome, case
        assert found[2] == reached, case
        if extract is not broken:  # a bug of ours: the loop stops before it tells of the chunk
            assert found[1] == told, case


def test_which_requests_go_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    of = OneSample.of

    def seen(*given: Any, **named: Any) -> Any:
        one = of(*given, **named)
        taken.append(one is not None)
        return one

    monkeypatch.setattr(OneSample, "of", seen)
    script = SCRIPTS["a number"]
    answered(Single(), ASKED, script)
    answered(AdaptiveConsistency(), FREE, script)
    answered(Single(), ASKED, script, budget=Budget(samples=64))
    assert taken == [True, True, True]
    taken.clear()
    for bound in (Budget(completion_tokens=100), Budget(elapsed_s=9.0), Budget(samples=0)):
        answered(Single(), ASKED, script, budget=bound)
    assert taken == []
    answered(AdaptiveConsistency(), ASKED, script)
    answered(Single(), replace(ASKED, sampling=Sampling(max_tokens=101)), script)
    answered(Single(), replace(ASKED, sampling=Sampling()), script)
    answered(parse_policy("adaptive_consistency:accept=.9 > single"), FREE, script)
    assert not any(taken)


def test_an_outcome_beside_its_saving_keeps_every_other_field() -> None:
    outcome = answered(Single(), ASKED, SCRIPTS["a number"], extract=number)[0]
    odd = replace(outcome, **{f.name: f.name for f in fields(outcome)})
    assert odd.beside("s", "p") == replace(odd, saving="s", promised="p")
