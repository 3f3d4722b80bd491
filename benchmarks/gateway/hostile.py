"""Hostile clients and engines against a gateway: what they cost it, and what others wait meanwhile.

    python benchmarks/gateway/hostile.py --out results/gateway/hostile.json [--only trailers,…]

For every case: the gateway's memory before and at its highest (MB), the longest and the 99th
percentile that a polite client waited for `/live` and for an answer of a good engine (ms), and
whether SIGTERM in the midst of it ends the process within its grace (s). Waits are of this machine:
the hostile side runs on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile_upstream import WORDS

HERE = Path(__file__).parent
PORT, ENGINE, GOOD = 9151, 9150, 9152
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
SECONDS = 6.0
GRACE_S = 3.0 + 25.0
SETTINGS = """\
port = {port}
[ledger]
url = "{ledger}"
[traffic]
drain_s = 3
body_s = 20
max_response_bytes = 50_000_000
[[upstream]]
url = "http://127.0.0.1:{engine}/v1"
[[upstream]]
url = "http://127.0.0.1:{good}/v1"
[keys]
required = {keys}
"""

Attack = Callable[["Gateway"], None]


class Gateway:
    """One `suffice serve`, its memory and how long others wait for it."""

    def __init__(
        self, folder: Path, *, keys: bool = False, files: int | None = None, good: str = "good"
    ) -> None:
        ledger = folder / "ledger.db"
        settings = folder / "suffice.toml"
        settings.write_text(
            SETTINGS.format(
                port=PORT, engine=ENGINE, good=GOOD, ledger=ledger, keys=str(keys).lower()
            )
        )
        self.key = ""
        if keys:
            made = subprocess.run(
                [sys.executable, "-m", "suffice", "keys", "add", "x", "--ledger", str(ledger)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            self.key = next(word for word in made.stdout.split() if word.startswith("sk-"))
        command = [sys.executable, "-m", "suffice", "serve", "--config", str(settings), "--quiet"]
        if files is not None:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.stop = threading.Event()
        self.waits: dict[str, list[float]] = {"live": [], "answer": []}
        self.failures: list[str] = []
        self.rss: list[float] = []
        until = time.monotonic() + 240
        while not self._is_up():
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError("the gateway does not start: " + "".join(self.log))
            time.sleep(0.1)
        self.ask(good)  # probes are over

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(iter(self.process.stderr.readline, ""))

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/live") == 200
        return False

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def ask(self, model: str, prompt: str = "hello", **more: Any) -> tuple[int, bytes]:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def watch(self) -> None:
        """Polite clients, and a look at the memory."""
        for kind, call in (("live", lambda: self.get("/live") == 200),
                           ("answer", lambda: self.ask("good")[0] == 200)):  # fmt: skip
            threading.Thread(target=self._polite, args=(kind, call), daemon=True).start()
        threading.Thread(target=self._weigh, daemon=True).start()

    def _polite(self, kind: str, call: Callable[[], bool]) -> None:
        while not self.stop.wait(0.02):
            began = time.perf_counter()
            try:
                well = call()
            except (OSError, http.client.HTTPException) as error:
                if self.stop.is_set():
                    return
                self.failures.append(f"{kind}: {error!r}")
                continue
            self.waits[kind].append((time.perf_counter() - began) * 1000)
            if not (well or self.stop.is_set()):
                self.failures.append(f"{kind}: no 200")

    def _weigh(self) -> None:
        while not self.stop.wait(0.02):
            with contextlib.suppress(OSError):
                self.rss.append(rss_mb(self.process.pid))

    def end(self) -> float:
        """SIGTERM in the midst of it; how long it took to end (s)."""
        self.stop.set()
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(GRACE_S + 30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.perf_counter() - began


def rss_mb(pid: int) -> float:
    """Memory of a process and of those that it started."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (str(pid), *children):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
            total += int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024
    return total


# --- what is done to it


