"""Times counted in bins: six bounds to a decade, from 0.1 ms to 700 s."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

# Upper bounds (seconds); the last bin has none.
BOUNDS_S: tuple[float, ...] = tuple(
    round(m * 10.0**decade, 10) for decade in range(-4, 3) for m in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
)


def bin_of(elapsed_s: float) -> int:
    """Number of the bin that holds `elapsed_s`; a bound belongs to the bin below it."""
    return bisect_left(BOUNDS_S, elapsed_s)


def quantile_s(counts: Mapping[int, int], q: float) -> float | None:
    """Time (seconds) below which the share `q` lies, interpolated inside its bin; None if empty."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, below = q * total, 0
    for number in sorted(counts):
        inside = counts[number]
        if below + inside >= wanted:
            if number >= len(BOUNDS_S):
                return BOUNDS_S[-1]
            low = BOUNDS_S[number - 1] if number else 0.0
            return low + (BOUNDS_S[number] - low) * max(0.0, wanted - below) / inside
        below += inside
    return BOUNDS_S[-1]
