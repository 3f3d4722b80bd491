"""A gate on a body that never moves: log odds of thinking from the state at a prompt's end.

    z(x) = w · (h(x) - m) / s + b
    least:  Σ_x |g_x| BCE(σ(z(x)), 1[g_x > 0]) / Σ_x |g_x|  +  λ/2 |w|²

g_x is what thinking earned over answering at once, in reward, tokens paid. h is computed once for
all questions, so that a fit takes seconds; it is the same loss as that of the gate on a small model
(`suffice.training.modes.gate`), of which this one is linear. Fitted by Newton's method in the space
that the questions span, so many features cost no more than as many questions.

N  questions   D  hidden size   R  min(N, D)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError

# Candidates of λ; the largest that earns as much as any other is taken.
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
INNER_FOLDS = 4
_NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenGate:
    """What was fitted; `penalty` is its λ."""

    mean_D: FloatArray
    spread_D: FloatArray
    weight_D: FloatArray
    bias: float
    penalty: float

    def log_odds(self, state_ND: FloatArray) -> FloatArray:
        """Of thinking, in nats, (N,)."""
        found: FloatArray = (state_ND - self.mean_D) / self.spread_D @ self.weight_D + self.bias
        return found


def fit_gate(
    state_ND: FloatArray,
    gain_N: FloatArray,
    *,
    seed: int = 0,
    penalties: Sequence[float] = PENALTIES,
) -> FrozenGate:
    """The gate of the penalty that earns most on questions it was not fitted on.

    Raises InputError unless some question pays for thinking and some other does not.
    """
    if not ((gain_N > 0).any() and (gain_N < 0).any()):
        side = "no" if not (gain_N > 0).any() else "every"
        raise InputError(
            f"{side} question pays for thinking at this price: there is no choice to learn; "
            "change the token price or the questions"
        )
    part_N = np.random.default_rng(seed).permutation(len(gain_N)) % INNER_FOLDS
    earned = dict.fromkeys(penalties, 0.0)
    for part in range(INNER_FOLDS):
        seen, other = part_N != part, part_N == part
        for penalty in penalties:
            chosen = _fit(state_ND[seen], gain_N[seen], penalty).log_odds(state_ND[other]) > 0
            earned[penalty] += float(gain_N[other] @ chosen)
    best = max(earned.values())
    taken = max(penalty for penalty, value in earned.items() if value >= best - 1e-9)
    return _fit(state_ND, gain_N, taken)


def cross_fitted(
    state_ND: FloatArray, gain_N: FloatArray, part_N: FloatArray, *, seed: int = 0
) -> FloatArray:
    """Each question's log odds by the gate of all other parts, (N,)."""
    odds_N = np.zeros(len(gain_N))
    for part in np.unique(part_N):
        rows = part_N == part
        odds_N[rows] = fit_gate(state_ND[~rows], gain_N[~rows], seed=seed).log_odds(state_ND[rows])
    return odds_N


def _fit(state_ND: FloatArray, gain_N: FloatArray, penalty: float) -> FrozenGate:
    mean_D, spread_D = state_ND.mean(axis=0), np.maximum(state_ND.std(axis=0), 1e-6)
    scaled_ND = (state_ND - mean_D) / spread_D
    left_NR, size_R, right_RD = np.linalg.svd(scaled_ND, full_matrices=False)
    x = np.hstack([left_NR * size_R, np.ones((len(gain_N), 1))])
    weight_N = np.abs(gain_N) / max(np.abs(gain_N).sum(), 1e-12)
    wanted_N = (gain_N > 0).astype(float)
    punished = np.append(np.full(len(size_R), penalty), 1e-9)
    solved = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh(0.5 * (x @ solved)))
        gradient = x.T @ (weight_N * (p - wanted_N)) + punished * solved
        curvature = (x * (weight_N * p * (1 - p))[:, None]).T @ x + np.diag(punished)
        step = np.linalg.solve(curvature, gradient)
        solved = _line_search(x, weight_N, wanted_N, punished, solved, step)
        if np.abs(step).max() < 1e-8:
            break
    return FrozenGate(
        mean_D=mean_D, spread_D=spread_D, weight_D=right_RD.T @ solved[:-1],
        bias=float(solved[-1]), penalty=penalty,
    )  # fmt: skip


def loss(
    x: FloatArray, weight_N: FloatArray, wanted_N: FloatArray, punished: FloatArray, at: FloatArray
) -> float:
    """The value that is least at the fit, in nats."""
    z = x @ at
    cross = np.logaddexp(0.0, z) - wanted_N * z
    return float(weight_N @ cross + 0.5 * (punished @ at**2))


def _line_search(  # noqa: PLR0917 - one step of Newton's method, all of it in hand
    x: FloatArray,
    weight_N: FloatArray,
    wanted_N: FloatArray,
    punished: FloatArray,
    solved: FloatArray,
    step: FloatArray,
) -> FloatArray:
    """Halve the step until the loss does not rise."""
    before, share = loss(x, weight_N, wanted_N, punished, solved), 1.0
    while share > 1e-6:
        tried: FloatArray = solved - share * step
        if loss(x, weight_N, wanted_N, punished, tried) <= before:
            return tried
        share /= 2
    return solved
