"""Accuracy and tokens of six policies against a live server, on tasks that a small model can do.

    suffice-env$ python benchmarks/runtime/live_saving.py run --upstream http://127.0.0.1:8000
    suffice-env$ python benchmarks/runtime/live_saving.py report

`run` appends one line per (task, prompt, policy) to the results file and skips what is there, so an
interrupted run goes on. `report` writes the table and the plot that docs/live-saving.md shows.
Samples are drawn anew for every policy. Prompts are drawn by --seed; samples by the server's own
seed, since a seed per request ends vLLM 0.32 on a CPU as soon as a prompt is prefilled in chunks
("CPU Generator does not use offset"). The committed results are the record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend
from suffice.core.files import write_text
from suffice.core.requests import Message, Request, Sampling
from suffice.evals.extract import extractor
from suffice.executors import live
from suffice.policies.registry import parse_policy

matplotlib.use("Agg")

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "live_saving.jsonl"
PAGE = ROOT / "docs" / "live-saving.md"
MARKS = (
    "<!-- table: made by benchmarks/runtime/live_saving.py report -->\n",
    "<!-- end of table -->",
)
PICTURE = ROOT / "docs" / "images" / "live_saving.png"
CHOICES = ROOT.parent / "shared" / "data" / "tasks" / "llm_foundry_eval" / "commonsense_qa.jsonl"

# A cap of 16 for all, so that every policy chooses from the same samples. ESC's window is 4 rather
# than the paper's 5, so that windows fill the cap; the warm-up of the confidence stop is 4 rather
# than 16, which would leave it nothing to stop.
POLICIES = {
    "single": "single",
    "self-consistency@16": "self_consistency:samples=16",
    "Adaptive-Consistency": "adaptive_consistency:max_samples=16",
    "ESC": "esc:window=4,max_samples=16",
    "confidence stop": "deepconf:max_samples=16,warmup=4,parallel=4",
    "cascade": "single:accept=0.9 > adaptive_consistency:max_samples=16",
}
VOTE = "self-consistency@16"
ONE_CALL = "single"
TEMPERATURE = 0.7
BOOTSTRAPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One prompt of a task, for `/v1/completions`."""

    prompt: str
    gold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Prompts with answers that `answer_format` extracts."""

    name: str
    answer_format: str
    max_tokens: int
    items: tuple[Item, ...]


def sums(count: int, seed: int) -> Task:
    """One-digit sums and products after five worked ones; all 162 pairs at most twice."""
    rng = random.Random(seed)
    shots = "2+5=7\n3*4=12\n9+6=15\n7*2=14\n8*5=40\n"
    every = [(a, op, b) for a in range(1, 10) for b in range(1, 10) for op in "+*"]
    pool = rng.sample(every, len(every)) + rng.sample(every, len(every))
    items = [
        Item(prompt=f"{shots}{a}{op}{b}=", gold=str(a + b if op == "+" else a * b))
        for a, op, b in pool[:count]
    ]
    return Task(name="one-digit sums and products", answer_format="number", max_tokens=6,
                items=tuple(items))  # fmt: skip


def chain_sums(count: int, seed: int) -> Task:
    """reasoning-gym's chain_sum with two terms of one or two digits, five worked examples."""
    import reasoning_gym  # noqa: PLC0415 - the extra tasks; a report needs none of it

    data = reasoning_gym.create_dataset(
        "chain_sum", size=count + 5, seed=seed, min_terms=2, max_terms=2, min_digits=1, max_digits=2
    )
    rows = [data[i] for i in range(count + 5)]
    shots = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in rows[:5])
    items = [
        Item(prompt=f"{shots}Question: {r['question']}\nAnswer:", gold=str(r["answer"]))
        for r in rows[5:]
    ]
    return Task(name="chain_sum (reasoning-gym)", answer_format="number", max_tokens=8,
                items=tuple(items))  # fmt: skip


