"""Record suffice-nano as a trace set with the confidence of every token.

    python benchmarks/runtime/nano_traces.py data/traces/nano.parquet

120 puzzles of one to six steps; sixteen samples each: eight as the model chooses, four in either
forced mode (models suffice-nano, suffice-nano-short, suffice-nano-think), temperature 1, seeded.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from suffice.backends.nano.backend import NAME, NanoBackend, shipped_folder
from suffice.backends.nano.weights import weights_sha256
from suffice.core.requests import Sampling
from suffice.evals.datasets import Item
from suffice.evals.grading import check_of
from suffice.evals.traces.trace_set import Question, messages_json
from suffice.recipes.record.config import RecordConfig
from suffice.recipes.record.run import record
from suffice.tasks.puzzles import Mixture, Problem

PER_STEP = 20
ANSWER_FORMAT = r"regex:^\d$"
SAMPLES = {NAME: 8, f"{NAME}-short": 4, f"{NAME}-think": 4}


def item_of(problem: Problem) -> Item:
    return Item(
        question=Question(
            dataset="chain puzzles",
            name=problem.prompt,
            messages_json=messages_json(problem.prompt),
            reference=problem.answer,
            answer_format=ANSWER_FORMAT,
            category=f"{problem.difficulty} steps",
        ),
        check=check_of(ANSWER_FORMAT, problem.answer),
    )


async def main(out: Path) -> None:
    cells = Mixture().distinct(PER_STEP, seed=17, split="held_out").values()
    items = [item_of(problem) for cell in cells for problem in cell]
    backend = NanoBackend()
    for model, samples in SAMPLES.items():
        began_s = time.perf_counter()
        config = RecordConfig(
            samples=samples,
            model=model,
            sampling=Sampling(temperature=1.0, max_tokens=48, top_logprobs=20, seed=0),
            description="suffice-nano on its puzzles, free and in either forced mode",
            licence="CC0-1.0",
            source=f"suffice-nano, weights {weights_sha256(shipped_folder())[:12]}",
            server="suffice, embedded runtime",
        )
        found = await record(items, backend, out, config)
        share = found.progress.correct / max(1, found.progress.judged)
        print(
            f"{model}: {found.progress.drawn} samples, {share:.1%} right, "
            f"{time.perf_counter() - began_s:.0f} s"
        )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
