"""Comparing expressions: bounded per comparison, request and client, and nobody waits for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from suffice.core.completions import Completion, Usage
from suffice.core.errors import MissingExtra
from suffice.evals import equivalence
from suffice.evals.comparison_pool import ComparisonPool
from suffice.evals.equivalence import MathExtractor, answer_extractor
from suffice.evals.math_process import MEMORY_BYTES, MathProcess
from suffice.gateway.wire.errors import describe

Work = Coroutine[Any, Any, Any]
RUNS: dict[str, Callable[[Work], Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}

# A worker that needs no SymPy: equal if both have the same length; "hang" never ends, "die" dies.
SCRIPT = """
import json, os, sys, time
os.write(0, b"ready\\n")
for line in sys.stdin:
    a, b = json.loads(line)
    if "hang" in a + b:
        time.sleep(1000)
    if "die" in a + b:
        os._exit(1)
    if "slow" in a + b:
        time.sleep(0.2)
    os.write(0, b"1\\n" if len(a) == len(b) else b"0\\n")
"""
MISSING = 'import os; os.write(0, b"missing\\n")'


def pool_of(script: str = SCRIPT, **limits: Any) -> ComparisonPool:
    limits = {
        "workers": 2,
        "limit_s": 1.0,
        "request_s": 30.0,
        "memory_bytes": MEMORY_BYTES,
        **limits,
    }

    def start() -> MathProcess:
        return MathProcess(limit_s=limits["limit_s"], command=(sys.executable, "-c", script))

    return ComparisonPool(**limits, start=start)


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Callable[[Work], Any]:
    return RUNS[request.param]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_it_compares_and_leaves_no_process_behind(run: Callable[[Work], Any]) -> None:
    async def main() -> tuple[list[bool | None], tuple[int, ...]]:
        pool = pool_of()
        compare = pool.comparing("a")
        found = await asyncio.gather(*(compare("x" * n, "yy") for n in range(1, 5)))
        pids = pool.pids
        await pool.aclose()
        return found, pids

    found, pids = run(main())
    assert found == [False, True, False, False]
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_a_hostile_comparison_is_killed_and_replaced(run: Callable[[Work], Any]) -> None:
    async def main() -> list[bool | None]:
        pool = pool_of(workers=1, limit_s=0.2)
        compare = pool.comparing("a")
        found = [await compare(word, word[::-1]) for word in ("hang", "ab", "die", "cd")]
        assert pool.given_up == 2
        await pool.aclose()
        return found

    assert run(main()) == [None, True, None, True]


def test_a_request_has_a_time_for_all_of_its_comparisons() -> None:
    now_s = 0.0

    async def main() -> list[bool | None]:
        nonlocal now_s
        pool = pool_of(request_s=10.0, workers=1, clock=lambda: now_s)
        compare, other = pool.comparing("a"), pool.comparing("a")
        found = []
        for _ in range(3):
            found.append(await compare("ab", "cd"))
            compare_before = now_s
            now_s = compare_before + 4.0  # time passes between comparisons: that is not theirs
        began = asyncio.ensure_future(compare("ab", "slow"))
        await asyncio.sleep(0.05)
        now_s += 11.0  # and in the middle of one: that is
        found.append(await began)
        found += [await compare("ab", "cd"), await other("ab", "cd")]
        await pool.aclose()
        return found

    assert asyncio.run(main()) == [True, True, True, False, None, True]


def test_one_client_leaves_a_worker_for_the_others() -> None:
    """However many comparisons hang for one, another's are done at once."""

    async def main() -> list[bool | None]:
        pool = pool_of(workers=2, limit_s=1000.0)
        hostile = [
            asyncio.ensure_future(pool.comparing("evil")(f"hang{n}", "x")) for n in range(20)
        ]
        polite = pool.comparing("polite")
        found = [await polite("ab", "cd") for _ in range(5)]
        assert not any(task.done() for task in hostile)
        for task in hostile:
            task.cancel()
        await asyncio.wait(hostile)
        await pool.aclose()
        return found

    assert asyncio.run(main()) == [True] * 5


