"""What engines worked under a live certificate, beside what the safe policy alone would have taken.

Shadowed requests were answered both ways, each with a known chance: their mean, weighted by one
over that chance, is what a request takes of the safe policy. Against all requests answered by it,
and nothing shadowed, a certificate saves

    n (mean of the safe policy) - (what the n answers of candidates took) - (what shadow runs took)

which is negative where shadowing costs more than the cheaper answers save.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from suffice.ledger.store import Store

Z = 1.959963984540054  # of 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSaving:
    """Seconds of engines, by `suffice.executors.engine_time`, over one span."""

    compared: int  # shadowed requests whose two ways were timed
    safe_s: float | None  # mean of a request answered by the safe policy; None: not known yet
    cheap_s: float | None  # and by the candidate in turn
    cheap_answers: int  # requests that a candidate answered
    cheap_answers_s: float  # what those took
    shadow_s: float  # what shadow runs took
    error_s: float | None  # standard error of `safe_s`

    @property
    def saved_s(self) -> float | None:
        """Against the safe policy answering everything, nothing shadowed; None: not known yet."""
        if self.safe_s is None:
            return None
        return self.cheap_answers * self.safe_s - self.cheap_answers_s - self.shadow_s

    @property
    def interval_s(self) -> tuple[float, float] | None:
        """95 %, of what the safe policy would have taken; the rest is counted."""
        if self.saved_s is None or self.error_s is None:
            return None
        half = Z * self.cheap_answers * self.error_s
        return self.saved_s - half, self.saved_s + half

    def shown(self) -> dict[str, object]:
        """As a JSON value."""
        return {
            "compared": self.compared, "safe_s": self.safe_s, "cheap_s": self.cheap_s,
            "cheap_answers": self.cheap_answers, "cheap_answers_s": self.cheap_answers_s,
            "shadow_s": self.shadow_s, "saved_s": self.saved_s, "interval_s": self.interval_s,
        }  # fmt: skip


def engine_saving(store: Store, certificate: str, since_s: float = 0.0) -> EngineSaving:
    """What the ledger holds of one certificate since `since_s` (Unix time)."""
    execute = store.database.execute
    ((compared, weights, squares, safe, safe_square, cross, cheap),) = execute(
        "SELECT COUNT(*), COALESCE(SUM(1.0 / share), 0), COALESCE(SUM(1.0 / (share * share)), 0), "
        "COALESCE(SUM(safe_engine_s / share), 0), "
        "COALESCE(SUM(safe_engine_s * safe_engine_s / (share * share)), 0), "
        "COALESCE(SUM(safe_engine_s / (share * share)), 0), "
        "COALESCE(SUM(cheap_engine_s / share), 0) "
        "FROM shadows WHERE certificate = ? AND at_s >= ? AND safe_engine_s IS NOT NULL",
        (certificate, since_s),
    )
    ((answers, answers_s),) = execute(
        "SELECT COUNT(engine_s), COALESCE(SUM(engine_s), 0) FROM requests WHERE certificate = ? "
        "AND certificate_status = 'valid' AND started_s >= ?",
        (certificate, since_s),
    )
    ((shadow_s,),) = execute(
        "SELECT COALESCE(SUM(engine_s), 0) FROM audits WHERE certificate = ? AND at_s >= ?",
        (certificate, since_s),
    )
    mean = safe / weights if compared else None
    error = None
    if mean is not None and compared > 1:  # of a ratio of sums
        spread = safe_square - 2.0 * mean * cross + mean * mean * squares
        error = math.sqrt(max(0.0, spread)) / weights
    return EngineSaving(
        compared=compared, safe_s=mean, cheap_s=cheap / weights if compared else None,
        cheap_answers=answers, cheap_answers_s=answers_s, shadow_s=shadow_s, error_s=error,
    )  # fmt: skip
