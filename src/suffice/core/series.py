"""Per-token numbers as one array behind a sequence: recordings of millions of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from suffice.core.arrays import FloatArray
from suffice.core.completions import TokenLogprob


class Floats(Sequence[float]):
    """Numbers behind a read-only float64 array; `np.asarray` of it copies nothing."""

    __slots__ = ("array",)

    def __init__(self, values: ArrayLike) -> None:
        array = np.asarray(values, dtype=np.float64).view()
        array.flags.writeable = False
        self.array: FloatArray = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Floats: ...
    def __getitem__(self, index: int | slice) -> float | Floats:
        if isinstance(index, slice):
            return Floats(self.array[index])
        return float(self.array[index])

    def __iter__(self) -> Iterator[float]:
        return iter(self.array.tolist())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Any:
        if copy or (dtype is not None and np.dtype(dtype) != self.array.dtype):
            return self.array.astype(dtype or self.array.dtype)
        return self.array

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Floats | tuple | list):
            return len(self) == len(other) and bool((self.array == np.asarray(other)).all())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Floats({len(self)} numbers)"


class DrawnLogprobs(Sequence[TokenLogprob]):
    """Log-probabilities of drawn tokens without their alternatives, made into records on demand."""

    __slots__ = ("values",)

    def __init__(self, values: ArrayLike) -> None:
        self.values: FloatArray = Floats(values).array

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> TokenLogprob: ...
    @overload
    def __getitem__(self, index: slice) -> DrawnLogprobs: ...
    def __getitem__(self, index: int | slice) -> TokenLogprob | DrawnLogprobs:
        if isinstance(index, slice):
            return DrawnLogprobs(self.values[index])
        return TokenLogprob(token="", logprob=float(self.values[index]))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DrawnLogprobs):
            return len(self) == len(other) and bool((self.values == other.values).all())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"DrawnLogprobs({len(self)} tokens)"


def window_totals(
    values: FloatArray, before: int, size: int, total: float = 0.0
) -> tuple[FloatArray, int]:
    """Sums of the sliding window after each new value, and the index of the first full window.

    `values` are the last `before` (at most `size`) earlier ones, which sum to `total`, and the new
    ones. The additions are those of a loop over the tokens, in its order: the same to the last bit.
    """
    steps = values[before:].copy()
    full = size - before  # new values that enter without pushing one out
    if len(steps) > full:
        steps[full:] -= values[: len(steps) - full]
    totals: FloatArray = np.cumsum(np.concatenate(([total], steps)))[1:]
    return totals, max(0, full - 1)


def first_below(values: FloatArray, size: int, threshold: float) -> int | None:
    """Index of the value with which a full window's mean first falls below `threshold`."""
    totals, _ = window_totals(values, 0, size)
    below = totals[size - 1 :] / size < threshold
    at = int(np.argmax(below)) if below.size else 0
    return at + size - 1 if below.size and below[at] else None