def at_once(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def again_and_again(work: Callable[[], object]) -> None:
    """One client that does it as soon as it is done."""
    until = time.monotonic() + SECONDS

    def one(_: int) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                work()

    at_once(1, one)


def flood(start: bytes, piece: bytes) -> Attack:
    """Send, and connect again when cut off."""

    def attack(gateway: Gateway) -> None:
        until = time.monotonic() + SECONDS

        def one(_: int) -> None:
            while time.monotonic() < until:
                with contextlib.suppress(OSError), connected() as client:
                    client.sendall(start)
                    while time.monotonic() < until:
                        client.sendall(piece)

        at_once(2, one)

    return attack


def connected() -> socket.socket:
    client = socket.create_connection(("127.0.0.1", PORT), timeout=20)
    client.settimeout(20)
    return client


LINES = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 40) for number in range(1000))
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = HEAD + b"Content-Length: 9999999999\r\n\r\n"
BEGUN = CHUNKED + b"2\r\n{}\r\n0\r\n"


def many_half_requests(gateway: Gateway) -> None:
    """More of them than there are files, each sending a byte now and then."""
    clients: list[socket.socket] = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            client = connected()
            client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\nx")
            clients.append(client)
        for each in clients[-400:]:
            with contextlib.suppress(OSError):
                each.send(b"x")
        time.sleep(0.005)
    for each in clients:
        each.close()


def leavers(gateway: Gateway) -> None:
    until = time.monotonic() + SECONDS
    wishes = ({}, {"stream": True}, VOTE)

    def one(number: int) -> None:
        turn = number
        while time.monotonic() < until:
            turn += 1
            body = json.dumps({"model": "good", "messages": [{"role": "user", "content": "x"}],
                               **wishes[turn % 3]}).encode()  # fmt: skip
            with contextlib.suppress(OSError), connected() as client:
                client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                time.sleep((turn % 7) * 0.0007)

    at_once(8, one)


def pipelines(gateway: Gateway) -> None:
    flood(b"", b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000)(gateway)


def readers_that_do_not(gateway: Gateway) -> None:
    """Big answers that nobody takes."""
    clients = []
    body = json.dumps({"model": "evil", "messages": [{"role": "user", "content": "endless-stream"}],
                       "stream": True}).encode()  # fmt: skip
    for _ in range(20):
        client = connected()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        clients.append(client)
    time.sleep(SECONDS)
    for client in clients:
        client.close()


VOTE = {"suffice": {"policy": "self_consistency:samples=16", "answer_format": "number"}}
MATH = {"suffice": {"policy": "self_consistency:samples=3", "answer_format": "math"}}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "passed": ("evil", {}),
    "streamed": ("evil", {"stream": True}),
    "a vote": ("evil", VOTE),
    "a streamed sample": ("evil", {"stream": True, "suffice": {"policy": "single"}}),
}


def evil(word: str, form: str) -> Attack:
    model, more = FORMS[form]

    def attack(gateway: Gateway) -> None:
        again_and_again(lambda: gateway.ask(model, word, **more))

    return attack


def large_requests(body: dict[str, Any] | bytes) -> Attack:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        connection.request("POST", "/v1/chat/completions", data)
        connection.getresponse().read()
        connection.close()

    return lambda gateway: again_and_again(ask)


def comparisons(gateway: Gateway) -> None:
    """Every answer takes all the time that there is to compare with another."""

    def one(_: int) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            gateway.ask("good", "factorials", **MATH)

    at_once(10, one)


TURN = {"role": "user", "content": "x"}
RUNGS = " > ".join(["single:accept=.9"] * 20_000)
OPTIONS = "single:" + ",".join(f"a{n}=1" for n in range(100_000))
TOOLS = [{"type": "function", "function": {"name": f"a{n}"}} for n in range(100_000)]
REQUESTS: dict[str, Any] = {
    "100,000 messages": {"model": "suffice/single", "messages": [TURN] * 100_000},
    "100,000 messages, a vote of 8": {
        "model": "suffice/self_consistency:samples=8", "messages": [TURN] * 100_000,
        "suffice": {"answer_format": "number"},
    },
    "100,000 tools": {"model": "suffice/single", "messages": [TURN], "tools": TOOLS},
    "a cascade of 20,000 steps": {
        "model": "good", "messages": [TURN], "suffice": {"policy": RUNGS},
    },
    "a policy of 100,000 options": {
        "model": "good", "messages": [TURN], "suffice": {"policy": OPTIONS},
    },
    "300,000 unknown fields": {
        "model": "good", "messages": [TURN], "suffice": {f"k{n}": 1 for n in range(300_000)},
    },
    "a million empty objects": b'{"model":"good","messages":[{"role":"user","content":"x"}],"x":['
    + b",".join([b"{}"] * 1_000_000) + b"]}",
}  # fmt: skip

