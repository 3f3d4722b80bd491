"""Watches of certificates in service, moved by every process on a ledger.

A watch's wealth is a product over answers, so the logs of what several processes saw add up to the
wealth of one that had seen everything, in any order: the false-alarm rate holds for all of them
together, and drift is found after as many answers of all as one process would need. The verdict is
shared by itself: whoever finds a certificate void tells the others, for good, also after a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping

import numpy as np

from suffice.core.series import FloatArray
from suffice.ledger.rows import Told
from suffice.policies.certified import Certified
from suffice.policies.drift import FRACTIONS, Observation, Watch, Wealth

logger = logging.getLogger("suffice.gateway")

# A wealth's numbers: the bettors' logs, then how many values were seen and their sum.
_SIZE = len(FRACTIONS) + 2


class SharedWatch:
    """One certificate's watch: what the ledger held last, and what was seen here since."""

    def __init__(self, policy: Certified) -> None:
        self.certificate = policy.guarantee.id
        self.promise = policy.promise  # what it says will be saved
        self._lock = threading.Lock()
        self._fresh_watch = Watch(monitors=policy.monitors)
        self._watch = self._fresh_watch
        self._sent = self._fresh = np.zeros_like(_cells(self._watch))
        self._known = False  # whether the ledger has the verdict

    @property
    def void(self) -> str | None:
        """Why the certificate no longer holds, None while it does."""
        return self._watch.void

    def observe(self, observation: Observation) -> None:
        """Take one more answer in."""
        with self._lock:
            before, self._watch = self._watch, self._watch.after(observation)
            self._fresh = self._fresh + _cells(self._watch) - _cells(before)
        self._say_if_new(before)

    def take(self) -> tuple[dict[int, float], str | None]:
        """What moved since, by cell, and a verdict that is not written yet.

        `told` must follow before the next call.
        """
        with self._lock:
            self._sent, self._fresh = self._fresh, np.zeros_like(self._fresh)
            moved = {int(cell): float(self._sent[cell]) for cell in np.flatnonzero(self._sent)}
            return moved, None if self._known else self._watch.void

    def told(self, sums: Mapping[int, float], void: str | None) -> None:
        """The database holds what was taken; these are the sums and the verdict of all."""
        with self._lock:
            before, self._sent = self._watch, np.zeros_like(self._sent)
            held = self._fresh.copy()
            for cell, value in sums.items():
                held[cell] += value
            self._known = void is not None
            self._watch = _watch_of(self._fresh_watch, held, void or before.void)
        self._say_if_new(before)

    def _say_if_new(self, before: Watch) -> None:
        if before.void is None and self._watch.void is not None:
            logger.warning(
                "certificate %s is void: %s; the safe arm answers from now on",
                self.certificate, self._watch.void,
            )  # fmt: skip


class Watches:
    """The watches of one gateway, by certificate; a reload finds them as they were."""

    def __init__(self) -> None:
        self._by_id: dict[str, SharedWatch] = {}

    def __iter__(self) -> Iterator[SharedWatch]:
        return iter(list(self._by_id.values()))  # the ledger's thread reads it too

    def of(self, policy: Certified) -> SharedWatch:
        """The watch over a certified policy."""
        return self._by_id.setdefault(policy.guarantee.id, SharedWatch(policy))

    def told(self, told: Told) -> None:
        """What the database holds of every watch that was asked for."""
        for watch in self:
            if watch.certificate in told.watches:
                watch.told(told.watches[watch.certificate], told.voided.get(watch.certificate))


def _cells(watch: Watch) -> FloatArray:
    """A watch's sums in one row: monitor by monitor, above its range and below."""
    pairs = zip(watch.above, watch.below, strict=True)
    return np.array([
        value
        for pair in pairs
        for wealth in pair
        for value in (*wealth.logs, wealth.n, wealth.total)
    ])  # fmt: skip


def _watch_of(fresh: Watch, cells: FloatArray, void: str | None) -> Watch:
    """The watch with these sums; void too if they say so together."""
    wealths = [
        Wealth(logs=tuple(part[:-2].tolist()), n=round(part[-2]), total=float(part[-1]))
        for part in cells.reshape(-1, _SIZE)
    ]
    found = Watch(
        monitors=fresh.monitors, alpha=fresh.alpha,
        above=tuple(wealths[::2]), below=tuple(wealths[1::2]), void=void,
    )  # fmt: skip
    return found.after(Observation())  # nothing seen, but looked at
