"""How long a vote takes on a saturated server: all samples at once, or by waves that stop early.

    python benchmarks/runtime/vote_latency.py --upstream http://127.0.0.1:8000 [--in-flight 64] [--out FILE]

The one-digit sums of benchmarks/runtime/live_saving.py, with so many questions in flight. Each policy has
the server to itself first (what an operator has who runs it), then they share it half and half, the
question's policy alternating. Prints the table of docs/live-saving.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

from live_saving import ask, sums

from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend

VOTES = ("self-consistency@16", "Adaptive-Consistency", "ESC")
PATIENT = Timeouts(connect_s=300.0, first_byte_s=600.0, silence_s=600.0, answer_s=600.0)


async def asked(backend: OpenAIBackend, names: tuple[str, ...], count: int, in_flight: int) -> Any:
    """A row for every question: `count` of each policy, `in_flight` at a time in all."""
    model = (await backend.capabilities()).models[0]
    task = sums(count, seed=1)
    gate = asyncio.Semaphore(in_flight)
    rows: list[dict[str, Any]] = []

    async def one(number: int, name: str) -> None:
        async with gate:
            rows.append(await ask(backend, model, task, number % len(task.items), name))

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            for name in names:
                group.create_task(one(number, name))
    return rows


async def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All rounds: who had the server, which policy, and what it took."""
    found = []
    together = VOTES[:2]
    loads: list[tuple[str, ...]] = [*((name,) for name in VOTES), together]
    async with OpenAIBackend(given.upstream, timeouts=PATIENT) as backend:
        await asked(backend, VOTES[:1], 16, given.in_flight)  # the prompts' beginning is cached
        for turn in range(given.rounds):
            for names in loads:
                for row in await asked(backend, names, given.prompts, given.in_flight):
                    kept = ("policy", "samples", "completion_tokens", "elapsed_s")
                    with_whom = "alone" if len(names) == 1 else "half and half"
                    found.append(
                        {"round": turn, "load": with_whom, **{name: row[name] for name in kept}}
                    )
                print(turn, names, len(found), flush=True)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each load and policy."""
    lines = ["| the server has | policy | n | samples | median, p95 s | against the vote of 16 |",
             "|---|---|--:|--:|--:|--:|"]  # fmt: skip
    medians: dict[str, float] = {}
    for load in ("alone", "half and half"):
        for name in VOTES:
            mine = [row for row in rows if (row["load"], row["policy"]) == (load, name)]
            if not mine:
                continue
            times = sorted(row["elapsed_s"] for row in mine)
            median = statistics.median(times)
            medians.setdefault(load, median)
            samples = statistics.mean(row["samples"] for row in mine)
            lines.append(
                f"| {load} | {name} | {len(mine)} | {samples:.1f} | {median:.1f}, "
                f"{times[int(0.95 * len(times))]:.1f} | {median / medians[load]:.2f}x |"
            )
    return "\n".join(lines)


def main() -> None:
    """Ask, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=128, help="of each policy and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("vote_latency.jsonl"))
    given = parser.parse_args()
    rows = asyncio.run(run(given))
    given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
