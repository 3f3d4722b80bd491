"""Trajectories of a test set: what each of them answered after every step.

S  steps   P  puzzles   K  trajectories of each   N  tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.backends.latent.network import LatentNetwork
from suffice.backends.latent.trajectories import (
    Exploration,
    Floats,
    roll_out,
    trajectory_generator,
)
from suffice.tasks.grids.puzzles import Bools, GridTask, Ints, Puzzles

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Explored:
    """Every trajectory's readings after every step.

    answers  (S, P, K, N)     halting, value  (S, P, K)     right  (S, P, K)
    code     (S, P, K): equal answers of all puzzles have equal codes
    """

    puzzles: Puzzles
    answers: Ints
    halting: Floats
    value: Floats
    right: Bools
    code: Ints

    @property
    def steps(self) -> int:
        """Depth that was gone to."""
        return len(self.answers)

    @property
    def width(self) -> int:
        """Trajectories of each puzzle."""
        return int(self.answers.shape[2])


def explore(
    network: LatentNetwork,
    task: GridTask,
    puzzles: Puzzles,
    *,
    width: int,
    steps: int,
    exploration: Exploration,
    seed: int = 0,
) -> Explored:
    """`width` trajectories of `steps` steps on each puzzle, as the backend draws them.

    Trajectory k of a puzzle is what the backend answers with sampling seed `seed` + k.
    """
    prompts = [task.prompt(given) for given in puzzles.inputs]
    generators = [
        trajectory_generator(prompt, seed + k) for prompt in prompts for k in range(width)
    ]
    found = roll_out(
        network, np.repeat(puzzles.inputs, width, axis=0), generators,
        steps=steps, exploration=exploration,
    )  # fmt: skip
    shape = steps, len(puzzles), width
    answers = found.answers.reshape(*shape, -1)
    _, code = np.unique(answers.reshape(-1, answers.shape[-1]), axis=0, return_inverse=True)
    return Explored(
        puzzles,
        answers,
        found.halting.reshape(shape),
        found.value.reshape(shape),
        task.right(puzzles.inputs[None, :, None], answers),
        code.reshape(shape).astype(np.int64),
    )


def voted(code: Ints) -> Ints:
    """Which of the trajectories (…, w) holds the majority's answer, its first among equals, (…,).

    Ties go to the answer that came first, as the policies' majority does.
    """
    equal = code[..., :, None] == code[..., None, :]
    votes = equal.sum(axis=-1)
    winner: Ints = votes.argmax(axis=-1)
    return winner


def covered(explored: Explored, step: int, columns: Sequence[int]) -> Values:
    """Share of each puzzle's solutions that are among the answers of `columns`, (P,)."""
    right = explored.right[step][:, columns]
    code = explored.code[step][:, columns]
    found = [len(set(row[ok].tolist())) for row, ok in zip(code, right, strict=True)]
    share: Values = np.array(found) / explored.puzzles.counts
    return share
