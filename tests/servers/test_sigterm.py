"""SIGTERM ends the process within its grace, whatever it is busy with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from suffice.gateway import app as gateway_app
from suffice.gateway.app import create_app
from suffice.gateway.calls import Hook
from suffice.gateway.server import LastResort
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.postgres import PostgresServer, why_not
from tests.servers.serve_soon import command, environment
from tests.servers.tools import config_for

DRAIN_S = 0.5
# The promise is DRAIN_S + END_S; a loaded machine has its own time to start and to die.
PATIENCE_S = 90.0
SLOW = Reply(tokens=("4",) * 400, delay_s=0.05)


class Process:
    """`suffice serve` with its log."""

    def __init__(
        self, *arguments: str, folder: Path, ledger: str | None = None, **limits: float
    ) -> None:
        settings = folder / "suffice.toml"
        url = ledger or str(folder / "ledger.db")
        settings.write_text(f'[ledger]\nurl = "{url}"\n[traffic]\ndrain_s = {DRAIN_S}\n')
        self.running = subprocess.Popen(
            command("serve", "--config", settings, "--port", 0, *arguments),
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env=environment(**limits),
        )  # fmt: skip
        assert self.running.stderr is not None
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until = time.monotonic() + PATIENCE_S
        while not (found := [line for line in self.log if "running on http" in line]):
            assert self.running.poll() is None, "".join(self.log)
            assert time.monotonic() < until, "the gateway does not start"
            time.sleep(0.02)
        parts = urlsplit(found[0].split("running on ")[1].split(" ")[0])
        self.address = (parts.hostname or "", parts.port or 0)

    def _read(self) -> None:
        assert self.running.stderr is not None
        self.log.extend(iter(self.running.stderr.readline, ""))

    def end(self, *signals: int, codes: tuple[int, ...] = (0, 130, -signal.SIGTERM)) -> str:
        """Send the signals and wait; the log."""
        for number in signals or (signal.SIGTERM,):
            self.running.send_signal(number)
            time.sleep(0.05)
        assert self.running.wait(PATIENCE_S) in codes
        self._reader.join(PATIENCE_S)
        return "".join(self.log)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running.poll() is None:
            self.running.kill()
        self.running.wait()
        self._reader.join(PATIENCE_S)
        assert self.running.stderr is not None
        self.running.stderr.close()


def body_of(**changes: Any) -> bytes:
    question = [{"role": "user", "content": "2+2"}]
    return json.dumps({"model": "fake", "messages": question, **changes}).encode()


def sent(
    address: tuple[str, int], data: bytes, path: str = "/v1/chat/completions"
) -> socket.socket:
    client = socket.create_connection(address)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    client.sendall(head.encode() + data)
    return client


VOTE = {"suffice": {"policy": "self_consistency:samples=4", "answer_format": "number"}}


def leavers(address: tuple[str, int], stop: threading.Event) -> None:
    """Clients that leave at every moment, the one in which an upstream's connection opens too."""
    rng = random.Random(1)
    while not stop.is_set():
        with contextlib.suppress(OSError):
            wishes = rng.choice([{}, {"stream": True}, VOTE])
            client = sent(address, body_of(**wishes))
            time.sleep(rng.choice([0, 0, 0.0005, 0.001, 0.003, 0.02]))
            client.close()


