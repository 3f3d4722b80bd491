"""How well a score separates right from wrong, and how many of k samples solve a question."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import rankdata

from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import Interval, check_confidence


def auc(scores: ArrayLike, positive: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Area under the ROC curve with DeLong's interval; ties count one half.

    Rows must be independent: for several samples of a question, resample questions instead.
    Reference: DeLong, DeLong and Clarke-Pearson 1988, in the rank form of Sun and Xu 2014.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    m, n = int(y.sum()), int((~y).sum())
    if m == 0 or n == 0:
        raise InputError(
            f"an AUC needs both outcomes, but all {m + n} rows are {'right' if m else 'wrong'}"
        )
    ranks = rankdata(s)
    above = (ranks[y] - rankdata(s[y])) / n  # share of negatives below each positive
    below = 1.0 - (ranks[~y] - rankdata(s[~y])) / m  # share of positives above each negative
    area = float(above.mean())
    variance = (above.var(ddof=1) / m if m > 1 else 0.0) + (below.var(ddof=1) / n if n > 1 else 0.0)
    reach = float(ndtri((1.0 + check_confidence(confidence)) / 2.0)) * sqrt(variance)
    return Interval(
        estimate=area,
        low=max(0.0, area - reach),
        high=min(1.0, area + reach),
        confidence=confidence,
    )


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Unbiased chance that at least one of k samples is right: 1 - C(n - c, k) / C(n, k).

    Reference: 2107.03374, equation 1.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise InputError(f"pass@{k} cannot be told from {right} right of {samples} samples")
    missed = np.arange(samples - right + 1, samples + 1)
    return 1.0 if samples - right < k else float(1.0 - np.prod(1.0 - k / missed))


def mean_pass_at_k(right: ArrayLike, samples: ArrayLike, k: int) -> float:
    """Mean of the questions' `pass_at_k`."""
    pairs = zip(np.asarray(right).tolist(), np.asarray(samples).tolist(), strict=True)
    return float(np.mean([pass_at_k(int(c), int(n), k) for c, n in pairs]))
