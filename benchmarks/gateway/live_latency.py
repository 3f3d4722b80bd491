"""What shadowing costs clients: the same requests with and without it, in pairs, in one run.

    python benchmarks/gateway/live_latency.py wall cpu --out results/live/latency.json

wall  two gateways of one process each in front of one fast scripted engine (upstream.py): one runs
      `single@fake` alone, the other shadows a quarter of the requests (`--shadow-only`: every
      client gets the same answer). A client asks both in turn, at a steady pace, in random order
cpu   both gateways' ASGI applications in this process, asked in turn: CPU time of the event loop's
      thread from the request to its answer, which other work on the machine does not lengthen, and
      the CPU time of a whole shadow run, which other requests may have to wait for in part

Differences count, not the times themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from live_end_to_end import free_port, started

from suffice.core.files import write_json
from suffice.gateway.app import create_app
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_sections import LedgerConfig, LiveConfig
from suffice.gateway.observe.serving_hooks import open_hooks

HERE = Path(__file__).parent
SHARE = 0.25
BODY = {
    "model": "fake", "messages": [{"role": "user", "content": "what is 2+2"}], "temperature": 0.5,
    "max_tokens": 16,
}  # fmt: skip


class Caller:
    """One kept connection to a gateway."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._body = json.dumps(BODY).encode()

    def ms(self) -> float:
        """One request, in milliseconds."""
        began = time.perf_counter()
        self._connection.request(
            "POST", "/v1/chat/completions", self._body, {"content-type": "application/json"}
        )
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"error: a gateway answered {answer.status}")
        return (time.perf_counter() - began) * 1e3


def measured(pairs: int, pace_s: float, folder: Path, seed: int) -> dict[str, Any]:
    engine_port, ports = free_port(), (free_port(), free_port())
    base = f"http://127.0.0.1:{engine_port}"
    engine = subprocess.Popen(
        [sys.executable, str(HERE / "upstream.py"), "--port", str(engine_port)],
        start_new_session=True,
    )
    usual = ["--upstream", f"{base}/v1", "--answer-format", "number", "--quiet"]
    live = ["--safe", "single@fake", "--cheap", "self_consistency:samples=1@fake", "--shadow-only",
            "--share", f"{100 * SHARE:g}%"]  # fmt: skip
    running = [engine]
    try:
        time.sleep(1.0)
        for port, more in zip(ports, (["--policy", "single@fake"], live), strict=True):
            ledger = str(folder / f"{port}.db")
            own = ["--port", str(port), "--ledger", ledger]
            running.append(started([*usual, *more, *own], f"http://127.0.0.1:{port}"))
        callers = [Caller(port) for port in ports]
        for _ in range(200):
            for caller in callers:
                caller.ms()
        time.sleep(2.0)
        chooser = random.Random(seed)
        took = np.zeros((pairs, 2))
        for pair in range(pairs):
            for which in chooser.sample((0, 1), 2):
                took[pair, which] = callers[which].ms()
                time.sleep(pace_s)
        time.sleep(2.0)
        state = json.loads(urllib.request.urlopen(
            f"http://127.0.0.1:{ports[1]}/admin/state", timeout=10).read())  # fmt: skip
        return _row(took, state, pairs + 200, pace_s)
    finally:
        for each in running:
            os.killpg(each.pid, signal.SIGTERM)
            each.wait()


def _row(took: np.ndarray, state: dict[str, Any], asked: int, pace_s: float) -> dict[str, Any]:
    shadowed = state["live_certificates"][0]["shadowed"]
    row: dict[str, Any] = {
        "pairs": len(took), "pace_s": pace_s, "share": SHARE,
        "asked_of_the_shadowing": asked, "shadow_runs": shadowed,
        "more_requests_at_the_engine": shadowed / asked,
    }  # fmt: skip
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        row[name] = _apart(took, share)
    return row


