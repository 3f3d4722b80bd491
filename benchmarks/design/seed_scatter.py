"""Why seeds of the second ladder scatter: the same two shapes with other rates and longer runs.

    python benchmarks/design/seed_scatter.py --data DATA [--seeds 6] [--only ARM] [--summary]

Arms, each with the shapes and seeds of the others:

    ladder   as results/ladder/second was trained: 489 steps of 1,024 bytes, 10 bytes per parameter
    half     the same at half the learning rate: is the rate too high?
    longer   four times the steps of the same batch, 40 bytes per parameter: are runs too short?

Runs that the ladder made already are taken from its store. Records go to
results/ladder/second/seed-scatter.jsonl, one line per run; a run that is there is not made again.
The summary is the standard deviation of ln loss over seeds, pooled over the shapes, with its 90 %
interval (chi squared), and an F test of each arm against the first. About 20 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from suffice.core.files import write_json
from suffice.recipes.ladder.plan import Plan
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import LadderRung, Recipe, ladder_shape

HERE = Path("results/ladder/second")
STORE, SUMMARY = HERE / "seed-scatter.jsonl", HERE / "seed-scatter.json"
TOKENS = 500_000
# The ladder's rate after its tuning (runs.jsonl).
PEAK = 0.0016
# Hidden size, MLP width, layers, query heads, KV heads: both of 50K, in the ladder's design.
SHAPES = ((56, 72, 2, 2, 1), (32, 64, 4, 2, 2))


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train."""

    name: str
    recipe: Recipe
    tokens: int
    factor: float

    def rung(self, shape: tuple[int, ...], seed: int) -> LadderRung:
        """The rung of `shape` under this arm."""
        hidden, mlp, layers, heads, kv = shape
        return LadderRung(
            shape=ladder_shape(
                hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv, head_dim=16, vocab_size=257,
            ),
            tokens=self.tokens, seed=seed, learning_rate_factor=self.factor, purpose="seed-scatter",
        )  # fmt: skip


def arms() -> tuple[Arm, ...]:
    """All arms, the ladder's own first."""
    recipe = replace(Plan.load(HERE / "small-plan.json").recipe, peak_learning_rate=PEAK)
    longer = replace(recipe, aimed_steps=4 * recipe.aimed_steps)
    return (
        Arm("ladder", recipe, TOKENS, 1.0),
        Arm("half", recipe, TOKENS, 0.5),
        Arm("longer", longer, 4 * TOKENS, 1.0),
    )


def train(data_folder: Path, seeds: int, only: str | None) -> None:
    """Make the runs that neither store holds."""
    from suffice.training.pretrain.pool import limit_threads  # noqa: PLC0415 - torch
    from suffice.training.pretrain.trainer import (  # noqa: PLC0415 - torch
        Machine,
        load_training_data,
        train_rung,
    )

    limit_threads(1)
    data, store = load_training_data(data_folder, "cpu"), RunStore(STORE)
    done = store.done() | RunStore(HERE / "runs.jsonl").done()
    with store.writing():
        for arm in arms():
            if only not in (None, arm.name):
                continue
            for seed in range(seeds):
                for shape in SHAPES:
                    rung = arm.rung(shape, seed)
                    if rung.run_id(arm.recipe, data.fingerprint) in done:
                        continue
                    record = train_rung(rung, arm.recipe, data, Machine())
                    store.append(record)
                    print(arm.name, shape, seed, record.loss, record.wall_s, flush=True)


def losses(seeds: int) -> dict[str, dict[tuple[int, ...], list[RunRecord]]]:
    """Finished runs by arm and shape."""
    stores = (RunStore(HERE / "runs.jsonl"), RunStore(STORE))
    records = [r for s in stores for r in s.read() if r.loss is not None]
    found: dict[str, dict[tuple[int, ...], list[RunRecord]]] = {}
    for arm in arms():
        groups = defaultdict(list)
        wanted = {
            arm.rung(shape, seed).run_id(arm.recipe, r.data): shape
            for r in records[:1]
            for seed in range(seeds)
            for shape in SHAPES
        }
        for r in records:
            if r.run_id in wanted:
                groups[wanted[r.run_id]].append(r)
        found[arm.name] = dict(groups)
    return found


def pooled(groups: dict[tuple[int, ...], list[float]]) -> tuple[float, int]:
    """Standard deviation of ln loss about the mean of its shape, and degrees of freedom."""
    squares = sum(float(np.var(np.log(v))) * len(v) for v in groups.values())
    freedom = sum(len(v) - 1 for v in groups.values())
    return (squares / freedom) ** 0.5, freedom


def summary(seeds: int) -> list[dict[str, object]]:
    """One row per arm that has runs."""
    rows: list[dict[str, object]] = []
    first: tuple[float, int] | None = None
    for name, groups in losses(seeds).items():
        own = {shape: [float(r.loss or 0) for r in runs] for shape, runs in groups.items()}
        if not own or max(map(len, own.values())) < 2:
            continue
        sd, freedom = pooled(own)
        first = first or (sd, freedom)
        larger = (first[0] / sd) ** 2
        rows.append({
            "arm": name,
            "sd_percent": 100 * sd,
            "low_percent": 100 * sd * (freedom / float(chi2.ppf(0.95, freedom))) ** 0.5,
            "high_percent": 100 * sd * (freedom / float(chi2.ppf(0.05, freedom))) ** 0.5,
            "degrees_of_freedom": freedom,
            "variance_of_first_over_own": larger,
            "p_less_than_first": float(f_distribution.sf(larger, first[1], freedom)),
            "mean_losses": {"/".join(map(str, s)): float(np.mean(v)) for s, v in own.items()},
            "losses": {"/".join(map(str, s)): v for s, v in own.items()},
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", choices=[arm.name for arm in arms()])
    parser.add_argument("--summary", action="store_true", help="train nothing")
    asked = parser.parse_args()
    if not asked.summary:
        if asked.data is None:
            parser.error("--data is needed to train")
        train(asked.data, asked.seeds, asked.only)
    rows = summary(asked.seeds)
    write_json(SUMMARY, {"format": 1, "seeds": asked.seeds, "arms": rows})
    for row in rows:
        print(json.dumps({k: v for k, v in row.items() if k != "losses"}))


if __name__ == "__main__":
    main()
