"""Numbers that every process of a gateway moves together, such as the price lambda of `auto`.

Changes add up: each process sends what it moved, and hears the sum. A number never falls below 0.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping


class SharedNumbers:
    """Named numbers: the value confirmed last, plus what was moved here since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._confirmed: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._fresh: dict[str, float] = {}

    def value(self, name: str, default: float = 0.0) -> float:
        """The number as it is known here."""
        with self._lock:
            base = self._confirmed.get(name, default)
            moved = self._sent.get(name, 0.0) + self._fresh.get(name, 0.0)
        return max(0.0, base + moved)

    def move(self, name: str, change: float) -> None:
        """Add `change` to the number, here at once and everywhere soon."""
        with self._lock:
            self._fresh[name] = self._fresh.get(name, 0.0) + change

    def take(self) -> dict[str, float]:
        """Changes to be written; `confirm` must follow before the next call."""
        with self._lock:
            self._sent, self._fresh = self._fresh, {}
            return dict(self._sent)

    def confirm(self, values: Mapping[str, float]) -> None:
        """The database holds what was taken, and these are the sums."""
        with self._lock:
            self._sent = {}
            self._confirmed.update(values)
