"""How often a monitor of the net drop raises an alarm within n judged answers, computed exactly.

After n answers the wealth depends on how many were harmed and how many helped alone, so the chance
of an alarm is that of a walk on this lattice, one answer a step, whose paths end where the wealth
reaches 1 / α. Nothing is drawn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from suffice.policies.monitor import BETTORS, DROP_BETS, LOSS_ALPHA, Bets, Wealth

FloatArray = NDArray[np.float64]


def alarm_rate(
    harmed: float, helped: float, n: int, *, limit: float, bets: Bets = DROP_BETS,
    alpha: float = LOSS_ALPHA,
) -> float:  # fmt: skip
    """P(alarm within `n` answers), each harmed or helped with these chances."""
    lost, won, same = (
        np.array(Wealth().after(x, limit, bets, least=-1.0).logs) for x in (1.0, -1.0, 0.0)
    )
    weights, reach = np.log(bets.weights), math.log(1.0 / alpha)
    rows, columns = (math.ceil(n * p + 9 * math.sqrt(n * p) + 10) for p in (helped, harmed))
    count = np.arange(rows)  # of helped answers
    chance = np.zeros((rows, columns))  # still running, by helped and harmed answers so far
    chance[0, 0] = 1.0
    least = np.zeros(rows, dtype=int)  # harmed answers that an alarm takes, by helped ones
    alarms = 0.0
    for seen in range(1, n + 1):
        step = (1.0 - harmed - helped) * chance
        step[:, 1:] += harmed * chance[:, :-1]
        step[1:] += helped * chance[:-1]
        chance = step
        while True:
            logs = (
                weights + seen * same
                + np.outer(least, lost - same) + np.outer(count, won - same)
            )  # fmt: skip
            poor = np.logaddexp.reduce(logs, axis=1) < reach
            if not poor.any():
                break
            least += poor
        there = least < columns
        alarms += float(chance[count[there], least[there]].sum())
        chance[count[there], least[there]] = 0.0
    return alarms


def nearest_allowed(harmed: float, helped: float, limit: float) -> tuple[float, float]:
    """The rates with a drop of `limit` that are hardest to tell from these, which drop by more.

    They minimise the divergence from the given ones: each is its chance over 1 + ν (x - limit) with
    the ν that is best to bet.
    """
    chances = ((1.0, harmed), (-1.0, helped), (0.0, 1.0 - harmed - helped))

    def slope(bet: float) -> float:
        return sum(p * (x - limit) / (1.0 + bet * (x - limit)) for x, p in chances)

    most = 1.0 / (limit + 1.0) if helped > 0.0 else 1.0 / limit
    bet = float(brentq(slope, 1e-9, most * (1.0 - 1e-9)))
    lost, won, _ = (p / (1.0 + bet * (x - limit)) for x, p in chances)
    return lost, won


def best_bet(harmed: float, helped: float, n: int, *, limit: float, alpha: float) -> float:
    """P(alarm within `n` answers) of the one bet that raises it most often at these rates."""

    def alone(fraction: float) -> Bets:
        return Bets(fractions=(fraction,) * BETTORS, weights=DROP_BETS.weights)

    return max(
        alarm_rate(harmed, helped, n, limit=limit, bets=alone(fraction), alpha=alpha)
        for fraction in np.arange(0.05, 1.0, 0.05).tolist()
    )


def one_look(harmed: float, helped: float, n: int, *, limit: float, alpha: float) -> float:
    """An upper bound of the power of any test that is wrong with at most `alpha` at the limit.

    The most powerful test of exactly `n` answers against the nearest allowed rates
    (Neyman-Pearson): no test of at most `n` answers, read however often, does better.
    """
    null = nearest_allowed(harmed, helped, limit)
    top = math.ceil(n * max(harmed, null[0]) + 12 * math.sqrt(n * max(harmed, null[0])) + 20)
    count = np.arange(top)

    def chances(lost: float, won: float) -> FloatArray:
        mine: FloatArray = binom.pmf(count, n, lost)[:, None] * binom.pmf(
            count[None, :], n - count[:, None], won / (1.0 - lost)
        )
        return mine

    allowed, true = chances(*null), chances(harmed, helped)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(allowed > 0.0, true / allowed, np.where(true > 0.0, np.inf, 0.0))
    order = np.argsort(-ratio, axis=None)
    return float(
        np.interp(alpha, np.cumsum(allowed.ravel()[order]), np.cumsum(true.ravel()[order]))
    )
