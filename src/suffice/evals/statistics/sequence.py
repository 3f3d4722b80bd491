"""Which of many thresholds may be used: fixed-sequence testing, Bonferroni, conformal risk control.

A path lists settings from the safest to the cheapest. Its order may come from other data, never
from the rows that test it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suffice.core.errors import InputError


def fixed_sequence(p_values: Iterable[float], alpha: float) -> int:
    """How many settings, from the start of the path, are shown: up to the first p-value > alpha.

    All of them hold together with probability 1 - alpha, however long the path: an error needs the
    first false null to be rejected, and that one was tested once. Takes p-values lazily.
    Reference: 2110.01052 (learn then test), section 2.3.
    """
    shown = 0
    for p_value in p_values:
        if not p_value <= alpha:
            break
        shown += 1
    return shown


def chains_shown(
    chains: Sequence[Callable[[int], float]], lengths: Sequence[int], shares: Sequence[float],
    alpha: float,
) -> tuple[tuple[int, ...], tuple[float, ...]]:  # fmt: skip
    """(How many settings of each of several paths are shown, at which level each was tested).

    All of them hold together at `alpha`.

    `chains[c](i)` is the p-value of setting i of path c. Every path is a fixed sequence, tested at
    its share of alpha; a path that is shown to its end leaves its level to the others, in
    proportion to their shares. Smaller p-values never show less.
    Reference: Bretz, Maurer, Brannath and Posch 2009 (graphical procedures), the graph in which
    each setting hands its level to the next and the last to the heads of the other paths.
    """
    shown = [0] * len(chains)
    levels = [alpha * share / sum(shares) for share in shares]
    open_chains = set(range(len(chains)))
    moved = True
    while moved and open_chains:
        moved = False
        whole = sum(shares[c] for c in open_chains)
        for c in sorted(open_chains):
            levels[c] = alpha * shares[c] / whole
            while shown[c] < lengths[c] and chains[c](shown[c]) <= levels[c]:
                shown[c] += 1
        ended = {c for c in open_chains if shown[c] == lengths[c]}
        if ended:
            open_chains -= ended
            moved = True
    return tuple(shown), tuple(levels)


def conformal_risk(losses: ArrayLike, limit: float, most: float = 1.0) -> int:
    """How many settings, from the start, keep the *expected* loss of a new question <= limit.

    `losses[i, j]` of question i at setting j, at most `most`. A setting's risk is
    (n r + most) / (n + 1). Losses must not fall along the path: each question's running maximum
    stands in for its loss, which makes them so and can only raise the risk.
    Convention: this bounds the mean over calibration sets too; it is no bound at a confidence.
    Reference: 2208.02814, theorem 1.
    """
    table: NDArray[np.float64] = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] == 0:
        raise InputError("conformal risk control needs a table of losses: questions by settings")
    rising = np.maximum.accumulate(table, axis=1)
    n = table.shape[0]
    risk = (rising.sum(axis=0) + most) / (n + 1)
    above = np.nonzero(risk > limit)[0]
    return int(above[0]) if above.size else table.shape[1]
