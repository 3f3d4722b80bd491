"""Numbers that every process of a gateway moves together, such as the price lambda of `auto`.

Changes add up: each process sends what it moved, and hears the sum. A number never falls below 0.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from operator import add

from suffice.ledger.replicated import Replicated


class SharedNumbers:
    """Named numbers, for the event loop and the ledger's thread alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: Replicated[str, float] = Replicated(add)

    def value(self, name: str, default: float = 0.0) -> float:
        """The number as it is known here."""
        with self._lock:
            return max(0.0, self._sums.value(name, default))

    def move(self, name: str, change: float) -> None:
        """Add `change` to the number, here at once and everywhere soon."""
        with self._lock:
            self._sums.add(name, change)

    def take(self) -> dict[str, float]:
        """Changes to be written; `confirm` must follow before the next call."""
        with self._lock:
            return self._sums.take()

    def confirm(self, values: Mapping[str, float]) -> None:
        """The database holds what was taken, and these are the sums."""
        with self._lock:
            self._sums.confirm(values)
