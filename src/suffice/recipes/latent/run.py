"""`suffice eval latent`: width, depth and what decides between them, for one trained network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suffice.backends.latent.flops import step_flops
from suffice.backends.latent.folder import load_latent, read_record
from suffice.backends.latent.trajectories import Exploration
from suffice.core.errors import InputError
from suffice.recipes.latent.adaptive import MAX_DROP, PlayedPolicy, adaptive_results
from suffice.recipes.latent.diagnose import Diagnosis, diagnose
from suffice.recipes.latent.evaluate import Contest, WidthDepthPoint, contest, point
from suffice.recipes.latent.explore import Explored, explore
from suffice.tasks.grids.puzzles import GridTask, Puzzles

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentEvaluation:
    """What to draw. `exploration` None: the learned prior if there is one, else σ = .3.

    `extra` trajectories are drawn beyond the largest width, for the policies' shuffles.
    """

    widths: tuple[int, ...] = (1, 2, 5, 10, 20)
    depths: tuple[int, ...] = (1, 2, 4, 8)
    depth: int = 4  # at which policies and diagnoses are taken
    exploration: Exploration | None = None
    puzzles: int | None = None  # the first so many of the test split; None: all
    extra: int = 0
    policies: bool = True
    max_drop: float = MAX_DROP
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or not self.depths or min(self.depths) < 1:
            raise InputError("widths and depths must be whole numbers from 1")
        if self.depth not in self.depths:
            raise InputError(f"depth {self.depth} must be one of the depths {self.depths}")

    @property
    def longest(self) -> int:
        """Steps that one trajectory can take for the cost of the widest."""
        return max(self.depth * max(self.widths), *self.depths)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentResult:
    """Everything that `suffice eval latent` prints and writes."""

    task: str
    parameters: int
    steps_trained: int
    cpu_s_trained: float
    puzzles: int
    many_solutions: int  # puzzles with three or more
    exploration: str
    flops_per_step: float
    points: tuple[WidthDepthPoint, ...]
    deep: tuple[
        WidthDepthPoint, ...
    ]  # one deterministic trajectory, at every depth that a width costs
    contests: tuple[Contest, ...]
    diagnosis: Diagnosis
    policies: tuple[PlayedPolicy, ...]


def evaluate_latent(
    folder: Path, config: LatentEvaluation, *, device: str = "cpu", deep: Explored | None = None,
    tell: Tell = lambda _: None,
) -> LatentResult:  # fmt: skip
    """Everything about one folder of `suffice train latent`, on its held-out puzzles.

    `deep` is what `deterministic` gave for the same folder and config, where it is known already:
    it depends on no noise.
    """
    network, task = load_latent(folder, device=device)
    record = read_record(folder)
    test = _held_out(task, record, config)
    learned = network.shape.noise != "none"
    exploration = config.exploration or Exploration(source="prior" if learned else "gaussian")
    width, depth = max(config.widths), max(config.depths)
    flops = step_flops(network.shape, task.shape)
    tell(f"{width + config.extra} trajectories of {depth} steps on {len(test)} puzzles")
    wide = explore(
        network, task, test, width=width + config.extra, steps=depth, exploration=exploration,
        seed=config.seed,
    )  # fmt: skip
    longest = config.longest
    if deep is None:
        tell(f"one deterministic trajectory of {longest} steps")
        deep = explore(network, task, test, width=1, steps=longest, exploration=Exploration())
    shown = narrowed(wide, width)
    points = tuple(
        point(shown, width=w, depth=d, flops_of_step=flops)
        for d in config.depths
        for w in config.widths
    )
    depths = sorted({*config.depths, *(config.depth * w for w in config.widths)})
    ladder = tuple(
        point(deep, width=1, depth=d, flops_of_step=flops) for d in depths if d <= longest
    )
    right = deep.right[:, :, 0].mean(axis=1)
    contests = tuple(
        contest(shown, deep, width=w, depth=config.depth, against=against, selection=selection,
                budget=budget)
        for w in config.widths if w > 1
        for budget, against in (
            ("equal FLOPs", config.depth * w),
            ("at most the FLOPs", 1 + int(right[: config.depth * w].argmax())),
            ("equal serial steps", config.depth),
        )
        for selection in ("vote", "halting", "verifier")
    )  # fmt: skip
    diagnosis = diagnose(network, task, shown, depth=config.depth, seed=config.seed)
    policies: tuple[PlayedPolicy, ...] = ()
    if config.policies:
        tell("policies on recorded trajectories")
        policies = adaptive_results(
            wide, task, width=width, depth=config.depth, max_drop=config.max_drop,
            seed=config.seed,
        )  # fmt: skip
    return LatentResult(
        task=task.name,
        parameters=record["parameters"],
        steps_trained=record["steps"],
        cpu_s_trained=record["cpu_s"],
        puzzles=len(test),
        many_solutions=int((test.counts >= 3).sum()),
        exploration=_said(exploration),
        flops_per_step=flops,
        points=points,
        deep=ladder,
        contests=contests,
        diagnosis=diagnosis,
        policies=policies,
    )


def deterministic(folder: Path, config: LatentEvaluation, *, device: str = "cpu") -> Explored:
    """One trajectory without noise, as deep as the widest costs."""
    network, task = load_latent(folder, device=device)
    test = _held_out(task, read_record(folder), config)
    return explore(network, task, test, width=1, steps=config.longest, exploration=Exploration())


def _held_out(task: GridTask, record: dict[str, Any], config: LatentEvaluation) -> Puzzles:
    test = task.splits(record["config"]["split_seed"]).test
    if config.puzzles is None:
        return test
    return test.take(np.arange(min(config.puzzles, len(test))))


def narrowed(explored: Explored, width: int) -> Explored:
    """The first `width` trajectories of each puzzle."""
    return replace(
        explored,
        answers=explored.answers[:, :, :width],
        halting=explored.halting[:, :, :width],
        value=explored.value[:, :, :width],
        right=explored.right[:, :, :width],
        code=explored.code[:, :, :width],
    )


def _said(exploration: Exploration) -> str:
    if exploration.source == "gaussian":
        return f"gaussian, sigma {exploration.sigma:g}"
    return exploration.source