CASES: dict[str, tuple[Attack, dict[str, Any]]] = {
    "nothing": (lambda gateway: time.sleep(SECONDS), {}),
    "trailers": (flood(BEGUN, LINES), {}),
    "trailers, no key": (flood(BEGUN, LINES), {"keys": True}),
    "one trailer": (flood(BEGUN + b"x: ", b"a" * 2**16), {}),
    "a chunk's extension": (flood(CHUNKED + b"2;a=", b"a" * 2**16), {}),
    "a body after a 401": (flood(LONG, b"a" * 2**16), {"keys": True}),
    "half requests, 200 files": (many_half_requests, {"files": 200}),
    "half requests, 200 files, no key": (many_half_requests, {"files": 200, "keys": True}),
    "pipelined requests": (pipelines, {}),
    "clients that leave": (leavers, {}),
    "clients that do not read": (readers_that_do_not, {}),
    "comparisons of expressions": (comparisons, {}),
    **{f"request: {name}": (large_requests(body), {}) for name, body in REQUESTS.items()},
    **{
        f"engine: {word}, {form}": (evil(word, form), {})
        for word in WORDS
        for form in FORMS
    },
}  # fmt: skip


@contextlib.contextmanager
def engine_running(good: str = "good") -> Iterator[None]:
    engines = [
        subprocess.Popen(
            [
                sys.executable,
                str(HERE / "hostile_upstream.py"),
                "--port",
                str(port),
                "--model",
                name,
            ]
        )
        for port, name in ((ENGINE, "evil"), (GOOD, good))
    ]
    try:
        time.sleep(1.0)
        yield
    finally:
        for engine in engines:
            engine.terminate()
            engine.wait()


def measured(name: str) -> dict[str, Any]:
    attack, options = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder), **options)
        try:
            time.sleep(0.5)
            before_mb = rss_mb(gateway.process.pid)
            gateway.watch()
            ending = threading.Thread(target=attack, args=(gateway,), daemon=True)
            ending.start()
            ending.join(SECONDS + 2)
            ended_s = gateway.end()
        finally:
            if gateway.process.poll() is None:
                gateway.process.kill()
            gateway.process.wait()
    row: dict[str, Any] = {
        "case": name,
        "rss_before_mb": round(before_mb, 1),
        "rss_highest_mb": round(max(gateway.rss, default=before_mb), 1),
        "ended_s": round(ended_s, 2),
        "returncode": gateway.process.returncode,
        "polite_failures": len(gateway.failures),
        "tracebacks": "".join(gateway.log).count("Traceback"),
    }
    for kind, waits in gateway.waits.items():
        ordered = sorted(waits) or [float("nan")]
        row[f"{kind}_longest_ms"] = round(ordered[-1], 1)
        row[f"{kind}_p99_ms"] = round(ordered[int(len(ordered) * 0.99)], 1)
        row[f"{kind}_median_ms"] = round(ordered[len(ordered) // 2], 1)
    if gateway.failures:
        row["first_failure"] = gateway.failures[0][:200]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", help="parts of names, comma-separated")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each case")
    given = parser.parse_args()
    globals()["SECONDS"] = given.seconds
    wanted = [
        name for name in CASES
        if given.only is None or any(part in name for part in given.only.split(","))
    ]  # fmt: skip
    rows = []
    with engine_running():
        for name in wanted:
            rows.append(measured(name))
            print(json.dumps(rows[-1]), flush=True)
    if given.out is not None:
        record = {
            "command": "python benchmarks/gateway/hostile.py",
            "python": platform.python_version(), "cores": os.cpu_count(), "rows": rows,
        }  # fmt: skip
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
