"""Confidence signals of one trace, from its token confidences C_i in nats (high: peaked).

    window   tokens per group; a trace shorter than one window is a single group

Reference: 2508.15260 (DeepConf) §3.1; the window that scales with the trace is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.core.serial import stored
from suffice.core.series import window_totals

Signal = Literal["mean", "bottom", "tail", "lowest"]

LARGEST_WINDOW = 2048
SMALLEST_WINDOW = 8
# Below this many tokens at once a plain loop is faster than an array; both add in the same order.
ARRAY_FROM = 48


def scaled_window(length: float, largest: int = LARGEST_WINDOW) -> int:
    """Group size in tokens for traces of about `length` tokens: an eighth, within [8, largest].

    Departs from the paper, whose fixed 2,048 never fits a short trace.
    """
    return int(min(largest, max(SMALLEST_WINDOW, length / 8)))


def group_confidences(confidences: Sequence[float], window: int) -> FloatArray:
    """Means over every full sliding window, in order; one overall mean if none is full."""
    values = np.asarray(confidences, dtype=np.float64)
    if values.size == 0:
        raise InputError("a trace without token confidences has no confidence signal")
    if values.size <= window:
        return np.array([values.mean()])
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means: FloatArray = (sums[window:] - sums[:-window]) / window
    return means


def lowest_group(confidences: Sequence[float], window: int) -> float:
    """Least group confidence."""
    return float(group_confidences(confidences, window).min())


def bottom_groups(confidences: Sequence[float], window: int, share: float = 0.1) -> float:
    """Mean of the lowest `share` of group confidences, of one at least."""
    groups = np.sort(group_confidences(confidences, window))
    return float(groups[: max(1, int(share * groups.size))].mean())


def tail(confidences: Sequence[float], window: int) -> float:
    """Mean confidence of the last `window` tokens."""
    return float(np.mean(np.asarray(confidences[-window:], dtype=np.float64)))


def trace_signal(confidences: Sequence[float], signal: Signal, window: int | None = None) -> float:
    """One number for a trace; `window` is scaled to its length by default."""
    size = scaled_window(len(confidences)) if window is None else window
    if not len(confidences):
        raise InputError("a trace without token confidences has no confidence signal")
    match signal:
        case "mean":
            return float(np.mean(np.asarray(confidences, dtype=np.float64)))
        case "bottom":
            return bottom_groups(confidences, size)
        case "tail":
            return tail(confidences, size)
        case "lowest":
            return lowest_group(confidences, size)


def threshold_keeping(signals: Sequence[float], keep: float) -> float:
    """The signal that the top `keep` share of traces reach: their (1 - keep) quantile."""
    return float(np.quantile(np.asarray(signals, dtype=np.float64), 1.0 - keep))


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The sliding mean of a growing trace; the same however its tokens are cut into chunks."""

    size: int
    total: float = 0.0  # sum over the window
    count: int = 0  # tokens seen
    lowest: float | None = None  # least mean of a full window so far
    recent: tuple[float, ...] = ()  # the last `size` values

    def extend(self, confidences: Sequence[float]) -> Window:
        """The window after further tokens."""
        fresh = len(confidences)
        if not fresh:
            return self
        if fresh >= ARRAY_FROM:
            return self._extend_array(np.asarray(confidences, dtype=np.float64))
        values = self.recent + tuple(confidences)
        leaving = max(0, len(self.recent) + fresh - self.size)
        # Token i of the chunk pushes out values[i - fresh + leaving], once the window is full.
        out = (0.0,) * (fresh - leaving) + values[:leaving] if leaving < fresh else values[:fresh]
        total, lowest = self._loop(confidences, out)
        recent = values[-self.size :]
        count = self.count + fresh
        return replace(self, total=total, count=count, lowest=lowest, recent=recent)

    def _extend_array(self, entering: FloatArray) -> Window:
        values = np.concatenate((np.asarray(self.recent, dtype=np.float64), entering))
        totals, first = window_totals(values, len(self.recent), self.size, self.total)
        lowest = self.lowest
        if first < len(totals):
            least = float(totals[first:].min()) / self.size
            lowest = least if lowest is None or least < lowest else lowest
        return replace(
            self,
            total=float(totals[-1]),
            count=self.count + len(entering),
            lowest=lowest,
            recent=tuple(values[-self.size :].tolist()),
        )

    def _loop(
        self, entering: Sequence[float], leaving: Sequence[float]
    ) -> tuple[float, float | None]:
        total, lowest = self.total, self.lowest
        for position, (new, old) in enumerate(zip(entering, leaving, strict=True), self.count + 1):
            total += new - old
            if position >= self.size:
                mean = total / self.size
                lowest = mean if lowest is None or mean < lowest else lowest
        return total, lowest