def _apart(took: np.ndarray, share: float) -> dict[str, Any]:
    """A quantile of both, and how far they are apart, over resampled pairs."""
    rng = np.random.default_rng(0)
    off, on = np.quantile(took, share, axis=0)
    draws = rng.integers(len(took), size=(1000, len(took)))
    apart = np.quantile(took[draws, 1], share, axis=1) - np.quantile(took[draws, 0], share, axis=1)
    low, high = np.quantile(apart, (0.025, 0.975))
    return {"off_ms": float(off), "on_ms": float(on), "added_ms": float(on - off),
            "interval": [float(low), float(high)]}  # fmt: skip


async def asked_by_asgi(app: Any, body: bytes) -> float:
    """CPU seconds of this thread until the answer is there."""
    scope = {
        "type": "http", "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions",
        "method": "POST", "query_string": b"", "scheme": "http", "http_version": "1.1",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1"),
                    (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    given = [{"type": "http.request", "body": body, "more_body": False}]
    ended = asyncio.Event()
    spent = [0.0]

    async def receive() -> Any:
        if given:
            return given.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            spent[0] = time.thread_time()
            ended.set()

    began = time.thread_time()
    await app(scope, receive, send)
    return spent[0] - began


async def cpu(pairs: int, folder: Path, seed: int) -> dict[str, Any]:
    port = free_port()
    engine = subprocess.Popen(
        [sys.executable, str(HERE / "upstream.py"), "--port", str(port)], start_new_session=True
    )
    try:
        await asyncio.sleep(1.0)
        usual = {
            "upstreams": (UpstreamConfig(url=f"http://127.0.0.1:{port}/v1"),),
            "answer_format": "number",
        }
        live = LiveConfig(
            safe="single@fake", cheap=("self_consistency:samples=1@fake",), shadow_only=True,
            share=SHARE, share_after=SHARE,
        )  # fmt: skip
        apps, opened = [], []
        for name, more in (("off", {"policy": "single@fake"}), ("on", {"live": live})):
            ledger = LedgerConfig(url=str(folder / f"{name}.db"))
            config = GatewayConfig(**usual, **more, ledger=ledger)
            hooks = open_hooks(config)
            apps.append(create_app(config, hooks=hooks.in_order))
            opened.append(hooks)
            await hooks.recorder.start()
        shadower = apps[1].state.gateway.completions.shadower
        body, chooser = json.dumps(BODY).encode(), random.Random(seed)
        took, runs = np.zeros((pairs, 2)), []
        for pair in range(-100, pairs):
            for which in chooser.sample((0, 1), 2):
                spent = await asked_by_asgi(apps[which], body)
                if pair >= 0:
                    took[pair, which] = spent
                began, there = time.thread_time(), bool(shadower._tasks)
                await shadower.settled()
                if there and pair >= 0:
                    runs.append(time.thread_time() - began)
        for app, hooks in zip(apps, opened, strict=True):
            await app.state.gateway.aclose()
            await hooks.recorder.stop()
    finally:
        os.killpg(engine.pid, signal.SIGTERM)
        engine.wait()
    row = {name: _apart(took * 1e3, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {"pairs": pairs, "share": SHARE, "shadow_runs": len(runs), **row,
            "shadow_run_cpu_ms": {"p50": 1e3 * float(np.median(runs)),
                                  "p99": 1e3 * float(np.quantile(runs, 0.99))}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="+", choices=("wall", "cpu"))
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", type=float, default=0.01, help="seconds between two requests")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    held: dict[str, Any] = {}
    if given.out is not None and given.out.exists():
        held = json.loads(given.out.read_text())
    for part in given.parts:
        rows = []
        for number in range(given.rounds):
            with tempfile.TemporaryDirectory() as folder:
                if part == "wall":
                    rows.append(measured(given.pairs, given.pace, Path(folder), number))
                else:
                    rows.append(asyncio.run(cpu(given.pairs, Path(folder), number)))
            print(json.dumps(rows[-1]), flush=True)
        held[part] = {"command": f"benchmarks/gateway/live_latency.py {part}", "rounds": rows}
    if given.out is not None:
        write_json(given.out, held)


if __name__ == "__main__":
    main()
