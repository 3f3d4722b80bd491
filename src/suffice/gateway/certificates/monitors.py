"""Monitors of certificates in service, moved by every process on a ledger.

A monitor's wealth is a product over answers, so the logs of what several processes saw add up to
the wealth of one that had seen everything, in any order: the false-alarm rate holds for all of them
together, and a change is found after as many answers of all as one process would need. The alarm is
shared by itself: whoever raises it tells the others, for good, also after a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.completions import Outcome
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.certificates.live_ways import Ways
from suffice.gateway.config import GatewayConfig
from suffice.ledger.records import Totals
from suffice.policies.certified import Certified
from suffice.policies.monitor import BETTORS, Answered, Monitoring, Observation, Wealth

logger = logging.getLogger("suffice.gateway")

# A wealth's numbers: the bettors' logs, then how many values were seen and their sum.
_SIZE = BETTORS + 2


class SharedMonitor:
    """One certificate's monitors: what the ledger held last, and what was seen here since."""

    def __init__(self, policy: Certified) -> None:
        self.certificate = policy.guarantee.id
        self.guarantee = policy.guarantee
        self.promise = policy.promise  # what it says will be saved
        self._lock = threading.Lock()
        self._empty = self._state = Monitoring(monitors=policy.monitors)
        self._held = self._sent = np.zeros_like(sums_of(self._state))  # by the ledger; on its way
        self._zeros = 0  # answers of the baseline since the last that was not its
        self._known = False  # whether the ledger has the alarm
        self.alarm: str | None = None  # for people; None: the certificate holds

    @property
    def state(self) -> Monitoring:
        """What all processes saw, as far as it is known here."""
        with self._lock:
            return self._state

    @property
    def counts_helped(self) -> bool:
        """Whether what is certified is net: harmed minus helped."""
        return any(monitor.quantity == "drop" for monitor in self._empty.monitors)

    def answered(self, outcome: Outcome) -> int | None:
        """Take a covered answer in.

        For one that the baseline did not give: how many of the baseline's were right before it.
        """
        early = outcome.exit != "safe"  # the answer is not the baseline's own, as calibrate counts
        self.observe(Answered(early=early, confidence=outcome.confidence if early else None))
        with self._lock:
            if outcome.exit == "safe":
                self._zeros += 1
                return None
            zeros, self._zeros = self._zeros, 0
            return zeros

    def shown(self) -> dict[str, Any]:
        """How the certificate stands, as a JSON value."""
        state = self.state
        pairs = zip(state.monitors, state.above, strict=True)
        return {
            "id": self.certificate,
            "alarm": self.alarm,
            "limit": self.guarantee.max_drop,
            "confidence": self.guarantee.confidence,
            "statement": self.guarantee.statement,
            "monitors": [
                {
                    "quantity": monitor.quantity, "low": monitor.low, "high": monitor.high,
                    "n": wealth.n, "mean": wealth.total / wealth.n if wealth.n else None,
                }
                for monitor, wealth in pairs
            ],
        }  # fmt: skip

    def observe(self, seen: Observation) -> None:
        """Take one more observation in."""
        with self._lock:
            self._state = self._state.after(seen)
        self._look()

    def take(self) -> tuple[dict[int, float], str | None]:
        """What moved since, by cell, and an alarm that is not written yet.

        `confirm` must follow before the next call.
        """
        with self._lock:
            self._sent = sums_of(self._state) - self._held
            moved = {int(cell): float(self._sent[cell]) for cell in np.flatnonzero(self._sent)}
            return moved, None if self._known else self.alarm

    def confirm(self, sums: Mapping[int, float], alarm: str | None) -> None:
        """The database holds what was taken; these are the sums and the alarm of all."""
        with self._lock:
            fresh = sums_of(self._state) - self._held - self._sent
            self._held, self._sent = np.zeros_like(fresh), np.zeros_like(fresh)
            for cell, value in sums.items():
                self._held[cell] = value
            self._known = alarm is not None
            self._state = _state_of(self._empty, self._held + fresh)
        self._look(alarm)

    def _look(self, shared: str | None = None) -> None:
        """Switch the certificate off if what was seen, here or elsewhere, says so."""
        if self.alarm is not None:
            return
        alarm = self._state.alarm
        if shared is None and alarm is None:
            return
        self.alarm = shared or str(alarm)
        logger.warning(
            "certificate %s is switched off: %s; the baseline answers from now on",
            self.certificate, self.alarm,
        )  # fmt: skip


class Monitors:
    """The monitors of one gateway, by certificate; a reload finds them as they were."""

    def __init__(self) -> None:
        self._by_id: dict[str, SharedMonitor] = {}
        self.live: dict[str, LiveControl] = {}  # live certificates

    def __iter__(self) -> Iterator[SharedMonitor]:
        return iter(list(self._by_id.values()))  # the ledger's thread reads it too

    def of(self, policy: Certified) -> SharedMonitor:
        """The monitor of a certified policy."""
        return self._by_id.setdefault(policy.guarantee.id, SharedMonitor(policy))

    def live_of(self, config: GatewayConfig, ways: Ways) -> tuple[LiveControl, ...]:
        """The live certificate of these settings, or one for each kind of prompts.

        One that is known goes on as it was.
        """
        live = config.live
        kinds = (None,) if live.cluster_by is None else tuple(range(live.clusters))
        fresh = [LiveControl(config, ways, kind) for kind in kinds]
        found = tuple(self.live.setdefault(each.certificate, each) for each in fresh)
        for each in found:
            each.apply(config)
        return found

    def named(self, certificate: str) -> SharedMonitor | None:
        """The monitor of the certificate with this id, if it is in service."""
        return self._by_id.get(certificate)

    def confirm(self, totals: Totals) -> None:
        """What the database holds of every monitor that was asked for."""
        for monitor in self:
            if monitor.certificate in totals.monitors:
                alarm = totals.alarms.get(monitor.certificate)
                monitor.confirm(totals.monitors[monitor.certificate], alarm)


def sums_of(state: Monitoring) -> FloatArray:
    """A state's sums in one row: monitor by monitor, above its range and below."""
    pairs = zip(state.above, state.below, strict=True)
    return np.array([
        value
        for pair in pairs
        for wealth in pair
        for value in (*wealth.logs, wealth.n, wealth.total)
    ])  # fmt: skip


def _state_of(empty: Monitoring, cells: FloatArray) -> Monitoring:
    """The state with these sums."""
    wealths = [
        Wealth(logs=tuple(part[:-2].tolist()), n=round(part[-2]), total=float(part[-1]))
        for part in cells.reshape(-1, _SIZE)
    ]
    return Monitoring(
        monitors=empty.monitors, above=tuple(wealths[::2]), below=tuple(wealths[1::2])
    )