def test_clients_take_turns() -> None:
    async def main() -> list[str]:
        pool = pool_of(workers=1)
        order: list[str] = []

        async def ask(client: str) -> None:
            await pool.comparing(client)("ab", "cd")
            order.append(client)

        await asyncio.gather(*(ask(client) for client in "aaaabbc"))
        await pool.aclose()
        return order

    order = asyncio.run(main())
    assert order[:3] == ["a", "b", "c"]
    assert sorted(order) == list("aaaabbc")


def test_whoever_leaves_is_forgotten() -> None:
    async def main() -> tuple[int, bool | None]:
        pool = pool_of(workers=1, limit_s=30.0)
        asked = [asyncio.ensure_future(pool.comparing("a")("slow", "slow" * n)) for n in range(6)]
        await asyncio.sleep(0.5)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        waiting = pool.waiting
        found = await pool.comparing("a")("ab", "cd")
        await pool.aclose()
        return waiting, found

    assert asyncio.run(main()) == (0, True)


def test_the_end_does_not_wait_for_a_comparison() -> None:
    async def main() -> tuple[bool, int]:
        pool = pool_of(limit_s=1000.0, request_s=1000.0)
        task = asyncio.ensure_future(pool.comparing("a")("hang", "x"))
        while not pool.running:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            await pool.aclose()
            await asyncio.wait((task,))
        return task.cancelled() or task.result() is None, len(pool.pids)

    assert asyncio.run(main()) == (True, 0)


def test_a_worker_does_not_outlive_its_owner(tmp_path: Path) -> None:
    """The owner is killed in the middle of a comparison; the real worker looks after itself."""
    pytest.importorskip("math_verify")
    script = tmp_path / "owner.py"
    script.write_text(
        "from suffice.evals.math_process import *\n"
        "p = MathProcess(limit_s=1.0); p.await_start(); print(p.pid, flush=True)\n"
        "p.socket.sendall(question('9^{9^{9^9}}', '3'))\nimport time; time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    until = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_without_the_extra_it_is_the_requests_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        answer_extractor("math")
    status, envelope = describe(caught.value)
    assert (status, envelope["error"]["code"]) == (400, "not_installed")

    async def main() -> bool | None:
        pool = pool_of(MISSING, request_s=0.5)
        found = await pool.comparing("a")("x", "y")
        await pool.aclose()
        return found

    assert asyncio.run(main()) is None


def said(text: str) -> Completion:
    return Completion(text=f"\\boxed{{{text}}}", finish_reason="stop", usage=Usage())


def test_after_two_timeouts_answers_compare_as_text() -> None:
    asked: list[tuple[str, str]] = []

    async def compare(a: str, b: str) -> bool | None:
        asked.append((a, b))
        return None

    async def main() -> list[str | None]:
        extract = MathExtractor(compare)
        return [await extract(said(f"x^{n}")) for n in range(1, 40)]

    found = asyncio.run(main())
    assert len(set(found)) == 39
    assert len(asked) == equivalence.MOST_TIMEOUTS


def test_two_answers_at_once_find_each_other() -> None:
    async def compare(a: str, b: str) -> bool | None:
        await asyncio.sleep(0.01)
        return {a, b} == {"x+1", "1+x"}

    async def main() -> list[str | None]:
        extract = MathExtractor(compare)
        return await asyncio.gather(*(extract(said(t)) for t in ("x+1", "1+x", "x+2", "x+1")))

    assert asyncio.run(main()) == ["x+1", "x+1", "x+2", "x+1"]


def test_the_real_worker_is_bounded_in_memory_and_time() -> None:
    pytest.importorskip("math_verify")
    process = MathProcess(limit_s=20.0)
    try:
        process.await_start()
        assert process.compare("x+1", "1+x", 20.0)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
    finally:
        process.kill()
    data = next(line for line in limits.splitlines() if line.startswith("Max data size"))
    assert str(MEMORY_BYTES) in data
