"""Tools that misbehave: everything is bounded, said clearly, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from suffice.backends.fake import FakeBackend, Script
from suffice.core.completions import Budget, ToolRecord
from suffice.core.requests import ToolHints
from suffice.executors.live import run, stream
from suffice.executors.tool_calls import ToolLimits
from suffice.policies.registry import parse_policy
from suffice.tools.functions import FunctionTools
from suffice.tools.protocol import ToolLost, ToolResult
from suffice.tools.toolbox import Toolbox
from tests.tools.scripted import PRIVATE, Ran, Recorded, ask, calls, echo, question, tool
from tests.tools.with_sandbox import ask_program

ONE = "#E1 = search[a]"
POLICIES = ["react", "rewoo", "dag", "futures", "abstraction", "program"]


def said(policy: str) -> list[Script]:
    if policy in ("futures", "react"):
        first = Script.of("", tool_calls=calls(("search", {"query": "a"})))
        return [first, *[Script.of("ready")] * (policy == "futures"), Script.of("done")]
    if policy == "abstraction":
        return [Script.of("[search(a) = y1]\nAnswer: y1"), Script.of("done")]
    if policy == "program":  # one that fails is written again, and fails again
        program = Script.of('print(search("a"))')
        return [program, program, Script.of("done")]
    plan = Script(tokens=("#E1 = search[a]\n",)) if policy == "rewoo" else None
    numbered = Script(tokens=('1. search("a")\n', "2. join()"))
    return [plan or numbered, *([numbered] if policy == "dag" else []), Script.of("done")]


def asked(policy: str, server: Recorded, **given) -> Ran:
    """The question under a policy, with a sandbox beside the tools where it needs one."""
    if policy == "program":
        return ask_program(policy, said(policy), server=server, **given)
    return ask(parse_policy(policy), said(policy), server=server, **given)


def first_call(ran: Ran) -> ToolRecord:
    return next(each for each in ran.outcome.tool_records if each.tool != "run_python")


def failing(reply, *, hints=PRIVATE, delay_s=0.0):
    return Recorded(
        lambda n, a: reply, tools=(tool("search", hints=hints),), delay_s=lambda n, a: delay_s
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (RuntimeError("boom"), "RuntimeError: boom"),
        (ToolResult(text="no such page", is_error=True), "no such page"),
        (ToolLost("the server is gone"), "the server is gone"),
        (RecursionError("deep"), "RecursionError: deep"),
        (KeyError("x"), "KeyError: 'x'"),
        (asyncio.CancelledError(), "search cancelled itself"),
    ],
)
def test_a_tool_that_fails(policy: str, reply, reason: str) -> None:
    if isinstance(reply, asyncio.CancelledError):

        class Cancels(Recorded):
            async def call(self, tool, arguments):
                raise asyncio.CancelledError

        server = Cancels(echo, tools=(tool("search"),))
    else:
        server = failing(reply)
    ran = asked(policy, server)
    assert ran.text in ("done", "2. join()") or policy == "dag"
    first = first_call(ran)
    assert (first.status, first.reason) == ("failed", reason)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_tool_that_hangs(policy: str) -> None:
    server = failing("late", delay_s=10_000.0)
    ran = asked(policy, server, limits=ToolLimits(timeout_s=7.0))
    first = first_call(ran)
    assert first.reason == "search gave nothing within 7 s"
    assert first.elapsed_s == pytest.approx(7.0)
    assert server.running == 0


def test_a_tool_that_will_not_be_stopped_is_left_behind() -> None:
    class Stubborn(Recorded):
        async def call(self, tool, arguments):
            while True:
                try:
                    await asyncio.sleep(50.0)
                    return ToolResult(text="at last")
                except asyncio.CancelledError:
                    continue

    server = Stubborn(echo, tools=(tool("search"),))
    ran = ask(parse_policy("rewoo"), [ONE, "done"], server=server, limits=ToolLimits(timeout_s=1.0))
    assert ran.text == "done"
    assert ran.elapsed_s == pytest.approx(3.0)  # its limit, and as long again to let go


def test_a_function_that_hangs_in_its_thread_does_not_hold_the_answer_up() -> None:
    release = threading.Event()

    def search(query: str) -> str:
        """Never ends by itself."""
        release.wait(60)
        return query

    async def main() -> str:
        outcome = await run(
            parse_policy("rewoo"), question(), FakeBackend([Script.of(ONE), Script.of("done")]),
            toolbox=Toolbox([FunctionTools([search])]), limits=ToolLimits(timeout_s=0.1),
        )  # fmt: skip
        return outcome.completion.text

    try:
        assert asyncio.run(main()) == "done"
    finally:
        release.set()


@pytest.mark.parametrize("policy", POLICIES)
def test_ten_megabytes(policy: str) -> None:
    server = failing("x" * 10_000_000)
    ran = asked(policy, server)
    first = first_call(ran)
    assert (first.result_chars, first.cut_from) == (16_000, 10_000_000)
    assert sum(len(turn.text) for turn in ran.backend.traffic.calls[-1].request.messages) < 20_000


def test_a_lost_server_is_tried_again_only_where_nothing_can_be_done_twice() -> None:
    for hints, attempts in (
        (PRIVATE, 2), (ToolHints(idempotent=True), 2), (ToolHints(), 1),
        (ToolHints(read_only=False), 1), (ToolHints(destructive=True), 1),
    ):  # fmt: skip
        server = failing(ToolLost("gone"), hints=hints)
        ran = ask(parse_policy("rewoo"), [ONE, "done"], server=server)
        assert len(server.asked) == attempts == ran.outcome.tool_records[0].attempts


def test_a_plan_of_two_hundred_steps() -> None:
    plan = "\n".join(f"#E{n} = search[{n}]" for n in range(1, 201))
    ran = ask(parse_policy("rewoo"), [plan, plan, "from memory"])
    assert ran.server.asked == []
    assert "has 200 steps, at most 64 are allowed" in ran.prompt(1)
    allowed = ask(parse_policy("rewoo:max_steps=200"), [plan, "done"])
    assert len(allowed.server.asked) == 200
    assert allowed.server.most_running == 16
    assert len(ask(parse_policy("rewoo:max_steps=200"), [plan, "done"],
                   budget=Budget(tool_calls=7)).server.asked) == 7  # fmt: skip


@pytest.mark.parametrize(
    "plan",
    ["#E1 = search[#E2]\n#E2 = search[#E1]", "#E1 = search[a]\n#E1 = search[b]",
     "#E1 = search[#E1]"],
)  # fmt: skip
def test_plans_that_cannot_be_carried_out_call_nothing(plan: str) -> None:
    assert ask(parse_policy("rewoo"), [plan, plan, "from memory"]).server.asked == []


def test_leaving_in_the_middle_stops_every_call() -> None:
    server = Recorded(echo, delay_s=lambda n, a: 60.0)
    plan = "\n".join(f"#E{n} = search[{n}]" for n in range(1, 6))

    async def main() -> None:
        events = stream(
            parse_policy("rewoo"), question(), FakeBackend([Script.of(plan)]),
            toolbox=Toolbox([server]),
        )  # fmt: skip
        async for _ in events:
            if server.running == 5:
                break
            await asyncio.sleep(0)
        await events.aclose()

    asyncio.run(main())
    assert (server.running, server.stopped) == (0, 5)


def test_time_that_is_up_stops_every_call() -> None:
    server = failing("late", delay_s=100.0)
    ran = ask(parse_policy("react"), said("react"), server=server, budget=Budget(elapsed_s=5.0))
    assert ran.outcome.escalated and ran.elapsed_s == pytest.approx(5.0)
    assert (server.running, ran.outcome.tool_records[0].status) == (0, "cancelled")
