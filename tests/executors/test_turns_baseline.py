"""What the same calls would have cost in turns: held against turns that were really run.

The counter is not the formula's: it cuts the JSON that is sent into words of at most five letters
and runs of signs, much as a byte-level tokenizer does.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from small_planner.oracle import Oracle
from small_planner.questions import Country, questions

from suffice.backends.wire import message_json, tool_json
from suffice.core.completions import Outcome, SampleRecord, ToolRecord, Usage
from suffice.core.prices import Prices
from suffice.core.requests import Message, Request
from suffice.executors.baseline import compare_with_turns
from suffice.executors.live import run
from suffice.executors.turns_baseline import CALL_FORM, Round, rounds_of, usage_in_turns
from suffice.policies.registry import parse_policy
from suffice.tools.servers import python
from suffice.tools.toolbox import Toolbox

COUNTRY = Country()
BOX = Toolbox([COUNTRY.server()])
ASKED = questions(24, seed=5, split="held_out", country=COUNTRY)
WAYS = {
    "rewoo": "rewoo", "rewoo:notation=python": "python", "dag": "numbered",
    "program": "program", "futures": "futures", "abstraction": "abstraction",
}  # fmt: skip


def words(value: object) -> int:
    return len(re.findall(r"\w{1,5}|[^\w\s]+", json.dumps(value)))


class Counting(Oracle):
    """The model that knows, with an engine's count of what it read and wrote."""

    cache = False
    before = ""

    async def stream(self, draw):
        sent = [tool_json(tool) for tool in draw.request.tools]
        sent += [message_json(turn) for turn in draw.request.messages]
        prompt = words(sent)
        async for chunk in super().stream(draw):
            calls = [{"name": c.name, "arguments": c.arguments} for c in chunk.tool_calls]
            written = max(1, words([chunk.text, *calls]))
            usage = Usage(prompt_tokens=prompt, completion_tokens=written)
            if self.cache:
                usage = replace(usage, cached_tokens=self._cached(json.dumps(sent)))
            yield replace(chunk, usage=usage)

    def _cached(self, sent: str) -> int:
        same = next(
            (n for n, (a, b) in enumerate(zip(sent, self.before, strict=False)) if a != b), 0
        )
        self.before = sent
        return words(sent[:same])


def answered(question, policy: str, writes: str, *, cache: bool = False) -> tuple[Outcome, Request]:
    sandbox = python.server()
    box = Toolbox([COUNTRY.server(), sandbox]) if writes == "program" else BOX
    model = Counting(question, writes, box)
    model.cache = cache
    request = Request(messages=(Message(role="user", content=question.text),), model="planner")
    outcome = asyncio.run(run(parse_policy(policy), request, model, toolbox=box))
    asyncio.run(sandbox.aclose())
    assert outcome.completion.text == question.answer
    return outcome, request


@pytest.fixture(scope="module")
def in_turns() -> list[Outcome]:
    return [answered(question, "react", "turns")[0] for question in ASKED]


@pytest.mark.parametrize("policy", WAYS)
def test_the_estimate_is_what_turns_really_take(policy: str, in_turns: list[Outcome]) -> None:
    asked = ASKED[:5] if policy == "program" else ASKED
    estimated = real = 0
    for question, turns in zip(asked, in_turns, strict=False):
        outcome, request = answered(question, policy, WAYS[policy])
        found = usage_in_turns(outcome, request, BOX.tools)
        assert found is not None
        assert len(found) == len(turns.records), question.text
        each = sum(usage.total_tokens for usage in found)
        assert each == pytest.approx(turns.usage.total_tokens, rel=0.35)
        estimated, real = estimated + each, real + turns.usage.total_tokens
    assert estimated == pytest.approx(real, rel=0.2)


