"""CandidateEvidence that a candidate loses less than the target, readable after every request.

The loss of a request lies in [-1, 1]: 1 where the candidate's answer differs from the safe one (or
is known to be worse), 0 where it does not, -1 where it is known to be better. A bettor who bets
that the mean loss lies below the target has, after the shadowed requests i,

    W = Σ part Π (1 + ν w_i (target - x_i)) over bets ν,      0 < ν < 1 / (1 - target)

with w_i = floor / share_i, `share_i` the chance with which request i was shadowed and `floor` the
least such chance. It is chosen before the answer is known and asks nothing of the request, so that
over all requests, shadowed or not, E[factor] = 1 + ν floor (target - mean loss): every request
weighs the same, however the share moved. A weight is at most 1, so no bet can be ruined.

What W >= 1/δ says (Ville's inequality). Let m_i be the chance of a loss of request i, given all
before it; it may move in any way. Divide W's factors by their means: what is left reaches 1/δ with
probability at most δ. While the mean of m_1 .. m_t is the target or more, the product of the means
is at most 1 (the geometric mean is at most the arithmetic). So with probability 1 - δ there is no
moment, however often one looks, at which W >= 1/δ and the mean chance of a loss, over the requests
of the evidence, is the target or more.

References: 2010.09686 (betting), 2601.22446 (weights by the chance of being seen; there the
weights grow to 1 / share and the bets shrink with them, here they shrink from 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from suffice.core.serial import stored

# Bets as fractions of the largest, and their parts of the mixture. A loss of s times the target is
# told fastest by a bet of about 1 - s: these serve s from .1 to .9. The promise holds for any.
BETS = (0.12, 0.3, 0.5, 0.7, 0.9)
PARTS = (0.1, 0.25, 0.25, 0.2, 0.2)
FRESH = tuple(math.log(part) for part in PARTS)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEvidence:
    """Log of every bet's part of W; the other fields, and what the logs have moved by, are sums."""

    logs: tuple[float, ...] = FRESH
    n: int = 0
    total: float = 0.0  # sum of losses
    weight: float = 0.0  # sum of weights
    weighted: float = 0.0  # sum of weights times losses

    @property
    def log(self) -> float:
        """Log of W."""
        most = max(self.logs)
        return most + math.log(sum(math.exp(each - most) for each in self.logs))

    @property
    def mean(self) -> float | None:
        """Mean loss over all requests, weighted; None while there is none."""
        return self.weighted / self.weight if self.weight else None

    def after(self, x: float, target: float, weight: float = 1.0) -> CandidateEvidence:
        """After one more loss."""
        return self._moved(gains(x, target, weight), 1, x, weight)

    def corrected(
        self, old: float, new: float, target: float, weight: float = 1.0
    ) -> CandidateEvidence:
        """With a loss that entered as `old` counted as `new`."""
        pairs = zip(gains(new, target, weight), gains(old, target, weight), strict=True)
        moved = self._moved(tuple(a - b for a, b in pairs), 0, new - old, weight)
        return CandidateEvidence(
            logs=moved.logs, n=self.n, total=moved.total, weight=self.weight,
            weighted=moved.weighted,
        )  # fmt: skip

    def _moved(self, by: tuple[float, ...], n: int, x: float, weight: float) -> CandidateEvidence:
        return CandidateEvidence(
            logs=tuple([log + gain for log, gain in zip(self.logs, by, strict=True)]),
            n=self.n + n,
            total=self.total + x,
            weight=self.weight + weight,
            weighted=self.weighted + weight * x,
        )


@lru_cache(maxsize=4096)
def gains(x: float, target: float, weight: float) -> tuple[float, ...]:
    """What a loss of `x` adds to the log wealth of every bet."""
    return tuple(math.log1p(bet / (1.0 - target) * weight * (target - x)) for bet in BETS)
