"""Streams that flood share a turn's bytes, in the order of coming; others come round every turn."""

from __future__ import annotations

import asyncio
from collections import Counter

from suffice.backends.fair_turns import SMALL_BYTES, FairTurns

PIECE = 32 * 2**10
MOST = 4 * PIECE


def test_a_turn_takes_so_many_bytes_and_all_streams_get_on_alike() -> None:
    async def go() -> tuple[list[int], Counter[int]]:
        turns = FairTurns(MOST)
        taken: Counter[int] = Counter()
        in_turn: list[int] = [0]

        async def flood(name: int) -> None:
            while len(in_turn) < 100:
                await turns.take(PIECE)
                taken[name] += 1
                in_turn[-1] += PIECE
                await asyncio.sleep(0)

        streams = [asyncio.create_task(flood(name)) for name in range(20)]
        while len(in_turn) < 100:  # somebody else, who comes round once a turn
            await asyncio.sleep(0)
            in_turn.append(0)
        for stream in streams:
            stream.cancel()
        await asyncio.wait(streams)
        return in_turn, taken

    in_turn, taken = asyncio.run(go())
    # A turn's end falls between two of the other's: two turns' bytes at most.
    assert max(in_turn) <= 2 * MOST
    assert sum(in_turn) >= 90 * MOST  # and the room is used
    assert max(taken.values()) - min(taken.values()) <= 1


def test_small_pieces_never_wait() -> None:
    async def go() -> int:
        turns = FairTurns(MOST)
        for _ in range(1000):
            taking = turns.take(SMALL_BYTES - 1)
            try:
                taking.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waited")
        return 1000

    assert asyncio.run(go()) == 1000


def test_who_leaves_the_queue_takes_nothing_and_a_loop_that_ended_holds_nobody() -> None:
    turns = FairTurns(PIECE)

    async def go() -> list[int]:
        done: list[int] = []

        async def one(name: int) -> None:
            await turns.take(PIECE)
            done.append(name)

        tasks = [asyncio.create_task(one(name)) for name in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done

    assert asyncio.run(go()) == [0, 2, 3]

    async def stranded() -> None:
        await turns.take(PIECE)
        waiting = asyncio.create_task(turns.take(PIECE))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(stranded())
    assert asyncio.run(go()) == [0, 2, 3]
