"""The small planner on held-out questions, policy by policy: success, tokens, round trips, seconds.

    $ python benchmarks/tools/planner.py train --out planner
    $ python benchmarks/tools/planner.py evaluate --model planner --out results/tools/planner.json
    $ python benchmarks/tools/planner.py evaluate --upstream http://localhost:8001/v1 --concurrency 16

Greedy. Every policy answers the same questions, each of them once; a success is the exact answer.
Intervals are Wilson's at 95 %. Cost: a prompt token is 1, a written one 4 (no cached price: the
engine here has no cache between requests). Seconds are those of the first --timed questions, one at
a time. `choose` is held against the best single policy: no more than 1 point fewer right and no more
than 5 % dearer than the one with most right answers (of those within 1 point of it the cheapest).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from small_planner.questions import Country, Question, questions

from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Backend
from suffice.core.completions import Outcome
from suffice.core.errors import BackendError
from suffice.core.files import write_json
from suffice.core.requests import Message, Request, Sampling
from suffice.executors.live import run
from suffice.policies.registry import parse_policy
from suffice.tools.servers import python
from suffice.tools.toolbox import Toolbox

A_COUNTRY = 40  # questions about one country
# All but one sample without tools.
WAYS = ("react", "rewoo", "dag", "futures", "program", "abstraction")
POLICIES = (
    "single",
    "react",
    "rewoo",
    "rewoo:notation=numbered",
    "rewoo:notation=python",
    "dag",
    "futures",
    "program",
    "abstraction",
    "choose:cached_price=1,steps=3.5,depth=1.9,call_tokens=12,result_tokens=4,answer_tokens=5,"
    "ways=react+rewoo+dag+abstraction",
)


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


async def answered(
    policy: str, question: Question, backend: Backend, boxes: Mapping[str, Toolbox]
) -> dict:
    request = Request(
        messages=(Message(role="user", content=question.text),), model="planner",
        sampling=Sampling(temperature=0.0, max_tokens=400),
    )  # fmt: skip
    began_s = time.perf_counter()
    outcome: Outcome | None = None
    try:
        # A single sample is asked without tools: what the model knows by itself.
        toolbox = None if policy == "single" else boxes.get(policy, boxes["tools"])
        outcome = await run(parse_policy(policy), request, backend, toolbox=toolbox)
    except BackendError as error:
        failed = str(error)
    elapsed_s = time.perf_counter() - began_s
    if outcome is None:
        return {"right": False, "failed": failed, "prompt": 0, "written": 0, "round_trips": 0,
                "calls": 0, "seconds": elapsed_s}  # fmt: skip
    return {
        "right": outcome.completion.text.strip() == question.answer,
        "prompt": outcome.usage.prompt_tokens,
        "written": outcome.usage.completion_tokens,
        "round_trips": len(outcome.records),
        "calls": outcome.tool_calls_run,
        "seconds": elapsed_s,
        "said": outcome.completion.text[:60],
    }


def beside_best(rows: list[dict]) -> dict | None:
    """`choose` beside the best single policy; None until both were measured."""
    chosen = next((row for row in rows if row["policy"].startswith("choose")), None)
    single = [row for row in rows if row["policy"].partition(":")[0] in WAYS]
    if chosen is None or not single:
        return None
    most = max(row["success"] for row in single)
    best = min(
        (row for row in single if row["success"] >= most - 0.01), key=lambda row: row["cost"]
    )
    return {
        "best": best["policy"],
        "points": round(100 * (chosen["success"] - best["success"]), 2),
        "cost": round(chosen["cost"] / best["cost"] - 1.0, 4),
        "never_worse": chosen["success"] >= best["success"] - 0.01
        and chosen["cost"] <= 1.05 * best["cost"],
    }


def report(policy: str, rows: list[dict], asked: list[Question], *, timed: int) -> dict:
    right = sum(row["right"] for row in rows)
    low, high = wilson(right, len(rows))
    kinds = defaultdict(list)
    for row, question in zip(rows, asked, strict=True):
        kinds[question.kind].append(row["right"])
    found = {
        "policy": policy,
        "questions": len(rows),
        "success": round(right / len(rows), 4),
        "interval": [round(low, 4), round(high, 4)],
        "prompt_tokens": round(fmean(row["prompt"] for row in rows), 1),
        "written_tokens": round(fmean(row["written"] for row in rows), 1),
        "cost": round(fmean(row["prompt"] + 4 * row["written"] for row in rows), 1),
        "round_trips": round(fmean(row["round_trips"] for row in rows), 2),
        "calls": round(fmean(row["calls"] for row in rows), 2),
        "seconds": round(fmean(row["seconds"] for row in rows[:timed]), 3) if timed else None,
        "by_kind": {kind: [sum(each), len(each)] for kind, each in sorted(kinds.items())},
    }
    wrong = [
        {"question": question.text, "said": row.get("said") or row.get("failed", "")[:120]}
        for row, question in zip(rows, asked, strict=True) if not row["right"]
    ]  # fmt: skip
    found["wrong"] = wrong[:5]
    print(json.dumps(found), flush=True)
    return found


async def evaluate(args: argparse.Namespace) -> None:
    sandbox = python.server()
    asked, boxes = [], []
    for number in range(math.ceil(args.questions / A_COUNTRY)):
        # Countries that training never saw, each with texts that it never saw.
        country = Country(f"held out {args.seed}/{number}")
        some = min(A_COUNTRY, args.questions - len(asked))
        seed = f"{args.seed}/{number}"
        asked += questions(some, seed=seed, split="held_out", country=country)
        tools = country.server()
        each = {"tools": Toolbox([tools]), "program": Toolbox([tools, sandbox])}
        boxes += [each] * some
    backend = backend_of(args)
    rows = []
    places = asyncio.Semaphore(args.concurrency)

    async def one(policy: str, number: int) -> dict:
        async with places:
            return await answered(policy, asked[number], backend, boxes[number])

    for policy in args.policy or POLICIES:
        found = [await one(policy, number) for number in range(args.timed)]
        later = range(args.timed, len(asked))
        found += await asyncio.gather(*(one(policy, number) for number in later))
        rows.append(report(policy, found, asked, timed=args.timed))
        if args.out is not None:
            record = {
                "seed": args.seed, "engine": args.engine, "concurrency": args.concurrency,
                "timed": args.timed, "rows": rows, "choose": beside_best(rows),
            }  # fmt: skip
            write_json(args.out, record)
    print(json.dumps(beside_best(rows)))
    await sandbox.aclose()
    await backend.aclose()


def backend_of(args: argparse.Namespace) -> Backend:
    if args.upstream:
        return OpenAIBackend(args.upstream)
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    from suffice.backends.transformers_backend import TransformersBackend  # noqa: PLC0415

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(args.model)
    return TransformersBackend(model, AutoTokenizer.from_pretrained(args.model), name="planner")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--seed", type=int, default=0)
    held = verbs.add_parser("evaluate")
    held.add_argument("--model", type=Path, help="folder that train wrote")
    held.add_argument("--upstream", help="an engine that serves it, in place of this process")
    held.add_argument("--questions", type=int, default=320)
    held.add_argument("--timed", type=int, default=40, help="of these asked one at a time first")
    held.add_argument("--concurrency", type=int, default=1, help="of the others, at a time")
    held.add_argument("--engine", default="transformers", help="what is written into the record")
    held.add_argument("--seed", type=int, default=0)
    held.add_argument("--policy", action="append", help="one of several; all by default")
    held.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.verb == "train":
        from small_planner.train import PlannerTraining, train_planner  # noqa: PLC0415

        train_planner(PlannerTraining(seed=args.seed), args.out)
    else:
        asyncio.run(evaluate(args))


if __name__ == "__main__":
    main()