def test_what_is_saved_is_what_is_really_saved_and_may_be_less_than_nothing(
    in_turns: list[Outcome],
) -> None:
    for question, turns in zip(ASKED, in_turns, strict=True):
        outcome, request = answered(question, "rewoo", "rewoo")
        saving = compare_with_turns(outcome, request, BOX.tools, "planner", cost_model=Prices())
        assert saving is not None
        assert (saving.baseline, saving.basis, saving.method) == (
            "react@planner", "estimated", "turns",
        )  # fmt: skip
        spent = outcome.usage.total_tokens
        assert saving.cost == spent
        assert saving.saved == pytest.approx(1.0 - spent / turns.usage.total_tokens, abs=0.15)
    plan = replace(outcome.records[0].usage, completion_tokens=2_000)  # it went on and on
    records = (replace(outcome.records[0], usage=plan), *outcome.records[1:])
    longer = replace(outcome, records=records)
    saving = compare_with_turns(longer, request, BOX.tools, "planner", cost_model=Prices())
    assert saving is not None and saving.saved is not None and saving.saved < 0.0


def test_turns_beside_turns_are_the_same(in_turns: list[Outcome]) -> None:
    for outcome, question in zip(in_turns, ASKED, strict=True):
        request = Request(messages=(Message(role="user", content=question.text),), model="planner")
        saving = compare_with_turns(outcome, request, BOX.tools, "planner", cost_model=Prices())
        assert saving is not None
        assert (saving.basis, saving.saved) == ("same", None)


def test_a_cache_that_the_engine_tells_of_is_given_to_turns_too() -> None:
    question = max(ASKED, key=lambda question: len(question.plan.waves()))
    prices = Prices.parse(["planner=1/4/0.1"])
    plain, request = answered(question, "rewoo", "rewoo")
    cached, _ = answered(question, "rewoo", "rewoo", cache=True)
    found = usage_in_turns(cached, request, BOX.tools)
    assert found is not None
    for before, turn in pairwise(found):
        assert turn.cached_tokens == before.prompt_tokens + before.completion_tokens
    without, with_cache = (
        compare_with_turns(each, request, BOX.tools, "planner", cost_model=prices)
        for each in (plain, cached)
    )
    assert without is not None and with_cache is not None
    assert without.saved is not None and with_cache.saved is not None
    assert with_cache.saved < without.saved
    real, _ = answered(question, "react", "turns", cache=True)
    spent = sum(prices.amount("planner", record.usage) for record in real.records)
    assert 0.65 * spent < with_cache.baseline_cost < spent  # a perfect one: no more than was spent


def test_rounds_follow_citations_new_plans_and_runs_of_a_program() -> None:
    def call(number: int, step: str, cites: tuple[str, ...] = (), tool: str = "t", **how):
        return ToolRecord(
            call=number, tool=tool, status="finished", step=step, cites=cites,
            argument_chars=10, result_chars=3, **{"attempts": 1, **how},
        )  # fmt: skip

    one = 1 + 10 + len(CALL_FORM)
    tree = [call(0, "1"), call(1, "2"), call(2, "3", ("1", "2")), call(3, "4", ("1",))]
    assert rounds_of(tree, "py") == [Round(calls=2 * one, results=6)] * 2
    refused = [call(0, "1"), call(1, "2", ("1",), attempts=0)]
    assert rounds_of(refused, "py") == [Round(calls=one, results=3)]
    again = [call(0, "1"), call(1, "1", version=1), call(2, "2", ("1",), version=1)]
    assert rounds_of(again, "py") == [Round(calls=one, results=3)] * 3
    program = [call(0, "run 1", tool="py"), call(1, "1"), call(2, "2"),
               call(3, "run 2", tool="py"), call(4, "3"), call(5, "run 3", tool="py")]  # fmt: skip
    assert rounds_of(program, "py") == [
        Round(calls=2 * one, results=6), Round(calls=one, results=3),
    ]  # fmt: skip
    assert rounds_of([], "py") == []


def test_nothing_is_said_where_the_engine_counted_nothing() -> None:
    outcome, request = answered(ASKED[0], "rewoo", "rewoo")
    records = tuple(replace(record, told=False) for record in outcome.records)
    assert all(isinstance(record, SampleRecord) and record.prompt_chars for record in records)
    untold = replace(outcome, records=records)
    assert compare_with_turns(untold, request, BOX.tools, "m", cost_model=Prices()) is None