def choices(count: int, seed: int, path: Path) -> Task:
    """CommonsenseQA with four choices, five worked examples; the answer is a letter."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    shots = "".join(f"{row['query']} {row['choices'][row['gold']]}\n\n" for row in rows[:5])
    picked = random.Random(seed).sample(rows[5:], count)
    items = [Item(prompt=shots + r["query"], gold=r["choices"][r["gold"]]) for r in picked]
    return Task(name="CommonsenseQA, 4 choices", answer_format=r"regex:\b([A-D])\b", max_tokens=3,
                items=tuple(items))  # fmt: skip


async def run(arguments: argparse.Namespace) -> None:
    """Ask everything that the results file lacks."""
    tasks = [
        sums(arguments.prompts, arguments.seed),
        chain_sums(arguments.prompts, arguments.seed),
        choices(arguments.prompts, arguments.seed, arguments.choices),
    ]
    done = {(row["task"], row["prompt"], row["policy"]) for row in read(arguments.out)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    gate = asyncio.Semaphore(arguments.concurrency)
    began = time.monotonic()
    # A machine this small may take a minute to accept a connection while it decodes.
    patient = Timeouts(connect_s=300.0, first_byte_s=600.0, silence_s=600.0)
    async with OpenAIBackend(arguments.upstream, timeouts=patient) as backend:
        model = (await backend.capabilities()).models[0]
        with arguments.out.open("a", encoding="utf-8") as out:
            for task in tasks:
                # Policies alternate prompt by prompt, so that a slow minute hits all of them.
                todo = [
                    (number, name)
                    for number in range(len(task.items))
                    for name in POLICIES
                    if (task.name, number, name) not in done
                ]

                async def one(number: int, name: str, task: Task = task) -> None:
                    async with gate:
                        row = await ask(backend, model, task, number, name)
                    out.write(json.dumps(row) + "\n")
                    out.flush()

                async with asyncio.TaskGroup() as group:
                    for number, name in todo:
                        group.create_task(one(number, name))
                print(f"{task.name}: {len(todo)} asked, {time.monotonic() - began:.0f} s")


async def ask(backend: Any, model: str, task: Task, number: int, name: str) -> dict[str, Any]:
    """One prompt under one policy."""
    item = task.items[number]
    request = Request(
        messages=(Message(role="user", content=item.prompt),),
        model=model,
        sampling=Sampling(
            max_tokens=task.max_tokens,
            temperature=TEMPERATURE,
            stop=("\n",),
        ),
        answer_format=task.answer_format,
        completion_only=True,
    )
    find = extractor(task.answer_format)
    assert find is not None
    outcome = await live.run(parse_policy(POLICIES[name]), request, backend, extract=find)
    return {
        "task": task.name,
        "prompt": number,
        "policy": name,
        "gold": item.gold,
        "answer": find(outcome.completion),
        "completion_tokens": outcome.usage.completion_tokens,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "cached_tokens": outcome.usage.cached_tokens,
        "samples": outcome.samples_run,
        "cancelled": outcome.samples_cancelled,
        "failed": sum(record.status == "failed" for record in outcome.records),
        "confidence": outcome.confidence,
        "elapsed_s": round(outcome.elapsed_s, 4),
        "overhead_s": round(outcome.overhead_s, 5),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a results file, none if it does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    centre = (right + z * z / 2) / (n + z * z)
    half = z * math.sqrt(right * (n - right) / n + z * z / 4) / (n + z * z)
    return centre - half, centre + half


def bootstrap(
    values: NDArray[np.float64], statistic: Any, seed: int = 0
) -> tuple[float, float]:  # fmt: skip
    """95 % percentile interval of a statistic over resampled prompts (rows of `values`)."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(values), size=(BOOTSTRAPS, len(values)))
    low, high = np.percentile(statistic(values[rows]), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table; intervals are 95 %."""

    task: str
    policy: str
    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    difference: float  # accuracy minus the baseline's on the same prompts
    difference_interval: tuple[float, float]
    tokens: float
    tokens_interval: tuple[float, float]
    samples: float
    fewer: float  # share of the full vote's completion tokens that were not drawn
    fewer_interval: tuple[float, float]
    times: float  # completion tokens over those of one call of the same prompts
    p50_s: float
    p95_s: float


def lines(rows: list[dict[str, Any]]) -> Iterator[Line]:
    """The table, from the rows of a run. Prompts that a policy lacks are left out for all."""
    by = {(row["task"], row["policy"], row["prompt"]): row for row in rows}
    for task in dict.fromkeys(row["task"] for row in rows):
        every = {row["prompt"] for row in rows if row["task"] == task}
        prompts = [p for p in sorted(every) if all((task, name, p) in by for name in POLICIES)]
        base = [by[task, VOTE, p] for p in prompts]
        one = float(np.mean([by[task, ONE_CALL, p]["completion_tokens"] for p in prompts]))
        for name in POLICIES:
            mine = [by[task, name, p] for p in prompts]
            columns = np.array(
                [
                    [a["answer"] == a["gold"], b["answer"] == b["gold"],
                     a["completion_tokens"], b["completion_tokens"]]
                    for a, b in zip(mine, base, strict=True)
                ],
                dtype=np.float64,
            )  # fmt: skip
            right = int(columns[:, 0].sum())
            means = columns.mean(axis=0)

            def gap(v: NDArray[np.float64]) -> Any:
                return (v[..., 0] - v[..., 1]).mean(axis=-1)

            def spent(v: NDArray[np.float64]) -> Any:
                return v[..., 2].mean(axis=-1)

            def fewer(v: NDArray[np.float64]) -> Any:
                return 1 - v[..., 2].sum(axis=-1) / v[..., 3].sum(axis=-1)

            yield Line(
                task=task,
                policy=name,
                n=len(prompts),
                accuracy=float(means[0]),
                accuracy_interval=wilson(right, len(prompts)),
                difference=float(means[0] - means[1]),
                difference_interval=bootstrap(columns, gap),
                tokens=float(means[2]),
                tokens_interval=bootstrap(columns, spent),
                samples=float(np.mean([row["samples"] for row in mine])),
                fewer=float(1 - means[2] / means[3]),
                fewer_interval=bootstrap(columns, fewer),
                times=float(means[2] / one),
                p50_s=float(np.median([row["elapsed_s"] for row in mine])),
                p95_s=float(np.percentile([row["elapsed_s"] for row in mine], 95)),
            )


def table(found: list[Line]) -> str:
    """Markdown: accuracy, difference to the full vote, tokens and latency per task and policy."""
    out = []
    for task in dict.fromkeys(line.task for line in found):
        mine = [line for line in found if line.task == task]
        out.append(f"**{task}** (n = {mine[0].n})\n")
        out.append("| policy | accuracy % | against the full vote, points | samples | tokens "
                   "| fewer than the full vote % | against one call | median, p95 s |")  # fmt: skip
        out.append("|---|--:|--:|--:|--:|--:|--:|--:|")
        for line in mine:
            low, high = line.accuracy_interval
            accuracy = f"{100 * line.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            gap = fewer = "–"
            if line.policy != VOTE:
                low, high = line.difference_interval
                gap = f"{100 * line.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
                low, high = line.fewer_interval
                fewer = f"{100 * line.fewer:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
            low, high = line.tokens_interval
            tokens = f"{line.tokens:.1f} [{low:.1f}, {high:.1f}]"
            times = "–" if line.policy == ONE_CALL else f"{line.times:.1f}x"
            out.append(
                f"| {line.policy} | {accuracy} | {gap} | {line.samples:.1f} | {tokens} | {fewer} "
                f"| {times} | {line.p50_s:.1f}, {line.p95_s:.1f} |"
            )
        out.append("")
    return "\n".join(out)


def draw(found: list[Line], path: Path) -> None:
    """Accuracy over tokens, a panel per task, intervals both ways."""
    tasks = list(dict.fromkeys(line.task for line in found))
    colours = dict(zip(POLICIES, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    figure, axes = plt.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.9), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for line in (line for line in found if line.task == task):
            low, high = line.accuracy_interval
            few, many = line.tokens_interval
            axis.errorbar(
                line.tokens,
                100 * line.accuracy,
                xerr=[[line.tokens - few], [many - line.tokens]],
                yerr=[[100 * (line.accuracy - low)], [100 * (high - line.accuracy)]],
                fmt="o", color=colours[line.policy], label=line.policy, capsize=2, markersize=6,
            )  # fmt: skip
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("completion tokens per prompt")
        axis.set_xscale("log")
        ticks = [1, 2, 5, 10, 20, 50, 100]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        spent = [line.tokens for line in found if line.task == task]
        axis.set_xlim(min(spent) / 1.5, max(spent) * 1.5)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("accuracy %, 95 % interval")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=len(names), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    asking = verbs.add_parser("run", help="ask the server")
    asking.add_argument("--upstream", required=True)
    asking.add_argument("--prompts", type=int, default=200)
    asking.add_argument("--concurrency", type=int, default=12, help="prompts in flight")
    asking.add_argument("--seed", type=int, default=7)
    asking.add_argument("--choices", type=Path, default=CHOICES, help="multiple-choice JSONL")
    reporting = verbs.add_parser("report", help="write table and plot")
    for verb in (asking, reporting):
        verb.add_argument("--out", type=Path, default=RESULTS, help="results file")
    reporting.add_argument("--print", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    if arguments.verb == "run":
        asyncio.run(run(arguments))
        return
    found = list(lines(read(arguments.out)))
    if arguments.print:
        print(table(found))
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    write_text(PAGE, before + MARKS[0] + "\n" + table(found) + "\n" + MARKS[1] + after)
    draw(found, PICTURE)
    print(table(found))


if __name__ == "__main__":
    main()
