"""What shadowing costs clients: the same requests with and without it, in pairs, in one run.

    python benchmarks/gateway/live_latency.py --out results/live/latency.json

Two gateways of one process each stand in front of one fast scripted engine (upstream.py): one runs
`single@fake` alone, the other shadows a quarter of the requests (`--shadow-only`: every client gets
the same answer). A client asks both the same question in turn, at a steady pace, in random order;
times are taken in pairs. The machine is shared: differences count, not the times themselves.
"""

from __future__ import annotations

import argparse
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
    rng = np.random.default_rng(0)
    shadowed = state["live_certificates"][0]["shadowed"]
    row: dict[str, Any] = {
        "pairs": len(took), "pace_s": pace_s, "share": SHARE,
        "asked_of_the_shadowing": asked, "shadow_runs": shadowed,
        "more_requests_at_the_engine": shadowed / asked,
    }  # fmt: skip
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        off, on = np.quantile(took, share, axis=0)
        draws = rng.integers(len(took), size=(1000, len(took)))
        apart = np.quantile(took[draws, 1], share, axis=1) - np.quantile(
            took[draws, 0], share, axis=1
        )
        low, high = np.quantile(apart, (0.025, 0.975))
        row[name] = {"off_ms": float(off), "on_ms": float(on), "added_ms": float(on - off),
                     "interval": [float(low), float(high)]}  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", type=float, default=0.01, help="seconds between two requests")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(given.pairs, given.pace, Path(folder), number))
        print(json.dumps(rows[-1]), flush=True)
    if given.out is not None:
        write_json(given.out, {"command": "benchmarks/gateway/live_latency.py", "rounds": rows})


if __name__ == "__main__":
    main()
