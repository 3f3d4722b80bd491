"""All trained networks of docs/latent.md, one after another; an interrupted queue goes on.

    python benchmarks/latent/train_all.py runs/latent
    python benchmarks/latent/train_all.py runs/latent --only queens-7 --threads 1

Several of these may run at once on one folder: a network that another one trains is left alone.
Prints CPU minutes; 7 x 7 takes 2 to 5 a network, 8 x 8 and colouring at most 7.
"""

from __future__ import annotations

import argparse
import fcntl
from pathlib import Path

import torch

from suffice.backends.latent.shape import LatentShape
from suffice.recipes.latent.train import train_latent
from suffice.training.latent.settings import LatentTraining


def networks() -> dict[str, LatentTraining]:
    """Every network by its name."""
    trm, gram = LatentShape(), LatentShape(noise="learned")
    found = {}
    for seed in (0, 1, 2):
        found[f"queens-7-det-{seed}"] = LatentTraining(shape=trm, steps=1200, seed=seed)
        found[f"queens-7-gram-{seed}"] = LatentTraining(shape=gram, steps=3000, seed=seed)
    found |= {
        "queens-7-mean-kl-0": LatentTraining(shape=gram, steps=600, kl_reduction="mean"),
        "queens-7-no-guidance-0": LatentTraining(shape=gram, steps=1200, guidance=False),
        "queens-7-fixed-0": LatentTraining(shape=LatentShape(noise="fixed"), steps=1200),
        "queens-7-deep-0": LatentTraining(shape=trm, steps=1200, supervision_steps=16),
        "queens-8-det-0": LatentTraining(task="queens-8", shape=trm, steps=1200),
        "queens-8-gram-0": LatentTraining(task="queens-8", shape=gram, steps=3600),
        "colouring-8-det-0": LatentTraining(task="colouring-8", shape=trm, steps=800),
        "colouring-8-gram-0": LatentTraining(task="colouring-8", shape=gram, steps=1200),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names that begin so")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name, config in networks().items():
        if not name.startswith(asked.only):
            continue
        with (asked.folder / f".{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            trained = train_latent(config, asked.folder / name)
        print(f"{name}: {trained.steps} steps, {trained.cpu_s / 60:.1f} CPU min", flush=True)


if __name__ == "__main__":
    main()
