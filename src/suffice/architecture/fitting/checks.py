"""What a fit refuses before it begins."""

from __future__ import annotations

import numpy as np

from suffice.architecture.fitting.problem import (
    Problem,
)
from suffice.architecture.fitting.solve import METHODS
from suffice.architecture.runs import RunsTable
from suffice.core.errors import InputError, TableError


def check_choices(method: str, cluster: str, holdout: str | None, optimal_loss: str) -> None:
    """Raise InputError for a word that a fit does not know."""
    if method not in METHODS:
        raise InputError(f"method {method!r} must be one of {', '.join(METHODS)}")
    if cluster not in ("run", "shape"):
        raise InputError(f"cluster {cluster!r} must be run or shape")
    if holdout not in (None, "largest"):
        raise InputError(f"holdout {holdout!r} must be largest or nothing")
    if optimal_loss not in ("best", "free"):
        raise InputError(f"optimal loss {optimal_loss!r} must be best or free")


def check_numbers(delta: float, draws: int, confidence: float) -> None:
    """Raise InputError for a number out of its range."""
    if not 0 < delta < 1:
        raise InputError(f"delta must lie in (0, 1), got {delta}: it is in units of ln loss")
    if not 0 <= draws <= 100_000:
        raise InputError(f"bootstrap draws must lie in [0, 100000], got {draws}")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence must lie in [0.5, 1), got {confidence}")


def check_size(problem: Problem, runs: RunsTable) -> None:
    """Raise InputError unless the runs can tell all free coefficients."""
    free = problem.family.num_free
    if problem.free_levels:
        free += problem.num_scales - 1
    if len(problem.loss) <= free:
        raise TableError(
            f"{runs.source}: {len(problem.loss)} runs are too few for the {free} free coefficients"
            f" of {problem.family.name}; at least {free + 1} are needed"
        )
    if np.ptp(problem.loss) == 0:
        raise TableError(
            f"{runs.source}: every run has a loss of {problem.loss[0]:g}: there is nothing to fit"
        )


def check_leaning(above: float, method: str) -> None:
    """Raise InputError for a weight of runs predicted too high that no method takes."""
    if not 0 < above <= 1e6:
        raise InputError(f"above must lie in (0, 1e6], got {above:g}: 1 leans to neither side")
    if above != 1.0 and method not in ("huber", "likelihood"):
        raise InputError(f"method {method!r} leans to neither side: choose huber or likelihood")
