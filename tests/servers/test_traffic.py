"""Too many calls, calls that come again, and the end of the process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.backends.retry import Attempts, RetryConfig
from suffice.core.errors import (
    BackendError,
    MalformedStream,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.gateway.admission import CacheConfig, ConcurrencyLimit, TrafficConfig
from suffice.gateway.calls import Call
from suffice.gateway.response_cache import AnswerCache
from suffice.gateway.wire.errors import Refusal
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.serve_soon import command
from tests.servers.tools import Tools

MESSAGES = [{"role": "user", "content": "2+2"}]
ASK = {"model": "fake", "messages": MESSAGES}


def post(url: str, **changes: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json={**ASK, **changes}, timeout=20.0)


# --- places and the queue


def test_a_full_queue_says_when_to_come_again(tools: type[Tools]) -> None:
    traffic = TrafficConfig(max_running=1, max_waiting=1, max_wait_s=60.0)
    free = threading.Event()
    script = lambda number, body: Reply(held=free if number else None)  # noqa: E731
    with (
        FakeEngine(script) as engine,
        tools.serving(tools.config_for(engine.url, traffic=traffic, patience_s=20.0)) as url,
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
        post(url)
        calls = []
        for number in (1, 2):
            calls.append(pool.submit(post, url))
            tools.wait_for(lambda n=number: sum(places(url)) == n, 15.0)
        refused = post(url)
        free.set()
        assert [call.result().status_code for call in calls] == [200, 200]
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert 1 <= int(refused.headers["retry-after"]) <= 10


def places(url: str) -> tuple[int, int]:
    state = httpx2.get(f"{url}/ready").json()
    return state["running"], state["waiting"]


def test_waiting_has_an_end_and_leaves_nothing_behind() -> None:
    async def main() -> ConcurrencyLimit:
        found = ConcurrencyLimit(TrafficConfig(max_running=1, max_waiting=5, max_wait_s=0.05))
        async with found.taken(Call(path="")):
            with pytest.raises(Refusal, match="no place became free") as caught:
                async with found.taken(Call(path="")):
                    raise AssertionError
            assert caught.value.status == 503
            waiting = asyncio.create_task(enter(found, Call(path=""), []))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait((waiting,))
        async with found.taken(Call(path="")):
            pass
        return found

    left = asyncio.run(main())
    assert (left.running, left.waiting) == (0, 0)


async def enter(found: ConcurrencyLimit, call: Call, order: list[str]) -> None:
    async with found.taken(call):
        order.append(call.id)
        await asyncio.sleep(0.001)


def test_smaller_priorities_go_first_and_equals_in_order() -> None:
    async def main() -> list[str]:
        found = ConcurrencyLimit(TrafficConfig(max_running=1, max_waiting=9))
        order: list[str] = []
        async with found.taken(Call(path="")):
            calls = [("a", 5), ("b", 0), ("c", 5), ("d", -1), ("e", 0)]
            tasks = []
            for name, priority in calls:
                call = Call(path="", id=name, priority=priority)
                tasks.append(asyncio.create_task(enter(found, call, order)))
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(main()) == ["d", "b", "e", "a", "c"]


# --- trying again


def tried(*errors: BackendError | None, upstreams: int = 1, **config: Any) -> list[Any]:
    """Upstreams tried and waits in between, with these errors in turn (None: an answer)."""
    attempts = Attempts(list(range(upstreams)), RetryConfig(**config))
    found: list[Any] = []
    for error in errors:
        found.append(attempts.upstream)
        if error is None:
            return found
        try:
            wait_s = attempts.failed(error)
        except BackendError as last:
            return [*found, last]
        found.append(wait_s)
    return found


def test_waits_double_between_half_and_whole() -> None:
    busy = UpstreamRejected("busy", status=503)
    found = tried(busy, busy, busy, busy, attempts=4, base_s=1.0, longest_s=3.0)
    waits = found[1::2]
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0
    assert 1.5 <= waits[2] <= 3.0
    assert found[-1] is busy
    assert len({tried(busy, busy)[1] for _ in range(20)}) > 1  # drawn at random


def test_others_are_tried_first_and_at_once() -> None:
    gone = UpstreamRefused("gone")
    assert tried(gone, gone, None, upstreams=3)[:4] == [0, 0.0, 1, 0.0]


@pytest.mark.parametrize(
    "error", [UpstreamRejected("no", status=400), UpstreamRejected("no", status=422)]
)
def test_a_verdict_on_the_request_is_final(error: BackendError) -> None:
    assert tried(error, upstreams=3) == [0, error]


@pytest.mark.parametrize("error", [UpstreamTimeout("silent"), MalformedStream("strange")])
def test_what_cost_its_time_once_is_not_asked_again(error: BackendError) -> None:
    assert tried(error, error, upstreams=2) == [0, 0.0, 1, error]


def test_retry_after_is_heeded_or_passed_on() -> None:
    soon = UpstreamRejected("busy", status=429, retry_after_s=1.5)
    late = UpstreamRejected("busy", status=429, retry_after_s=30.0)
    assert tried(soon, None)[1] >= 1.5
    assert tried(late) == [0, late]


# --- the cache


def test_an_answer_is_kept_only_if_it_would_be_the_same(tools: type[Tools]) -> None:
    traffic = TrafficConfig(cache=CacheConfig(max_bytes=10**6))
    with (
        FakeEngine(lambda number, body: Reply.saying(f"it is {number}")) as engine,
        tools.serving(tools.config_for(engine.url, traffic=traffic)) as url,
    ):
        first, second = post(url, temperature=0), post(url, temperature=0)
        assert first.json() == second.json()
        assert second.headers["x-suffice-cache"] == "hit"
        assert post(url).json() != post(url).json()  # not deterministic
        wanted = {"suffice": {"cache": True}}
        assert post(url, **wanted).json() == post(url, **wanted).json()
        fresh = post(url, temperature=0, suffice={"cache": False})
        assert fresh.json() != first.json()
        streams = [post(url, temperature=0, stream=True) for _ in range(2)]
        assert streams[0].text == streams[1].text
        assert streams[1].text.rstrip().endswith("[DONE]")
        assert streams[1].headers["content-type"].startswith("text/event-stream")
        assert "cache" not in str(engine.seen.bodies)
        assert len(engine.seen.bodies) == 6


def test_half_an_answer_is_not_kept(tools: type[Tools]) -> None:
    traffic = TrafficConfig(cache=CacheConfig(max_bytes=10**6))

    def script(number: int, body: Any) -> Reply:
        return Reply(tokens=("a", "b"), misdeed="cut" if number == 0 else None, misdeed_after=1)

    with (
        FakeEngine(script) as engine,
        tools.serving(tools.config_for(engine.url, traffic=traffic)) as url,
    ):
        assert "error" in post(url, temperature=0, stream=True).text
        assert "[DONE]" in post(url, temperature=0, stream=True).text


def test_the_cache_is_bounded_and_each_principals_own() -> None:
    cache = AnswerCache(CacheConfig(max_bytes=10_000, max_entry_bytes=4000))
    keys = []
    for principal in ("a", "b", None):
        call = Call(path="/v1", principal=principal, value={"temperature": 0, "user": principal})
        keys.append(cache.key_of(call))
    assert len(set(keys)) == 3
    for number in range(100):
        cache.keep(bytes([number]), b"x" * 1000, "text", {})
    assert cache.size_bytes <= 10_000
    assert cache.find(bytes([99])) is not None
    assert cache.find(bytes([0])) is None
    cache.keep(b"large", b"x" * 5000, "text", {})
    assert cache.find(b"large") is None


# --- the end


@contextmanager
def process(*arguments: str, tmp_path: Path, traffic: str = "") -> Iterator[tuple[str, Any]]:
    settings = tmp_path / "suffice.toml"
    settings.write_text(f'[ledger]\nurl = "none"\n[traffic]\n{traffic}\n')
    started = command("serve", "--config", settings, "--port", 0, *arguments)
    running = subprocess.Popen(
        started, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert running.stderr is not None
    try:
        line = ""
        watch = threading.Timer(30.0, running.kill)
        watch.start()
        while "running on http" not in line:
            line = running.stderr.readline()
            assert line, "the gateway ended, or does not say where it listens"
        watch.cancel()
        threading.Thread(target=running.stderr.read, daemon=True).start()
        yield line.split("running on ")[1].split(" ")[0], running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        running.stderr.close()


def in_background(url: str, **changes: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(post(url, **changes))
        except httpx2.HTTPError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, found


def test_sigterm_lets_calls_finish(tools: type[Tools], tmp_path: Path) -> None:
    with (
        FakeEngine(Reply(tokens=("4",) * 20, held=(free := threading.Event()))) as engine,
        process("--upstream", engine.url, tmp_path=tmp_path) as (url, gateway),
    ):
        calls = [in_background(url, stream=True), in_background(url), in_background(
            url, model="suffice/single")]  # fmt: skip
        tools.wait_for(lambda: engine.seen.running == 3, 15.0)
        gateway.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # it is ending, and they are still running
        assert gateway.poll() is None
        free.set()
        for thread, _ in calls:
            thread.join()
        assert gateway.wait(10) in (0, -signal.SIGTERM)
    answers = [found[0] for _, found in calls]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].text.rstrip().endswith("[DONE]")


def test_sigterm_ends_what_takes_too_long_with_an_error(tools: type[Tools], tmp_path: Path) -> None:
    with (
        FakeEngine(Reply(tokens=("4",) * 500, delay_s=0.05)) as engine,
        process("--upstream", engine.url, tmp_path=tmp_path, traffic="drain_s = 0.3") as found,
    ):
        url, gateway = found
        calls = [in_background(url, stream=True), in_background(url),
                 in_background(url, model="suffice/single", stream=True)]  # fmt: skip
        tools.wait_for(lambda: engine.seen.running == 3, 15.0)
        gateway.send_signal(signal.SIGTERM)
        for thread, _ in calls:
            thread.join()
        assert gateway.wait(10) in (0, -signal.SIGTERM)
        tools.wait_for(lambda: engine.seen.running == 0)
    stream, plain, policy = (found[0] for _, found in calls)
    assert (plain.status_code, plain.json()["error"]["code"]) == (503, "shutting_down")
    for answer in (stream, policy):
        assert '"shutting_down"' in answer.text
        assert "[DONE]" not in answer.text


def test_several_workers_share_the_port_and_are_replaced(
    tools: type[Tools], tmp_path: Path
) -> None:
    """They read settings anew, each dies and is replaced, and SIGTERM meanwhile ends them all."""
    settings, log = tmp_path / "suffice.toml", tmp_path / "log"
    settings.write_text('[ledger]\nurl = "none"\n')
    with FakeEngine(Reply()) as engine:
        started = command("serve", "--config", settings, "--port", 0, "--workers", 2,
                          "--upstream", engine.url)  # fmt: skip
        with log.open("w") as out:
            gateway = subprocess.Popen(started, stderr=out, stdout=subprocess.DEVNULL)
        try:
            tools.wait_for(lambda: log.read_text().count("running on http") == 2, 60.0)
            url = log.read_text().split("running on ")[1].split(" ")[0]
            workers = children(gateway.pid)
            assert len(workers) == 2
            time.sleep(0.2)  # they mind the signal as soon as they have said so
            gateway.send_signal(signal.SIGHUP)
            tools.wait_for(lambda: log.read_text().count("settings read anew") == 2, 15.0)
            assert "has changed" not in log.read_text()  # what stayed is not said to have
            os.kill(workers[0], signal.SIGKILL)
            tools.wait_for(lambda: workers[0] not in children(gateway.pid), 10.0)
            for _ in range(10):
                assert post(url).status_code == 200
            tools.wait_for(lambda: log.read_text().count("running on http") == 3, 60.0)
            os.kill(workers[1], signal.SIGKILL)
            tools.wait_for(lambda: workers[1] not in children(gateway.pid), 10.0)
            gateway.send_signal(signal.SIGTERM)  # while another is being started
            assert gateway.wait(20) == 0
            with pytest.raises(httpx2.ConnectError):
                post(url)
        finally:
            if gateway.poll() is None:
                gateway.kill()
            gateway.wait(20)


def test_workers_end_when_their_supervisor_is_killed(tools: type[Tools], tmp_path: Path) -> None:
    with (
        FakeEngine(Reply()) as engine,
        process("--upstream", engine.url, "--workers", "2", tmp_path=tmp_path) as (url, gateway),
    ):
        tools.wait_for(lambda: len(children(gateway.pid)) == 2, 15.0)
        assert post(url).status_code == 200
        workers = children(gateway.pid)
        gateway.kill()
        gateway.wait()
        # One of them may still be loading: on a busy machine that takes longer than anything else
        # here, and only then can it see that it is alone.
        tools.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 90.0)
        with pytest.raises(httpx2.ConnectError):
            post(url)


def children(pid: int) -> list[int]:
    """Worker processes of the supervisor (its other child only keeps track of semaphores)."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return [child for child, line in lines.items() if b"spawn_main" in line]
