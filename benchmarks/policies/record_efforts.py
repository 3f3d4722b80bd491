"""Record one small model at both efforts, in full and in four-bit precision, on the same puzzles.

    python benchmarks/policies/record_efforts.py train --out data/models/efforts       # a minute
    python benchmarks/policies/record_efforts.py record --out data/traces/efforts.parquet   # 9

train    the mode tasks in both modes, no choice of mode trained; stopped after 800 steps, where the
         model still errs at arithmetic whether it thinks or not (needs torch)
record   every arm of `ARMS` on held-out puzzles of one to six steps, temperature 1, seeded. The
         four-bit arms are the same weights, each matrix rounded to 15 levels a row
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from suffice.backends.nano.backend import NanoBackend
from suffice.backends.nano.weights import RECORD, WEIGHTS, weights_sha256
from suffice.core.requests import Sampling
from suffice.evals.datasets import Item
from suffice.recipes.modes.items import item_of
from suffice.recipes.record.run import RecordConfig, record
from suffice.tasks.puzzles import Mixture

TASKS = ("chain", "logic", "arithmetic")
PER_CELL = 40
LEVELS = 7  # four bits: -7 to 7 times a scale of the row
# Samples a puzzle by arm: `small` chooses its mode by its first token.
ARMS = {
    "small": 8,
    "small-short": 24,
    "small-think": 24,
    "small-4bit-short": 8,
    "small-4bit-think": 24,
}


def items() -> list[Item]:
    """Held-out puzzles of every task and number of steps."""
    cells = Mixture(tasks=TASKS).distinct(PER_CELL, seed=17, split="held_out").values()
    return [item_of(problem, problem.task) for cell in cells for problem in cell]


def train(out: Path) -> None:
    """The model; what is finished is left as it is."""
    from suffice.recipes.modes.train import NanoTraining, train_nano  # noqa: PLC0415
    from suffice.training.modes.settings import Routing, WarmUp  # noqa: PLC0415

    untrained = Routing(method="gate", steps=1, fold_steps=0)
    training = NanoTraining(
        tasks=("chain", "arithmetic", "logic"), parameters=1e5, warm_up=WarmUp(steps=800),
        routing=untrained,
    )  # fmt: skip
    train_nano(training, out, evaluated_per_cell=20)


def rounded(matrix: np.ndarray) -> np.ndarray:
    """A matrix at four bits a weight, by row: the nearest of 15 levels."""
    scale = np.abs(matrix).max(axis=1, keepdims=True) / LEVELS
    kept = np.where(scale > 0, scale, 1.0)
    return (np.rint(matrix / kept) * kept).astype(matrix.dtype)


def quantised(folder: Path, out: Path) -> Path:
    """A copy of a model folder whose layers' matrices are rounded; embeddings and norms are not."""
    from safetensors.numpy import load_file, save_file  # noqa: PLC0415

    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("warm-up", RECORD))
    tensors = load_file(folder / WEIGHTS)
    rounds = {n: w for n, w in tensors.items() if w.ndim == 2 and ".layers." in n}
    save_file(tensors | {n: rounded(w) for n, w in rounds.items()}, out / WEIGHTS)
    return out


async def draw(model: Path, out: Path) -> None:
    """Resumable: a second call draws what the file lacks."""
    asked = items()
    with tempfile.TemporaryDirectory() as folder:
        less = quantised(model, Path(folder) / "model")
        full, four = NanoBackend(model, name="small"), NanoBackend(less, name="small-4bit")
        source = f"small: {full.parameters} parameters, weights {weights_sha256(model)[:12]}"
        for arm, samples in ARMS.items():
            config = RecordConfig(
                samples=samples,
                model=arm,
                sampling=Sampling(temperature=1.0, max_tokens=40, top_logprobs=20, seed=0),
                description="a small model at both efforts, in full and in four-bit precision",
                licence="CC0-1.0",
                source=source,
                server="suffice, embedded runtime",
            )
            began_s = time.perf_counter()
            backend = four if "4bit" in arm else full
            found = (await record(asked, backend, out, config)).progress
            share = found.correct / max(1, found.judged)
            print(f"{arm}: {found.drawn} samples, {share:.1%} right, "
                  f"{time.perf_counter() - began_s:.0f} s", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("part", choices=("train", "record"))
    parser.add_argument("--model", type=Path, default=Path("data/models/efforts"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.part == "train":
        train(options.out or options.model)
    else:
        asyncio.run(draw(options.model, options.out or Path("data/traces/efforts.parquet")))


if __name__ == "__main__":
    main()
