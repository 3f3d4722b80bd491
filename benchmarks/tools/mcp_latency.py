"""Wall time of calls to a real MCP server that takes its time: all at once, and one after another.

    $ python benchmarks/tools/mcp_latency.py --out results/tools/mcp_latency.json

A calculator runs as an MCP server in a process of its own (stdio) and takes --delay seconds longer
for each call. The model is scripted and writes a token every --token-s seconds, so that planning
and answering take a known time. Independent: k calls of one plan, held against
1.2 x (slowest call + planning + answering). Chain: each call waits for the one before, held
against react, whose model writes the same calls a turn each. The median of --rounds rounds counts,
all are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

from suffice.backends.fake import FakeBackend, Script
from suffice.core.files import write_json
from suffice.core.requests import Message, Request, ToolCall
from suffice.executors.live import run
from suffice.policies.registry import parse_policy
from suffice.tools.mcp import ServerEntry, connected
from suffice.tools.toolbox import Toolbox

COUNTS = (1, 2, 4, 8)
ANSWER = "the answer is known now"


def call_text(number: int, *, chain: bool) -> str:
    return f"{number} + ${number - 1}" if chain and number > 1 else f"{number} + 1"


def planned(count: int, token_s: float, *, chain: bool) -> list[Script]:
    lines = [f'{n}. calculate("{call_text(n, chain=chain)}")\n' for n in range(1, count + 1)]
    return [Script(tokens=(*lines, "join()"), delay_s=token_s), Script.of(ANSWER, delay_s=token_s)]


def in_turns(count: int, token_s: float) -> list[Script]:
    turns = []
    for number in range(1, count + 1):
        arguments = json.dumps({"expression": f"{number} + 1"})
        calls = (ToolCall(id=f"c{number}", name="calculate", arguments=arguments),)
        turns.append(Script.of("x", delay_s=token_s, tool_calls=calls))
    return [*turns, Script.of(ANSWER, delay_s=token_s)]


async def timed(policy: str, scripts: list[Script], box: Toolbox) -> float:
    request = Request(messages=(Message(role="user", content="how much?"),), model="fake")
    began_s = time.perf_counter()
    outcome = await run(parse_policy(policy), request, FakeBackend(scripts), toolbox=box)
    elapsed_s = time.perf_counter() - began_s
    assert outcome.completion.text == ANSWER, outcome.why
    assert all(record.status == "finished" for record in outcome.tool_records)
    return elapsed_s


async def measured(args: argparse.Namespace, box: Toolbox) -> list[dict]:
    rows = []
    for count in COUNTS:
        planning_s, answering_s = (count + 1) * args.token_s, len(ANSWER.split()) * args.token_s
        bound_s = 1.2 * (args.delay + planning_s + answering_s)
        rounds = {"independent": [], "chain, rewoo": [], "chain, dag": [], "chain, react": []}
        for _ in range(args.rounds):
            ways = (
                (
                    "independent",
                    "rewoo:notation=numbered",
                    planned(count, args.token_s, chain=False),
                ),
                (
                    "chain, rewoo",
                    "rewoo:notation=numbered",
                    planned(count, args.token_s, chain=True),
                ),
                ("chain, dag", "dag", planned(count, args.token_s, chain=True)),
                ("chain, react", "react", in_turns(count, args.token_s)),
            )
            for name, policy, scripts in ways:
                rounds[name].append(round(await timed(policy, scripts, box), 4))
        row = {
            "calls": count,
            "bound_s": round(bound_s, 3),
            **{f"{name}_s": median(values) for name, values in rounds.items()},
            "rounds": rounds,
        }
        row["within"] = row["independent_s"] <= bound_s
        rows.append(row)
        shown = "  ".join(f"{name} {median(values):6.3f} s" for name, values in rounds.items())
        print(f"{count} calls  bound {bound_s:6.3f} s  {shown}  within: {row['within']}")
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--delay", type=float, default=0.5, help="seconds of a call")
    parser.add_argument("--token-s", type=float, default=0.02, help="seconds of a token")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    args = parser.parse_args()
    server = ServerEntry(
        command=sys.executable,
        args=("-m", "suffice.tools.servers", "calculator", "--delay", str(args.delay)),
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    async with connected({"calculator": server}) as box:
        rows = await measured(args, box)
    if args.out is not None:
        settings = {"delay_s": args.delay, "token_s": args.token_s, "rounds": args.rounds}
        write_json(args.out, settings | {"rows": rows})


if __name__ == "__main__":
    asyncio.run(main())
