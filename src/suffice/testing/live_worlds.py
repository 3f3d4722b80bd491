"""Made-up samples played by the live executor, in an order of the test's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from suffice.backends.protocol import Capabilities, Chunk
from suffice.core.completions import (
    Budget,
    Outcome,
)
from suffice.core.decisions import AnyPolicy
from suffice.core.draw import Draw
from suffice.core.errors import (
    BackendError,
    BudgetTooSmall,
    NoAnswer,
)
from suffice.core.requests import Request
from suffice.executors import live as live_loop
from suffice.executors.running_sample import Launch
from suffice.executors.session import Session
from suffice.testing.policy_worlds import (
    COMPARABLE,
    MOST_STEPS,
    Deals,
    Run,
    World,
    _Driver,
    answer_of,
    score_of,
)


class TakingTurns:
    """A backend whose streams go on when it is their turn."""

    name = "turns"

    def __init__(self, world: World) -> None:
        self._deals = Deals(world)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._begun = 0

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """Everything."""
        del model
        return Capabilities(
            models=("m",), logprobs=True, max_top_logprobs=20, thinking_switch="enable_thinking",
            thinking_budget=True, prefill=True,
        )  # fmt: skip

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """The next sample of the model, a chunk a turn."""
        number, self._begun = self._begun, self._begun + 1
        for chunk in self._deals(draw.model).chunks(draw.sampling):
            await self._turn(number)
            yield chunk
        await self._turn(number)

    async def _turn(self, number: int) -> None:
        turn = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await turn
        finally:
            self._waiting.pop(number, None)

    async def conduct(self, order: Sequence[int]) -> None:
        """Give turns in this order, then in rotation; until it is cancelled."""
        steps, step = iter(order), 0
        while True:
            for _ in range(8):  # whoever had a turn is done with it, and the loop has read it
                await asyncio.sleep(0)
            waiting = sorted(self._waiting)
            if waiting:
                number = next(steps, step)
                step += 1
                turn = self._waiting[waiting[number % len(waiting)]]
                if not turn.done():
                    turn.set_result(None)

    async def aclose(self) -> None:
        """Nothing to close."""


def live(
    policy: AnyPolicy,
    world: World,
    order: Sequence[int] = (),
    *,
    request: Request = COMPARABLE,
    budget: Budget | None = None,
) -> Run:
    """The policy in the live loop."""
    return asyncio.run(_live(policy, world, order, request, budget))


async def _live(
    policy: AnyPolicy,
    world: World,
    order: Sequence[int],
    request: Request,
    budget: Budget | None,
) -> Run:
    backend = TakingTurns(world)
    conductor = asyncio.create_task(backend.conduct(order))
    launches: list[Launch] = []
    ends: list[int] = []
    outcome: Outcome | None = None
    try:
        async for event in live_loop.stream(
            policy, request, backend, budget=budget, extract=answer_of,
            score=lambda _, said: score_of(said), tick_s=3600.0,
        ):  # fmt: skip
            match event:
                case live_loop.Launched():
                    launches.append(event.launch)
                case live_loop.Finished() | live_loop.Failed():
                    ends.append(event.sample)
                case live_loop.Settled():
                    outcome = event.outcome
                case _:
                    pass
    except (NoAnswer, BudgetTooSmall, BackendError) as error:
        return Run(outcome=None, error=error)
    finally:
        conductor.cancel()
        await asyncio.wait([conductor])
    return Run(outcome=outcome, launches=tuple(launches), ends=tuple(ends))


def in_that_order(
    policy: AnyPolicy,
    world: World,
    ends: Sequence[int],
    *,
    request: Request = COMPARABLE,
    budget: Budget | None = None,
) -> Run:
    """The policy against a world whose samples come whole, one after the other in this order."""
    try:
        session = Session(policy, request, budget=budget)
        driver = _Driver(session, world)
        driver.obey(session.start(0.0))
        for sample in ends:
            if not session.decided:
                driver.move(sample, MOST_STEPS)
        outcome = session.outcome(driver.now_s)
    except (NoAnswer, BudgetTooSmall, BackendError) as error:
        return Run(outcome=None, error=error)
    return Run(outcome=outcome, launches=tuple(driver.launches), ends=tuple(driver.ends))
