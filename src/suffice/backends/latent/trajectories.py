"""Trajectories of a latent network: many at once, each with noise of its own.

S  steps   B  trajectories   N  tokens   D  width

The noise of a trajectory depends on its own seed alone, so that what it does does not depend on
which others are iterated beside it (up to the rounding of matrix products of another size).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from suffice.backends.latent.network import LatentNetwork
from suffice.core.errors import ConfigError
from suffice.tasks.grids.puzzles import Ints

Floats = NDArray[np.float32]
Source = Literal["none", "prior", "gaussian"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """Where the randomness of trajectories comes from.

    "none": deterministic; of a network with a learned prior, its mean. "prior": ε ~ p(ε | u), GRAM.
    "gaussian": ε = `sigma` N(0, I) at every transition, PTRM.
    """

    source: Source = "none"
    sigma: float = 0.3

    def __post_init__(self) -> None:
        if self.source not in ("none", "prior", "gaussian"):
            raise ConfigError(f"source {self.source!r} must be none, prior or gaussian")
        if self.sigma < 0:
            raise ConfigError(f"sigma must be 0 or more, got {self.sigma}")


@dataclass(slots=True)
class Reading:
    """What can be read after a step: answers (B, N), halting logits and values (B,)."""

    answers: Ints
    halting: Floats
    value: Floats


@dataclass(slots=True)
class Cloud:
    """State of B trajectories: h, l and the inputs' embeddings (B, N, D), and their noise."""

    h: torch.Tensor
    l: torch.Tensor
    e: torch.Tensor
    generators: list[torch.Generator]


def trajectory_generator(*parts: int | str) -> torch.Generator:
    """A generator on the CPU that depends on `parts` alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def start(network: LatentNetwork, inputs: Ints, generators: Sequence[torch.Generator]) -> Cloud:
    """Trajectories of inputs (B, N, F), one generator each."""
    device = network.start_h.device
    with torch.no_grad():
        e = network.embed(torch.from_numpy(inputs).to(device))
        h, l = network.start(len(inputs))
    return Cloud(h.contiguous(), l.contiguous(), e, list(generators))


def step(network: LatentNetwork, cloud: Cloud, exploration: Exploration) -> None:
    """One step of T transitions, in place."""
    transitions = network.shape.transitions
    random = exploration.source != "none"
    noise = _noise(network, cloud, transitions) if random else None
    learned = network.shape.noise != "none"
    with torch.no_grad():
        h, l = cloud.h, cloud.l
        for t in range(transitions):
            h, l = network.proposal(h, l, cloud.e)
            if noise is not None and exploration.source == "gaussian":
                h = h + exploration.sigma * noise[t]
            elif learned:
                prior = network.prior(h)
                h = h + (prior.mean if noise is None else prior.sample(noise[t]))
        cloud.h, cloud.l = h, l


def read(network: LatentNetwork, cloud: Cloud) -> Reading:
    """Answers and both heads, as they stand."""
    with torch.no_grad():
        pooled = cloud.h.mean(dim=1)
        answers = network.decode(cloud.h).argmax(dim=-1)
        return Reading(
            answers.cpu().numpy(),
            network.halting(pooled).float().cpu().numpy(),
            network.value(pooled).float().cpu().numpy(),
        )


def roll_out(
    network: LatentNetwork,
    inputs: Ints,
    generators: Sequence[torch.Generator],
    *,
    steps: int,
    exploration: Exploration,
    batch: int = 2048,
) -> Reading:
    """Readings after every step: answers (S, B, N), halting and value (S, B)."""
    if exploration.source == "prior" and network.shape.noise == "none":
        raise ConfigError("this network has no prior: explore with gaussian noise, or train GRAM")
    parts = []
    for first in range(0, len(inputs), batch):
        rows = slice(first, first + batch)
        cloud = start(network, inputs[rows], generators[rows])
        seen = []
        for _ in range(steps):
            step(network, cloud, exploration)
            seen.append(read(network, cloud))
        parts.append(seen)
    return Reading(
        np.stack([np.concatenate([p[s].answers for p in parts]) for s in range(steps)]),
        np.stack([np.concatenate([p[s].halting for p in parts]) for s in range(steps)]),
        np.stack([np.concatenate([p[s].value for p in parts]) for s in range(steps)]),
    )


def _noise(network: LatentNetwork, cloud: Cloud, transitions: int) -> torch.Tensor:
    size = transitions, network.grid.tokens, network.shape.width
    drawn = [torch.randn(size, generator=generator) for generator in cloud.generators]
    return torch.stack(drawn, dim=1).to(cloud.h.device)
