"""Where a law holds: intervals with their basis, and what is said outside of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray
from suffice.core.errors import OutsideValidity

LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "x": "x = hidden size / sqrt(N)",
    "r": "r = MLP / attention parameters",
    "width_per_layer": "hidden size / layers",
    "tokens_per_parameter": "training tokens per parameter",
    "gqa": "query heads per KV head",
    "kv_share": "KV heads / query heads",
    "layers": "number of layers",
    "hidden_size": "hidden size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Evidence for one variable of a law, [low, high], and where that is known from.

    An `enforced` interval makes a law refuse outside of it; any other is only said aloud.
    """

    variable: str
    low: float
    high: float
    basis: str
    enforced: bool = True

    def contains(self, value: float | FloatArray) -> NDArray[np.bool_]:
        """Whether each value lies inside, with room for rounding."""
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        value = np.asarray(value, dtype=np.float64)
        return (value >= self.low - slack) & (value <= self.high + slack)

    def note(self, value: float | FloatArray) -> str | None:
        """A sentence about the values outside, or None."""
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
        outside = values[~self.contains(values)]
        if not outside.size:
            return None
        given = _number(float(outside[0]))
        if outside.size > 1:
            given = f"{_number(float(outside.min()))} to {_number(float(outside.max()))}"
        return (
            f"{LABELS.get(self.variable, self.variable)} of {given} is outside "
            f"[{_number(self.low)}, {_number(self.high)}], {self.basis}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The intervals of a law; a variable without one is not checked."""

    intervals: tuple[Interval, ...] = ()

    def interval(self, variable: str) -> Interval | None:
        """The interval of `variable`, if the law has one."""
        return next((i for i in self.intervals if i.variable == variable), None)

    def contains(self, **values: float | FloatArray) -> NDArray[np.bool_]:
        """Whether each point lies inside all enforced intervals."""
        inside: NDArray[np.bool_] = np.array(True)
        for interval in self.intervals:
            if interval.enforced and interval.variable in values:
                inside = inside & interval.contains(values[interval.variable])
        return inside

    def notes(self, **values: float | FloatArray) -> tuple[str, ...]:
        """What every output must say about these values, one sentence per interval left."""
        notes = (i.note(values[i.variable]) for i in self.intervals if i.variable in values)
        return tuple(note for note in notes if note is not None)

    def check(
        self,
        law: str,
        *,
        extrapolate: bool = False,
        others: Callable[[], Sequence[str]] = tuple,
        **values: float | FloatArray,
    ) -> tuple[str, ...]:
        """Notes on `values`; raises OutsideValidity unless `extrapolate` accepts what they say.

        The refusal names the laws that `others` gives, whose evidence holds these values.
        """
        if not extrapolate:
            for interval in self.intervals:
                if not interval.enforced or interval.variable not in values:
                    continue
                note = interval.note(values[interval.variable])
                if note is not None:
                    named = " or ".join(others())
                    take = f", take --law {named}, which holds it," if named else ""
                    raise OutsideValidity(
                        f"law {law!r}: {note}; stay inside{take} or allow "
                        "extrapolation (--extrapolate) and treat the result as a guess"
                    )
        return self.notes(**values)


def _number(value: float) -> str:
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.2e}"
