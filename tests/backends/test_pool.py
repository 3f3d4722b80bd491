from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from suffice.backends.fake import ABLE, FakeBackend, Fault, Script
from suffice.backends.pool import BackendPool
from suffice.backends.protocol import Capabilities
from suffice.backends.router import Affinity
from suffice.core.draw import Draw
from suffice.core.errors import InputError, UnknownName, UpstreamDisconnected, UpstreamRefused
from suffice.core.requests import Message, Request, Sampling


class DownBackend(FakeBackend):
    async def capabilities(self, model: str | None = None) -> Capabilities:
        raise UpstreamRefused(f"{self.name} refuses the connection")


def fake(name: str, *models: str, script: Script | None = None, **able: object) -> FakeBackend:
    capabilities = replace(ABLE, models=models, **able)  # type: ignore[arg-type]
    return FakeBackend([script or Script.of(name)], capabilities=capabilities, name=name)


def ask(pool: BackendPool, model: str, text: str = "q") -> str:
    async def main() -> str:
        request = Request(messages=(Message(role="user", content=text),), model=model)
        async with aclosing(pool.stream(Draw(request, Sampling(), model=model))) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    return asyncio.run(main())


def test_a_request_goes_where_its_model_is() -> None:
    pool = BackendPool([fake("one", "small"), fake("two", "large")])
    assert [ask(pool, "small"), ask(pool, "large")] == ["one", "two"]
    with pytest.raises(UnknownName, match=r"'mall'; did you mean small"):
        ask(pool, "mall")


def test_equal_prompts_share_an_upstream_and_others_spread() -> None:
    pool = BackendPool([fake(name, "m") for name in ("a", "b", "c")])
    answers = {text: {ask(pool, "m", text) for _ in range(4)} for text in map(str, range(40))}
    assert all(len(where) == 1 for where in answers.values())
    assert set().union(*answers.values()) == {"a", "b", "c"}


def test_a_refusal_falls_over_but_a_broken_stream_does_not() -> None:
    refusing = Script.of("x", fault=Fault(kind="refused"))
    pool = BackendPool([fake("up", "m"), fake("down", "m", script=refusing)])
    assert {ask(pool, "m", str(n)) for n in range(20)} == {"up"}
    breaking = Script.of("x y", fault=Fault(kind="disconnected", after_chunks=1))
    with pytest.raises(UpstreamDisconnected):
        ask(BackendPool([fake("b", "m", script=breaking)]), "m")


def test_capabilities_are_what_all_can_do() -> None:
    pool = BackendPool(
        [fake("a", "x"), fake("b", "y", logprobs=False, max_context_tokens=99)]
    )  # fmt: skip
    found = asyncio.run(pool.capabilities())
    assert found.models == ("x", "y")
    assert (found.logprobs, found.prefill, found.max_context_tokens) == (False, True, 99)


def test_a_dead_upstream_does_not_take_the_others_down() -> None:
    dead = DownBackend([Script.of("x")], name="dead")
    pool = BackendPool([dead, fake("alive", "m")])
    assert ask(pool, "m") == "alive"
    assert asyncio.run(pool.capabilities()).models == ("m",)
    with pytest.raises(UpstreamRefused):  # it may be the one that serves this model
        ask(pool, "other")
    with pytest.raises(UpstreamRefused):
        asyncio.run(BackendPool([dead]).capabilities())


def test_names_must_differ() -> None:
    with pytest.raises(InputError, match="must differ"):
        BackendPool([fake("a", "m"), fake("a", "m")])
    with pytest.raises(InputError, match="at least one"):
        BackendPool([])


@pytest.mark.parametrize("whole", [True, False])
def test_one_that_refuses_is_left_alone(whole: bool) -> None:
    refusing = Script.of("x", fault=Fault(kind="refused"))
    pool = BackendPool([fake("up", "m"), fake("down", "m", script=refusing)])
    request = Request(messages=(Message(role="user", content="q"),), model="m")

    async def main() -> None:
        for number in range(20):
            placed = pool.placed(Affinity(key=str(number).encode()))
            if whole:
                chunk = await placed.draw(Draw(request, Sampling(), model="m"))
                assert chunk.text == "up"
            else:
                async with aclosing(placed.stream(Draw(request, Sampling(), model="m"))) as chunks:
                    assert "".join([chunk.text async for chunk in chunks]) == "up"

    asyncio.run(main())
    assert pool.router.avoided("down")
    assert len(pool.backends[1].traffic.calls) == 1  # type: ignore[attr-defined]
    assert [pool.router.in_flight(name) for name in ("up", "down")] == [0, 0]
