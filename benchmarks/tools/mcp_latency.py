"""Wall time of calls to a real MCP server that takes its time: all at once, and one after another.

    $ python benchmarks/tools/mcp_latency.py --out results/tools/mcp_latency.json

A calculator runs as an MCP server in a process of its own (stdio) and takes --delay seconds longer
for each call. The model is scripted and writes a token every --token-s seconds, so that planning
and answering take a known time. Independent: k calls at once, by each way that can, held against
1.2 x (slowest call + planning + answering). Chain: each call waits for the one before, held
against react, whose model writes the same calls a turn each. The median of --rounds rounds counts,
all are kept. `program` runs in a sandbox, a process of its own too; `futures` asks for the calls of
a chain a turn each, as its model learns their names from the turn before.
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


def call_text(number: int, *, chain: bool, mark: str = "$") -> str:
    return f"{number} + {mark}{number - 1}" if chain and number > 1 else f"{number} + 1"


def written(lines: list[str], token_s: float) -> Script:
    """A plan of a token a line: however it is written, it takes as long."""
    return Script(tokens=tuple(lines), delay_s=token_s)


def planned(count: int, token_s: float, *, chain: bool) -> list[Script]:
    lines = [f'{n}. calculate("{call_text(n, chain=chain)}")\n' for n in range(1, count + 1)]
    return [written([*lines, "join()"], token_s), Script.of(ANSWER, delay_s=token_s)]


def program(count: int, token_s: float, *, chain: bool) -> list[Script]:
    lines = []
    for n in range(1, count + 1):
        said = f"{n} + {{r{n - 1}}}" if chain and n > 1 else f"{n} + 1"
        lines.append(f'r{n} = calculate(f"{said}")\n')
    shown = f"print({', '.join(f'r{n}' for n in range(1, count + 1))})"
    return [written([*lines, shown], token_s), Script.of(ANSWER, delay_s=token_s)]


def abstraction(count: int, token_s: float, *, chain: bool) -> list[Script]:
    lines = [
        f"[calculate({call_text(n, chain=chain, mark='y')}) = y{n}]\n" for n in range(1, count + 1)
    ]
    answer = [f"{word} " for word in ANSWER.split()]
    return [written([*lines, "Answer: ", *answer], token_s)]


def native(number: int, *, chain: bool = False) -> ToolCall:
    arguments = json.dumps({"expression": call_text(number, chain=chain, mark="$r")})
    return ToolCall(id=f"c{number}", name="calculate", arguments=arguments)


def in_turns(count: int, token_s: float) -> list[Script]:
    turns = [
        Script.of("x", delay_s=token_s, tool_calls=(native(number),))
        for number in range(1, count + 1)
    ]
    return [*turns, Script.of(ANSWER, delay_s=token_s)]


def futures(count: int, token_s: float, *, chain: bool) -> list[Script]:
    if chain:
        turns = [
            Script.of("x", delay_s=token_s, tool_calls=(native(number, chain=True),))
            for number in range(1, count + 1)
        ]
    else:
        calls = tuple(native(number) for number in range(1, count + 1))
        turns = [Script(tokens=("x ",) * count, delay_s=token_s, tool_calls=calls)]
    ready = Script.of("ready", delay_s=token_s)
    return [*turns, ready, Script.of(ANSWER, delay_s=token_s)]


def parallel(count: int, token_s: float) -> list[Script]:
    calls = tuple(native(number) for number in range(1, count + 1))
    turn = Script(tokens=("x ",) * count, delay_s=token_s, tool_calls=calls)
    return [turn, Script.of(ANSWER, delay_s=token_s)]


def ways(count: int, token_s: float) -> dict[str, tuple[str, list[Script]]]:
    """What is timed: the name of a row, its policy, and what the model says."""
    found = {
        "independent, react": ("react", parallel(count, token_s)),
        "chain, react": ("react", in_turns(count, token_s)),
    }
    for name, policy, says in (
        ("rewoo", "rewoo:notation=numbered", planned),
        ("dag", "dag", planned),
        ("futures", "futures", futures),
        ("program", "program", program),
        ("abstraction", "abstraction", abstraction),
    ):
        found[f"independent, {name}"] = policy, says(count, token_s, chain=False)
        found[f"chain, {name}"] = policy, says(count, token_s, chain=True)
    return found


async def timed(policy: str, scripts: list[Script], box: Toolbox) -> float:
    request = Request(messages=(Message(role="user", content="how much?"),), model="fake")
    began_s = time.perf_counter()
    outcome = await run(parse_policy(policy), request, FakeBackend(scripts), toolbox=box)
    elapsed_s = time.perf_counter() - began_s
    assert outcome.completion.text.strip() == ANSWER, outcome.why
    assert all(record.status == "finished" for record in outcome.tool_records)
    return elapsed_s


async def measured(args: argparse.Namespace, box: Toolbox) -> list[dict]:
    rows = []
    for count in COUNTS:
        planning_s, answering_s = (count + 1) * args.token_s, len(ANSWER.split()) * args.token_s
        bound_s = 1.2 * (args.delay + planning_s + answering_s)
        rounds: dict[str, list[float]] = {}
        for _ in range(args.rounds):
            for name, (policy, scripts) in ways(count, args.token_s).items():
                took_s = await timed(policy, scripts, box)
                rounds.setdefault(name, []).append(round(took_s, 4))
        row = {
            "calls": count,
            "bound_s": round(bound_s, 3),
            **{f"{name}_s": median(values) for name, values in rounds.items()},
            "rounds": rounds,
        }
        row["within"] = {
            name: row[f"{name}_s"] <= bound_s for name in rounds if name.startswith("independent")
        }
        rows.append(row)
        print(f"{count} calls, bound {bound_s:.3f} s")
        for name, values in rounds.items():
            held = {True: "within", False: "NOT within", None: ""}[row["within"].get(name)]
            print(f"  {name:24} {median(values):6.3f} s  {held}")
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
    sandbox = ServerEntry(
        command=sys.executable, args=("-m", "suffice.tools.servers", "python"), env=server.env
    )
    async with connected({"calculator": server, "python": sandbox}) as box:
        rows = await measured(args, box)
    if args.out is not None:
        settings = {"delay_s": args.delay, "token_s": args.token_s, "rounds": args.rounds}
        write_json(args.out, settings | {"rows": rows})


if __name__ == "__main__":
    asyncio.run(main())
