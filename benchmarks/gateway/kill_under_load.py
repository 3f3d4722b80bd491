"""kill -9 of a whole gateway under load, again and again on one ledger: is anything lost?

python benchmarks/gateway/kill_under_load.py [--times 10] [--ledger FILE|URL] [--workers N]

Clients ask without pause; `/metrics` says how many rows are acknowledged; then every process of the
gateway is killed. The ledger must open clean and hold every row that was acknowledged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from suffice.ledger import queries
from suffice.ledger.database import is_postgres
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply

CLIENTS = 8
LOAD_S = 3.0
VOTE = {
    "model": "suffice/adaptive_consistency",
    "messages": [{"role": "user", "content": "what is 2+2"}],
    "suffice": {"answer_format": "number"},
}


def rows_in(url: str) -> int:
    """Rows that the writer acknowledges: requests and samples."""
    store = Store(url)
    try:
        if not is_postgres(url):
            assert store.database.execute("PRAGMA integrity_check") == [("ok",)]
        found = queries.counts(store)
        return int(found["requests"] + found["samples"])
    finally:
        store.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def acknowledged(base: str) -> int:
    with urllib.request.urlopen(f"{base}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    match = re.search(r"^suffice_ledger_acknowledged_rows (\S+)", text, re.MULTILINE)
    assert match is not None
    return int(float(match[1]))


def ask(base: str, stop: threading.Event, answers: list[int]) -> None:
    body = json.dumps(VOTE).encode()
    while not stop.is_set():
        try:
            request = urllib.request.Request(f"{base}/v1/chat/completions", body)
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
                answers.append(answer.status)
        except OSError:
            if stop.wait(0.05):
                return


def once(engine: str, url: str, workers: int) -> dict[str, int]:
    """Start, load, kill; what was acknowledged and what is there."""
    before = rows_in(url)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    argv = [
        sys.executable, "-m", "suffice", "serve", "--upstream", engine, "--port", str(port),
        "--ledger", url, "--workers", str(workers), "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(argv, start_new_session=True)
    stop, answers = threading.Event(), []
    threads = [threading.Thread(target=ask, args=(base, stop, answers)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 90
    while not answers:
        assert time.monotonic() < until, "the gateway did not start"
        time.sleep(0.1)
    time.sleep(LOAD_S)
    known = acknowledged(base)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stop.set()
    for thread in threads:
        thread.join()
    return {"answers": len(answers), "acknowledged": known, "on_disk": rows_in(url) - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--ledger")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FakeEngine(Reply.saying("it is 4")) as engine:
        url = given.ledger or str(Path(folder) / "ledger.db")
        Store(url).close()
        lost = 0
        for number in range(given.times):
            found = once(engine.url, url, given.workers)
            lost += max(0, found["acknowledged"] - found["on_disk"])
            print(json.dumps({"kill": number + 1, **found}), flush=True)
        print(json.dumps({"kills": given.times, "acknowledged_rows_lost": lost}))
        sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
