"""Sums that every process of a gateway adds to, by key: known here at once, everywhere soon.

What was added goes through three states: new here, taken for the database, confirmed by it. A sum
is what the database confirmed last plus what it has not confirmed yet, so nothing counts twice and
nothing is missed while a batch is on its way, or waits for a database that is away.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Replicated(Generic[K, V]):
    """The sums of one process. Not locked: its owner is."""

    __slots__ = ("_fresh", "_plus", "_sent", "confirmed")

    def __init__(self, plus: Callable[[V, V], V], confirmed: dict[K, V] | None = None) -> None:
        """`plus` adds two values, and changes neither."""
        self._plus = plus
        self.confirmed: dict[K, V] = {} if confirmed is None else confirmed
        self._sent: dict[K, V] = {}
        self._fresh: dict[K, V] = {}

    def add(self, key: K, change: V) -> None:
        """Add `change` to the sum of `key`."""
        self._fresh[key] = self._sum(self._fresh.get(key), change)

    def value(self, key: K, default: V) -> V:
        """The sum as it is known here; `default` is in place of what nobody has confirmed."""
        found = self.confirmed.get(key, default)
        for counts in (self._sent, self._fresh):
            if key in counts:
                found = self._plus(found, counts[key])
        return found

    def parts(self) -> Iterator[tuple[K, V]]:
        """Every part of every sum; a key may come up to three times."""
        for counts in (self.confirmed, self._sent, self._fresh):
            yield from counts.items()

    def take(self) -> dict[K, V]:
        """What is to be written; `confirm` must follow before the next call."""
        self._sent, self._fresh = self._fresh, {}
        return dict(self._sent)

    def confirm(self, totals: Mapping[K, V]) -> None:
        """The database holds what was taken, and these are its sums over all processes.

        A sum that is not among them keeps what was sent.
        """
        for key, sent in self._sent.items():
            if key not in totals:
                self.confirmed[key] = self._sum(self.confirmed.get(key), sent)
        self._sent = {}
        self.confirmed.update(totals)

    def _sum(self, before: V | None, change: V) -> V:
        return change if before is None else self._plus(before, change)
