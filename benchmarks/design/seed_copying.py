"""Where seeds of one shape differ: on bytes that repeat what stood before, or on all alike.

    python benchmarks/design/seed_copying.py --data DATA --models FOLDER [--seeds 6]

One shape of results/ladder/second (32 / 64 / 4 layers / 2 : 2 heads, as the ladder trains it) with
several seeds; each model is kept in FOLDER. The held-out bytes of the ladder's evaluation are split:
a byte *repeats* if the four bytes before it stood earlier in its window and, the last time they did,
this byte followed; a model that copies from its context gets these right, whatever it knows. Given
are the loss of each seed on both kinds, its spread over seeds, and the share of the variance of the
whole loss that comes from bytes that repeat. Shares sum to one: Cov(p L_kind, L) / Var(L).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from suffice.core.files import write_json
from suffice.recipes.ladder.plan import Plan
from suffice.training.model import evaluation_windows
from suffice.training.pretrain.pool import limit_threads
from suffice.training.pretrain.trainer import Machine, load_training_data, train_rung
from suffice.training.rung import LadderRung, Recipe, ladder_shape

HERE = Path("results/ladder/second")
PEAK = 0.0016  # the ladder's rate after its tuning
CONTEXT = 4


def repeats(windows: np.ndarray) -> np.ndarray:
    """Whether each predicted id of `windows` (rows of T + 1 ids) follows its context again."""
    found = np.zeros(windows[:, 1:].shape, dtype=bool)
    for row, ids in enumerate(windows.tolist()):
        last: dict[tuple[int, ...], int] = {}
        for at in range(CONTEXT - 1, len(ids) - 1):
            context = tuple(ids[at - CONTEXT + 1 : at + 1])
            found[row, at] = last.get(context) == ids[at + 1]
            last[context] = ids[at + 1]
    return found


def token_losses(folder: Path, windows: torch.Tensor) -> np.ndarray:
    """Loss of each predicted id, nats."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = []
    with torch.no_grad():
        for batch in windows.split(32):
            logits = model(batch[:, :-1]).logits
            rows.append(
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none"
                ).view(len(batch), -1)
            )
    return torch.cat(rows).double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=6)
    asked = parser.parse_args()
    limit_threads(1)
    recipe: Recipe = replace(Plan.load(HERE / "small-plan.json").recipe, peak_learning_rate=PEAK)
    shape = ladder_shape(
        hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, vocab_size=257,
    )  # fmt: skip
    data = load_training_data(asked.data, "cpu")
    windows = evaluation_windows(data.validation, recipe).to(torch.int64)
    again = repeats(windows.numpy())
    seeds = []
    for seed in range(asked.seeds):
        rung = LadderRung(shape=shape, tokens=500_000, seed=seed)
        folder = asked.models / rung.run_id(recipe, data.fingerprint)
        if not (folder / "config.json").exists():
            train_rung(rung, recipe, data, Machine(export=asked.models))
        losses = token_losses(folder, windows)
        seeds.append((losses.mean(), losses[again].mean(), losses[~again].mean()))
        print(seed, *(f"{v:.4f}" for v in seeds[-1]), flush=True)
    whole, copied, new = np.array(seeds).T
    share = float(again.mean())
    parts = {"repeats": share * copied, "new": (1 - share) * new}
    result = {
        "format": 1,
        "share_of_bytes_that_repeat": share,
        "losses": [{"whole": w, "repeats": c, "new": n} for w, c, n in seeds],
        "sd_nats": {"whole": whole.std(ddof=1), "repeats": copied.std(ddof=1),
                    "new": new.std(ddof=1)},
        "share_of_variance": {
            kind: float(np.cov(part, whole)[0, 1] / np.var(whole, ddof=1))
            for kind, part in parts.items()
        },
    }  # fmt: skip
    write_json(HERE / "seed-copying.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
