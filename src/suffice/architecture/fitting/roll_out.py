"""How a law's error grows with size: each size predicted by a fit to the smaller ones alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from suffice.architecture.fitting.problem import build_problem, gap_groups
from suffice.architecture.fitting.solve import Method, solve
from suffice.architecture.laws import Family, load_family
from suffice.architecture.runs import RunsTable
from suffice.core.errors import InputError, TableError

# An exponent of size takes three sizes and more.
FEWEST_SIZES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledOut:
    """The runs of one size (`N`, their median), predicted from `fitted` runs of smaller sizes.

    Errors are of ln loss: root mean square, and the mean, which is positive where the law promised
    too low a loss.
    """

    N: float
    runs: int
    fitted: int
    reach: float
    log_rmse: float
    bias: float


def roll_out(
    runs: RunsTable, law: str | Family, *, method: Method = "huber", delta: float = 1e-3
) -> tuple[RolledOut, ...]:
    """Every size that enough smaller runs precede, in order; `reach` is N over the largest fitted.

    Raises InputError for a conditional law, whose level at a new size is unknown, and TableError
    where no size has enough runs below it.
    """
    family = load_family(law) if isinstance(law, str) else law
    if family.conditional:
        raise InputError(
            f"{family.name} is relative to the best loss of a size: use --holdout largest"
        )
    problem = build_problem(runs, family)
    sizes = runs.column("N")
    groups = gap_groups(np.log(sizes))
    found = []
    for group in range(1, int(groups.max()) + 1):
        below, here = groups < group, groups == group
        if group < FEWEST_SIZES or below.sum() <= family.num_free:
            continue
        trained = solve(problem.take(below), method, delta=delta)
        held = replace(problem.take(here), free_levels=False)
        error = np.log(held.loss) - np.log(held.predict(trained.theta[None])[0])
        size = float(np.median(sizes[here]))
        found.append(
            RolledOut(
                N=size, runs=int(here.sum()), fitted=int(below.sum()),
                reach=size / float(sizes[below].max()),
                log_rmse=float(np.sqrt((error**2).mean())), bias=float(error.mean()),
            )
        )  # fmt: skip
    if not found:
        raise TableError(
            f"{runs.source}: no size has more than {family.num_free} runs below it in "
            f"{FEWEST_SIZES} sizes and more, which {family.name} needs"
        )
    return tuple(found)
