"""What keys, ledger and metrics cost a call: microseconds of CPU on the response path, and off it;
and what a request with four samples takes on disk.

python benchmarks/gateway/recorder_overhead.py [--calls 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from suffice.core.completions import Usage
from suffice.gateway.calls import Call
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.endpoints import endpoint_of
from suffice.gateway.observe.serving_hooks import open_hooks
from suffice.ledger.api_keys import Limits, add_key, make_key
from suffice.ledger.records import Batch, Entry, RequestRow, SampleRow
from suffice.ledger.store import Store

PATH = "/v1/chat/completions"
CHAT = endpoint_of(PATH)
HEADERS = [
    (b"host", b"127.0.0.1:8080"), (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"), (b"accept", b"application/json"),
    (b"content-type", b"application/json"), (b"user-agent", b"OpenAI/Python 3.54.0"),
    (b"x-stainless-lang", b"python"), (b"x-stainless-retry-count", b"0"),
    (b"content-length", b"180"),
]  # fmt: skip


def measured(keyed: bool, calls: int) -> dict[str, float]:
    """CPU microseconds per call on the response path and in the ledger's thread.

    CPU time of the thread, so that other work on the machine is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        url = str(Path(folder) / "ledger.db")
        opened = open_hooks(GatewayConfig(ledger=LedgerConfig(url=url)))
        headers = list(HEADERS)
        if keyed:
            limits = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, budget_usd=1e9)
            key, text = make_key("bench", limits=limits)
            add_key(opened.store, key)
            opened.totals.load()
            headers.append((b"authorization", f"Bearer {text}".encode()))

        async def run() -> list[float]:
            await opened.recorder.start()
            times = []
            for number in range(calls):
                call = Call(path=PATH, endpoint=CHAT, headers=headers, body=b"x" * 180)
                call.model = call.target = "m"
                call.arm, call.status, call.complete = "bypass", 200, True
                call.reached = {0: {0}}
                call.usage = Usage(prompt_tokens=20, completion_tokens=50)
                began = time.thread_time()
                for hook in opened.in_order:
                    await hook.admit(call)
                for hook in opened.in_order:
                    await hook.authorize(call)
                call.ended_s = 0.01
                opened.recorder.ended(call)
                times.append(time.thread_time() - began)
                if number % 100 == 99:
                    await asyncio.sleep(0.01)  # as under load, the writer has its turns
            return times

        cpu = time.process_time()
        times = asyncio.run(run())
        path_s = sum(times)
        asyncio.run(opened.recorder.stop())
        total_s = time.process_time() - cpu
        return {
            "on_path_us_median": round(statistics.median(times) * 1e6, 1),
            "on_path_us_p99": round(statistics.quantiles(times, n=100)[98] * 1e6, 1),
            "off_path_us_mean": round(max(0.0, total_s - path_s) / calls * 1e6, 1),
        }


def disk_bytes(requests: int) -> float:
    """Bytes of a SQLite ledger per request with four samples, its sums left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        store = Store(str(path))
        empty = path.stat().st_size
        entries = []
        for number in range(requests):
            name = f"req-{number:024x}"
            row = RequestRow(
                id=name, started_s=1e9 + number, endpoint="/v1/chat/completions",
                model="suffice/adaptive_consistency", served_model="Qwen/Qwen3-8B",
                arm="adaptive_consistency", status=200, prompt_tokens=400, completion_tokens=1200,
                usage_source="engine", samples=4, samples_cancelled=0, compared_cost=1600.0,
                baseline_cost=12000.0, cost_unit="tokens",
                confidence=0.96875, escalated=0, accepted_sample=0,
                why="agreement 0.969 reaches 0.95 after 4", first_byte_s=1.5, elapsed_s=3.25,
                overhead_s=0.0031,
            )  # fmt: skip
            samples = tuple(
                SampleRow(
                    request_id=name, choice=0, sample=sample, model="Qwen/Qwen3-8B",
                    purpose="sample", status="finished", prompt_tokens=100, completion_tokens=300,
                    ttft_s=0.125, elapsed_s=2.5,
                )
                for sample in range(4)
            )  # fmt: skip
            entries.append(Entry(request=row, samples=samples))
        store.write(Batch(id="bench", at_s=1e9, entries=entries))
        store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()
        return round((path.stat().st_size - empty) / requests, 1)


def main() -> None:
    """Print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    for keyed in (False, True):
        name = "key, limits and budget" if keyed else "no keys"
        print(json.dumps({"case": name, "calls": calls, **measured(keyed, calls)}))
    found = disk_bytes(10_000)
    print(json.dumps({"case": "disk", "requests": 10_000, "bytes_per_request": found}))


if __name__ == "__main__":
    main()
