"""Long and heavy: a thousand streams at once, SIGTERM among them, memory over 100,000 requests.

    python benchmarks/gateway/soak.py --out results/gateway/soak.json

The engine sends a token every 0.2 s to each stream. Every call must end complete, or with an error
in OpenAI's form; "hangs", "cut" and "ended without [DONE]" are failures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from overhead import ENGINE, HERE, running

GATEWAY = "http://127.0.0.1:9101"
CLEAN = {"ok", "error event", "503", "502", "429"}


def load(*arguments: str) -> list[str]:
    return [sys.executable, str(HERE / "load.py"), GATEWAY, "--warm-s", "0", *arguments]


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(kilobytes) / 1024, 1)


class Watch(threading.Thread):
    """Memory of a process, once a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.seen, self.stop = pid, [rss_mb(pid)], threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stop.wait(1.0):
            self.seen.append(rss_mb(self.pid))

    def result(self) -> dict[str, float]:
        self.stop.set()
        self.join()
        return {"first_mb": self.seen[0], "highest_mb": max(self.seen), "last_mb": self.seen[-1]}


def streams(pid: int, seconds: float, clients: int) -> dict[str, Any]:
    """Half of the clients pass through, half run a policy."""
    watch = Watch(pid)
    half = [
        "--concurrency",
        str(clients // 2),
        "--stream",
        "--max-tokens",
        "50",
        "--seconds",
        str(seconds),
    ]
    both = [
        subprocess.Popen(load("--model", model, *half), stdout=subprocess.PIPE, text=True)
        for model in ("fake", "suffice/single")
    ]
    found = [json.loads(each.communicate()[0]) for each in both]
    return {"passed through": found[0], "single": found[1], "memory": watch.result()}


def ending(process_id: int) -> dict[str, Any]:
    """SIGTERM among 200 streams of ten seconds each, of which some have just begun."""
    arguments = ["--concurrency", "200", "--stream", "--max-tokens", "50", "--seconds", "6"]
    clients = subprocess.Popen(load(*arguments), stdout=subprocess.PIPE, text=True)
    time.sleep(5.0)
    os.kill(process_id, signal.SIGTERM)
    began_s = time.monotonic()
    while Path(f"/proc/{process_id}").exists() and time.monotonic() - began_s < 60:
        if "Z" in Path(f"/proc/{process_id}/stat").read_text().split()[2]:
            break
        time.sleep(0.1)
    took_s = time.monotonic() - began_s
    return {"ended_after_s": round(took_s, 1), "clients": json.loads(clients.communicate()[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    serve = (sys.executable, "-m", "suffice", "serve", "--quiet", "--upstream", ENGINE,
             "--port", "9101", "--ledger", str(folder / "ledger.db"))  # fmt: skip
    engine = (sys.executable, str(HERE / "upstream.py"), "--port", "9100")
    result: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "platform": platform.platform()}}
    with (
        running(engine, ENGINE, folder / "engine.log"),
        running(serve, GATEWAY, folder / "gateway.log") as pid,
    ):
        watch = Watch(pid)
        many = ["--concurrency", "32", "--requests", str(options.requests), "--seconds", "240"]
        result["many requests"] = json.loads(subprocess.check_output(load(*many), text=True))
        result["many requests"]["memory"] = watch.result()
        result["many requests"]["memory_every_s"] = watch.seen
        print(json.dumps(result["many requests"]), flush=True)
    slow = (*engine, "--delay-ms", "200", "--chunks", "200")
    with (
        running(slow, ENGINE, folder / "engine.log"),
        running(serve, GATEWAY, folder / "gateway.log") as pid,
    ):
        result["streams"] = streams(pid, options.seconds, options.clients)
        print(json.dumps(result["streams"]), flush=True)
        result["SIGTERM"] = ending(pid)
        print(json.dumps(result["SIGTERM"]), flush=True)
    parts = (result["many requests"], *result["streams"].values(), result["SIGTERM"]["clients"])
    result["unclean"] = {
        name: count
        for part in parts
        for name, count in part.get("outcomes", {}).items() if name not in CLEAN
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print("unclean", result["unclean"])


if __name__ == "__main__":
    main()
