"""Routers that a learned choice has to beat: rules that read the prompt's text and nothing else.

Each is fitted on one half of the problems and used on the other. The gain of a problem is what its
thought answer earns over its short one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray

RIDGE = 1.0


def halves(cell: NDArray[np.intp]) -> FloatArray:
    """0 or 1 for every problem, in turn within each cell."""
    half = np.zeros(len(cell))
    for index in np.unique(cell):
        rows = np.flatnonzero(cell == index)
        half[rows] = np.arange(len(rows)) % 2
    return half


def length_rule(
    prompts: Sequence[str], gain: FloatArray, weight: FloatArray, half: FloatArray
) -> FloatArray:
    """Think iff the prompt has more characters than the best threshold of the other half.

    `half` may number more parts than two: each part's rule is then found on all the others.
    """
    length = np.array([len(prompt) for prompt in prompts], dtype=float)
    return threshold_rule(length, gain, weight, half)


def threshold_rule(
    value: FloatArray, gain: FloatArray, weight: FloatArray, half: FloatArray
) -> FloatArray:
    """Think iff `value` is above the threshold that earns most on the other parts of `half`.

    Thresholds lie halfway between the values that were seen there.
    """
    chosen = np.zeros(len(value))
    for mine in np.unique(half):
        seen = half != mine if (half != mine).any() else half == mine
        # From the largest down: of thresholds that earn the same, the one that thinks least.
        known = np.unique(value[seen])
        thresholds = [np.inf, *((known[:-1] + known[1:]) / 2)[::-1], -np.inf]
        earned = [float((weight * gain)[seen & (value > t)].sum()) for t in thresholds]
        best = thresholds[int(np.argmax(earned))]
        rows = half == mine
        chosen[rows] = value[rows] > best
    return chosen


def regression(
    prompts: Sequence[str], gain: FloatArray, weight: FloatArray, half: FloatArray
) -> FloatArray:
    """Think iff a ridge regression of the gain on the prompt's characters says it pays.

    Features: how often each character occurs, which one stands at each place, and the length.
    """
    features = _features(prompts)
    chosen = np.zeros(len(prompts))
    for mine in np.unique(half):
        seen = half != mine if (half != mine).any() else half == mine
        rows = half == mine
        chosen[rows] = ridge(features[seen], gain[seen], weight[seen], features[rows]) > 0
    return chosen


def ridge(
    seen: FloatArray, wanted: FloatArray, weight: FloatArray, asked: FloatArray
) -> FloatArray:
    """What ridge regression on `seen` expects of `asked`; the constant is not punished.

    Centred by the weighted means, which is what an unpunished constant does, and solved over rows
    where there are more features than those.
    """
    share = weight / weight.sum()
    centre, mean = share @ seen, float(share @ wanted)
    scale = np.sqrt(share * len(share))[:, None]
    x, y = (seen - centre) * scale, (wanted - mean) * scale[:, 0]
    rows, columns = x.shape
    if columns > rows:
        coefficients = x.T @ np.linalg.solve(x @ x.T + RIDGE * np.eye(rows), y)
    else:
        coefficients = np.linalg.solve(x.T @ x + RIDGE * np.eye(columns), x.T @ y)
    expected: FloatArray = (asked - centre) @ coefficients + mean
    return expected


def auroc_at_equal_length(
    prompts: Sequence[str],
    tasks: Sequence[str],
    logit: FloatArray,
    wrong: FloatArray,
    weights: FloatArray,
) -> FloatArray | None:
    """P(log odds of thinking are larger where short is wrong than where it is right).

    Over pairs of problems of one task and equally long prompts, ties count half; one value for each
    row of `weights` (resamples, problems). None if there is no such pair.
    """
    strata: dict[tuple[str, int], list[int]] = {}
    for row, (task, prompt) in enumerate(zip(tasks, prompts, strict=True)):
        strata.setdefault((task, len(prompt)), []).append(row)
    won, total = np.zeros(len(weights)), np.zeros(len(weights))
    for rows in strata.values():
        places = np.array(rows)
        bad, good = places[wrong[places] > 0.5], places[wrong[places] <= 0.5]
        if not (len(bad) and len(good)):
            continue
        above = (logit[bad][:, None] > logit[good]) + 0.5 * (logit[bad][:, None] == logit[good])
        won += np.einsum("ri,ij,rj->r", weights[:, bad], above, weights[:, good], optimize=True)
        total += weights[:, bad].sum(axis=1) * weights[:, good].sum(axis=1)
    known = total > 0
    return won[known] / total[known] if known.any() else None


def _features(prompts: Sequence[str]) -> FloatArray:
    characters = sorted({c for prompt in prompts for c in prompt})
    longest = max(len(prompt) for prompt in prompts)
    place = {c: n for n, c in enumerate(characters)}
    counts = np.zeros((len(prompts), len(characters)))
    at = np.zeros((len(prompts), longest, len(characters)))
    for row, prompt in enumerate(prompts):
        for n, character in enumerate(prompt):
            counts[row, place[character]] += 1
            at[row, n, place[character]] = 1
    length = np.array([[float(len(prompt))] for prompt in prompts])
    return np.hstack([length, counts, at.reshape(len(prompts), -1)])
