"""Will width help? Three measures that need no right answers, and one trajectory cloud.

They are named by arXiv:2605.25230 (local stability, guide alignment, cloud-token entropy), whose
definitions we have not seen in full; ours are below, and are meant to be computed before a budget
is spent on width.

    local stability     how much of a small difference is left after one step, as a ratio of
                        distances: below 1 the recursion forgets noise, above 1 it amplifies it
    guide alignment     Spearman correlation, within a puzzle, of the halting logit and the number
                        of trajectories that agree; the mean over puzzles where both vary. A guide
                        that points away from the crowd cannot be trusted to choose
    cloud entropy       entropy in nats of a token's answers among the trajectories, the mean over
                        tokens and puzzles: 0 where all agree, and width then buys nothing
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from suffice.backends.latent.network import LatentNetwork
from suffice.backends.latent.trajectories import Exploration, start, step, trajectory_generator
from suffice.recipes.latent.explore import Explored, Values
from suffice.tasks.grids.puzzles import GridTask, Ints, Puzzles

PERTURBATION = 1e-3
PERTURBED = 64  # puzzles


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """See the module. `guide_alignment` is None where no puzzle's trajectories differ."""

    local_stability: float
    guide_alignment: float | None
    cloud_entropy: float


def diagnose(
    network: LatentNetwork, task: GridTask, explored: Explored, *, depth: int, seed: int = 0
) -> Diagnosis:
    """The three measures after `depth` steps."""
    return Diagnosis(
        local_stability=local_stability(network, task, explored.puzzles, depth=depth, seed=seed),
        guide_alignment=guide_alignment(explored.halting[depth - 1], explored.code[depth - 1]),
        cloud_entropy=float(token_entropy(explored.answers[depth - 1]).mean()),
    )


def local_stability(
    network: LatentNetwork, task: GridTask, puzzles: Puzzles, *, depth: int, seed: int = 0
) -> float:
    """Median over puzzles of ‖δ after a step‖ / ‖δ before it‖, at depth `depth`, without noise.

    δ is a random difference of h of length PERTURBATION times that of h.
    """
    inputs = puzzles.inputs[:PERTURBED]
    quiet = Exploration()
    idle = [torch.Generator() for _ in inputs]
    cloud = start(network, inputs, idle)
    for _ in range(depth - 1):
        step(network, cloud, quiet)
    moved = start(network, inputs, idle)
    generator = trajectory_generator("stability", task.name, seed)
    noise = torch.randn(cloud.h.shape, generator=generator).to(cloud.h.device)
    scale = PERTURBATION * _length(cloud.h) / _length(noise)
    moved.h, moved.l = cloud.h + scale[:, None, None] * noise, cloud.l
    before = _length(moved.h - cloud.h)
    step(network, cloud, quiet)
    step(network, moved, quiet)
    return float((_length(moved.h - cloud.h) / before).median())


def guide_alignment(halting: Values, code: Ints) -> float | None:
    """Mean within-puzzle Spearman correlation of halting (P, K) and agreement of code (P, K)."""
    votes = (code[:, :, None] == code[:, None, :]).sum(axis=-1)
    found = [
        float(stats.spearmanr(logits, agreeing).statistic)
        for logits, agreeing in zip(halting, votes, strict=True)
        if np.ptp(agreeing) > 0 and np.ptp(logits) > 0
    ]
    return float(np.mean(found)) if found else None


def token_entropy(answers: Ints) -> Values:
    """Entropy of each token's answers over K trajectories, (P, K, N) to (P, N), nats."""
    classes = int(answers.max()) + 1
    shares = np.stack([(answers == value).mean(axis=1) for value in range(classes)])
    logs = np.log(np.where(shares > 0, shares, 1.0))
    entropy: Values = -(shares * logs).sum(axis=0)
    return entropy


def _length(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).norm(dim=1)
