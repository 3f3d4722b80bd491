"""BFCL's parallel questions with calls that take time: native calls against plans.

    $ pip download --no-deps bfcl-eval==2026.3.23 && unzip bfcl_eval-*.whl -d bfcl
    $ python benchmarks/tools/bfcl.py --data bfcl/bfcl_eval/data --out results/tools/bfcl.json

The model is scripted: it asks for the calls of BFCL's own ground truth (the first accepted value
of each argument), natively or in a plan's notation, so that what differs is the way and not the
model. Each call takes a time drawn from a log-normal (median 1 s, sigma .5), the same for every
way. Played through the replay executor: a token every 20 ms after 300 ms, 4 characters a token. A
row counts as right if the calls that were made are those of the ground truth, arguments and all.
Rows whose truth is known to be wrong (ShishirPatil/gorilla#1133) are left out. `program` runs in
the sandbox, 50 ms a run. `abstraction` is not here: its calls take one argument, as text.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from suffice.core.decisions import CallTool
from suffice.core.files import write_json
from suffice.core.requests import Message, Request, Tool, ToolCall, ToolHints
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.replay import RecordedCall, play
from suffice.executors.running_sample import Launch
from suffice.policies.registry import parse_policy
from suffice.tools.code_sandbox import Runner
from suffice.tools.servers import python as python_tools

SETS = ("parallel", "parallel_multiple", "live_parallel", "live_parallel_multiple")
WRONG = {"parallel_84", "parallel_155", "parallel_158", "parallel_170"}
TOKEN_S, FIRST_S = 0.02, 0.3
RUN_S = 0.05  # of a program, each time that it is run
PYTHON = python_tools.server().tools
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
ANSWER = "Here is what was found: all of it."
Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    name: str
    question: str
    tools: tuple[Tool, ...]
    calls: tuple[tuple[str, Json], ...]


def schema(value: Any) -> Any:
    """BFCL's types as JSON Schema's."""
    if isinstance(value, list):
        return [schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: schema(each) for key, each in value.items()}
    kind = found.get("type")
    if isinstance(kind, str) and kind.lower() in TYPES:
        named = TYPES[kind.lower()]
        if named is None:
            del found["type"]
        else:
            found["type"] = named
    elif isinstance(kind, str):
        found["type"] = kind.lower()
    return found


def accepted(options: Any) -> Any:
    """The first accepted value; accepted values of a nested object are options again."""
    value = next((each for each in options if each != ""), options[0])
    if isinstance(value, dict):
        inner = {key: accepted(each) for key, each in value.items() if isinstance(each, list)}
        return {key: each for key, each in inner.items() if each != ""}
    return value


def rows_of(folder: Path, name: str) -> list[Row]:
    def lines(file: Path) -> list[Json]:
        return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]

    file = f"BFCL_v4_{name}.json"
    truths = {each["id"]: each["ground_truth"] for each in lines(folder / "possible_answer" / file)}
    found = []
    for each in lines(folder / file):
        if each["id"] in WRONG:
            continue
        tools = tuple(
            Tool(
                name=tool["name"].replace(".", "_"),
                description=tool["description"],
                parameters_json=json.dumps(schema(tool["parameters"])),
                hints=ToolHints(read_only=True, open_world=False),
            )
            for tool in each["function"]
        )
        calls = []
        for call in truths[each["id"]]:
            ((tool, options),) = call.items()
            given = {key: accepted(values) for key, values in options.items()}
            calls.append((tool.replace(".", "_"), {k: v for k, v in given.items() if v != ""}))
        question = " ".join(turn["content"] for turn in each["question"][0])
        found.append(Row(each["id"], question, tools, tuple(calls)))
    return found


def native(row: Row, number: int) -> ToolCall:
    name, arguments = row.calls[number]
    return ToolCall(id=f"c{number}", name=name, arguments=json.dumps(arguments))


def numbered(row: Row) -> str:
    lines = [
        f"{n}. {name}({', '.join(f'{key}={escaped(value)}' for key, value in given.items())})"
        for n, (name, given) in enumerate(row.calls, 1)
    ]
    return "\n".join([*lines, f"{len(lines) + 1}. join()"])


def escaped(value: Any) -> str:
    return repr(value).replace("$", "$$")


def python(row: Row) -> str:
    return "\n".join(
        f"r{n} = {name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
        for n, (name, given) in enumerate(row.calls, 1)
    )


def program(row: Row) -> str:
    names = ", ".join(f"r{n}" for n in range(1, len(row.calls) + 1))
    return f"{python(row)}\nprint({names})"


def rewoo(row: Row) -> str:
    return "\n".join(
        f"#E{n} = {name}[{json.dumps(given)}]" for n, (name, given) in enumerate(row.calls, 1)
    )


WAYS: dict[str, tuple[str, Callable[[Row], str] | None]] = {
    "native, one a turn": ("react:max_turns=99", None),
    "native, parallel": ("react:max_turns=99", None),
    "rewoo": ("rewoo", rewoo),
    "rewoo, numbered": ("rewoo:notation=numbered", numbered),
    "rewoo, python": ("rewoo:notation=python", python),
    "dag": ("dag", numbered),
    "futures": ("futures:max_turns=99", None),
    "program": ("program", program),
}


def size(request: Request) -> int:
    parts = [f"{t.name}{t.description}{t.parameters_json}" for t in request.tools]
    for turn in request.messages:
        parts.append(turn.text)
        parts += [call.name + call.arguments for call in turn.tool_calls]
    return sum(len(part) for part in parts)


def played(row: Row, way: str, sandbox: Runner) -> Json:
    policy, notation = WAYS[way]
    made: list[tuple[str, Json]] = []
    rng = random.Random(row.name)
    delays = [rng.lognormvariate(0.0, 0.5) for _ in row.calls]

    def said(launch: Launch) -> RecordedSample:
        request = launch.draw.request
        turn = sum(message.role == "assistant" for message in request.messages)
        text, calls = ANSWER, ()
        if launch.purpose == "plan" and way == "futures":  # all at once, and no more
            wanted = range(len(row.calls)) if turn == 0 else range(0)
            calls = tuple(native(row, number) for number in wanted)
            text = "" if calls else "ready"
        elif launch.purpose == "plan":
            assert notation is not None
            text = notation(row)
        elif request.tools and notation is None:
            alone = way == "native, one a turn"
            wanted = range(len(row.calls)) if turn == 0 else range(0)
            if alone:
                wanted = range(turn, min(turn + 1, len(row.calls)))
            calls = tuple(native(row, number) for number in wanted)
            text = "" if calls else ANSWER
        written = text + "".join(call.name + call.arguments for call in calls)
        return RecordedSample(
            text=text, tokens=max(1, round(len(written) / 4)), tool_calls=calls,
            prompt_tokens=round(size(request) / 4),
            finish_reason="tool_calls" if calls else "stop",
        )  # fmt: skip

    def call(action: CallTool) -> RecordedCall:
        if action.tool == "run_python":
            ran = sandbox.run(json.loads(action.arguments_json)["code"])
            return RecordedCall(result=ran.output, elapsed_s=RUN_S)
        made.append((action.tool, json.loads(action.arguments_json)))
        return RecordedCall(
            result=f"result {action.call}", elapsed_s=delays[(len(made) - 1) % len(delays)]
        )

    tools = (*row.tools, *PYTHON) if way == "program" else row.tools
    request = Request(
        messages=(Message(role="user", content=row.question),), model="m", tools=tools
    )
    found = play(
        parse_policy(policy), request, said, calls=call, token_s=TOKEN_S,
        first_ticks=round(FIRST_S / TOKEN_S),
    )  # fmt: skip
    usage = found.outcome.usage
    return {
        "right": sorted(map(repr, made)) == sorted(map(repr, row.calls)),
        "prompt": usage.prompt_tokens,
        "written": usage.completion_tokens,
        "round_trips": len(found.outcome.records),
        "seconds": found.ticks * TOKEN_S,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="bfcl_eval/data of the wheel")
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    args = parser.parse_args()
    if not args.data.is_dir():
        raise SystemExit(f"error: {args.data} is not there: it is bfcl_eval/data of bfcl-eval")
    record: list[Json] = []
    sandbox = Runner()
    for name in SETS:
        rows = rows_of(args.data, name)
        for way in WAYS:
            runs = [played(row, way, sandbox) for row in rows]
            wrong = [row.name for row, run in zip(rows, runs, strict=True) if not run["right"]]
            found = {
                "set": name, "rows": len(rows), "way": way, "right": len(rows) - len(wrong),
                "calls": round(fmean(len(row.calls) for row in rows), 2),
                **{key: round(fmean(run[key] for run in runs), 2)
                   for key in ("prompt", "written", "round_trips", "seconds")},
                "wrong": wrong,
            }  # fmt: skip
            record.append(found)
            print("  ".join(f"{value!s:>22}" for key, value in found.items() if key != "wrong"))
    sandbox.close()
    if args.out is not None:
        write_json(args.out, {"token_s": TOKEN_S, "first_s": FIRST_S, "rows": record})


if __name__ == "__main__":
    main()