def storm(gateway: Process) -> Callable[[], None]:
    stop = threading.Event()
    threads = [threading.Thread(target=leavers, args=(gateway.address, stop)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)

    def end() -> None:
        stop.set()
        for thread in threads:
            thread.join()

    return end


def held(gateway: Process, *pieces: bytes) -> Callable[[], None]:
    clients = [socket.create_connection(gateway.address) for _ in range(5 * len(pieces))]
    for client, piece in zip(clients, pieces * 5, strict=True):
        client.sendall(piece)
    time.sleep(0.2)  # they are read

    def end() -> None:
        for client in clients:
            client.close()

    return end


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


def half_requests(gateway: Process) -> Callable[[], None]:
    return held(
        gateway, b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\n",
        HEAD + b"Content-Length: 9\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx:",
        b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )  # fmt: skip


def unread(gateway: Process) -> Callable[[], None]:
    """Streams that nobody reads."""
    clients = []
    for _ in range(5):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(gateway.address)
        data = body_of(stream=True)
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        clients.append(client)
    time.sleep(0.5)
    return lambda: [client.close() for client in clients] and None


def running(gateway: Process) -> Callable[[], None]:
    clients = [
        sent(gateway.address, body_of(**wishes))
        for wishes in ({}, {"stream": True}, VOTE, {**VOTE, "stream": True}) * 3
    ]
    time.sleep(0.5)
    return lambda: [client.close() for client in clients] and None


LOADS = (unread, running, half_requests, storm)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine(SLOW) as found:
        yield found


@pytest.mark.slow
def test_a_database_that_hangs_holds_nothing_up(engine: FakeEngine, tmp_path: Path) -> None:
    """Threads that wait for it for ever are not waited for: the last resort ends the process."""
    pytest.importorskip("psycopg")
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with PostgresServer() as server:
        arguments = ("--upstream", engine.url)
        soon = {"server__END_S": 4.0, "app__STOP_S": 1.0}
        with Process(*arguments, folder=tmp_path, ledger=server.new_url(), **soon) as gateway:
            end = running(gateway)
            server.pause()
            asked = [socket.create_connection(gateway.address) for _ in range(8)]
            for number, client in enumerate(asked):
                path = b"/metrics" if number % 2 else b"/admin/state"
                client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
            try:
                log = gateway.end(codes=(0, 1, -signal.SIGTERM))
            finally:
                end()
                server.resume()
                for client in asked:
                    client.close()
    assert "the ledger did not end within" in log or "it is ended now" in log


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_it_under_every_load(workers: str, engine: FakeEngine, tmp_path: Path) -> None:
    arguments = ("--upstream", engine.url, "--workers", workers)
    with Process(*arguments, folder=tmp_path) as gateway, contextlib.ExitStack() as ends:
        for load in LOADS:
            ends.callback(load(gateway))
        log = gateway.end()
    assert "it is ended now" not in log
    assert "did not end" not in log
    assert "unwritten" not in log
    assert "Traceback" not in log, log


def test_a_second_signal_loses_no_rows(engine: FakeEngine, tmp_path: Path) -> None:
    with Process("--upstream", engine.url, folder=tmp_path) as gateway:
        end = running(gateway)
        try:
            # The last one may come when everything is done, and then ends what is left of it.
            log = gateway.end(*[signal.SIGINT] * 3, codes=(0, 130, -signal.SIGINT))
        finally:
            end()
    shown = subprocess.run(
        [sys.executable, "-m", "suffice", "ledger", "stats", "--json", "--ledger",
         str(tmp_path / "ledger.db")], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Traceback" not in log, log
    assert '"requests": 12' in shown.stdout, shown.stdout


def test_what_hangs_at_the_end_is_not_waited_for(tmp_path: Path) -> None:
    """A thread that never ends, as a driver's may be, holds nothing up beyond the last resort."""
    script = tmp_path / "hang.py"
    script.write_text(
        "import threading, time\n"
        "from suffice.gateway.server import LastResort\n"
        "threading.Thread(target=time.sleep, args=(10_000,)).start()\n"
        "LastResort(0.2).start()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "not ended 0.2 s after the signal" in done.stderr
    assert "Thread 0x" in done.stderr
    assert LastResort(1.0).daemon


def test_what_does_not_stop_does_not_keep_the_ledger_from_its_turn(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped: list[str] = []

    class Slow(Hook):
        async def stop(self) -> None:
            await asyncio.sleep(1000)

    class Broken(Hook):
        async def stop(self) -> None:
            raise RuntimeError("a bug")

    class Last(Hook):
        async def stop(self) -> None:
            stopped.append("last")

    monkeypatch.setattr(gateway_app, "STOP_S", 0.01)
    app = create_app(config_for(engine.url), hooks=(Last(), Broken(), Slow()))

    async def main() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(main())
    assert stopped == ["last"]
    assert "did not end within" in caplog.text
    assert "a bug" in caplog.text


def test_upstreams_that_a_reload_replaced_are_closed_when_their_last_call_has_ended(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_app, "UNUSED_S", 0.01)
    closed: list[int] = []

    async def main() -> list[int]:
        gateway = create_app(config_for(engine.url)).state.gateway
        services = []
        for number in range(3):
            service = gateway.service
            service.calls = 1
            services.append(service)

            async def aclose(number: int = number) -> None:
                closed.append(number)

            service.pool.aclose = aclose
            gateway.apply(config_for(engine.url, patience_s=1.0 + number))
        await asyncio.sleep(0.05)
        seen = list(closed)
        services[1].calls = 0
        while closed == seen:
            await asyncio.sleep(0.01)
        await gateway.aclose()
        return seen

    assert asyncio.run(main()) == []
    assert closed == [1, 0, 2]
