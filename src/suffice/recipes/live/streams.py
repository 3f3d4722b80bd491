"""Many live certificates at once: policies.live as NumPy arrays over independent streams.

The same state machine, so that thousands of streams can be simulated; tests hold the two against
each other. Arrays are (candidates, streams) unless said otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray
from suffice.policies.live.detector import level_factors, net_factors, rise_bets
from suffice.policies.live.evidence import BETS, FRESH
from suffice.policies.live.state import SUSPICION, LiveRule

Bools = NDArray[np.bool_]


class Streams:
    """The states of `streams` gateways under one rule."""

    def __init__(self, rule: LiveRule, streams: int) -> None:
        self.rule, self.streams = rule, streams
        shape = (rule.candidates, streams)
        self._bets = np.array(BETS) / (1.0 - rule.target)
        self._rise = np.array(rise_bets(rule.target))
        # Slopes of L over what a loss lies above the target.
        factors = net_factors if rule.loss == "net" else level_factors
        self._level = (np.array(factors(1.0, rule.target)) - 1.0) / (1.0 - rule.target)
        self.logs = np.tile(np.array(FRESH)[:, None, None], (1, *shape))
        self.rise = np.zeros((len(self._rise), *shape))
        self.level = np.zeros((len(self._level), *shape))
        self.seen = np.zeros(shape, dtype=np.int64)  # requests in the evidence
        self.detected = np.zeros(shape, dtype=np.int64)  # requests in the detector
        self.differing = np.zeros(shape, dtype=np.int64)  # of those
        self.tried = np.zeros(shape, dtype=bool)
        self.on = np.zeros(streams, dtype=np.int64)
        self._order = np.arange(rule.candidates)[:, None]

    @property
    def log(self) -> FloatArray:
        """Log of W."""
        most = self.logs.max(axis=0)
        found: FloatArray = most + np.log(np.exp(self.logs - most).sum(axis=0))
        return found

    @property
    def value(self) -> FloatArray:
        """The larger detector."""
        found: FloatArray = np.maximum(self.rise.mean(axis=0), self.level.mean(axis=0))
        return found

    @property
    def floor(self) -> FloatArray:
        """Least share at which a request enters the evidence."""
        return np.where(self.tried, self.rule.share_after, self.rule.share)

    @property
    def share(self) -> FloatArray:
        """(streams,): the share of requests to shadow now."""
        rule, on = self.rule, self.on
        is_on = self._order < on
        doubted = ((self.value >= SUSPICION * rule.alarm) & is_on).any(axis=0)
        every = np.arange(self.streams)
        next_floor = self.floor[np.minimum(on, rule.candidates - 1), every]
        usual = np.where(on < rule.candidates, next_floor, rule.share_after)
        return np.where(doubted, rule.share, usual)

    def see(
        self, differs: NDArray[Any], u: FloatArray, *, losses: FloatArray | None = None,
        share: FloatArray | None = None, shadowed: Bools | None = None,
        labelled: Bools | None = None,
    ) -> tuple[Bools, Bools]:  # fmt: skip
        """One request of every stream; `shadowed` (streams,) False: it was not shadowed.

        `u`, `share`, `labelled`: (streams,). Where the rule counts what labels say, `losses` are
        the true ones, known at once where `labelled` (everywhere by default). Returns two
        (candidates, streams) arrays: promoted, demoted.
        """
        rule = self.rule
        x = differs.astype(np.float64) if losses is None else losses
        active = np.ones(self.streams, dtype=bool) if shadowed is None else shadowed.astype(bool)
        floor = self.floor
        share = floor if share is None else np.broadcast_to(share, floor.shape)
        inside = active & (share >= floor)
        known = np.ones_like(inside)
        if rule.loss != "differ":
            told = active if labelled is None else active & labelled
            if rule.unlabelled == "left_out":
                known = np.broadcast_to(told, inside.shape)
                inside &= known
            else:
                known = told | ~differs.astype(bool)
                x = np.where(known, x, 1.0)
        weight = np.where(inside, floor / np.maximum(share, floor), 0.0)
        self.logs += np.log1p(self._bets[:, None, None] * (weight * (rule.target - x)))
        self.seen += inside
        level = differs.astype(np.float64) if rule.loss == "differ" else x
        self._detect(differs.astype(bool), u, active, level, known & active)
        return self._settle()

    def _detect(
        self, differs: Bools, u: FloatArray, active: Bools, x: FloatArray, known: Bools
    ) -> None:
        k, n = self.differing, self.detected
        p = np.where(differs, u * (k + 1) / (n + 1), (k + u * (n + 1 - k)) / (n + 1))
        edge, below, above = (self._rise[:, i, None, None] for i in range(3))
        rise = (self.rise + 1.0) * np.where(p < edge, below, above)
        level = (self.level + 1.0) * (1.0 + self._level[:, None, None] * (x - self.rule.target))
        self.rise = np.where(active, rise, self.rise)
        self.level = np.where(known, level, self.level)
        self.detected = n + active
        self.differing = k + (differs & active)

    def _settle(self) -> tuple[Bools, Bools]:
        rule, order, before = self.rule, self._order, self.on
        alarm = self.value >= rule.alarm
        hit = alarm & (order < before)
        first = np.where(hit.any(axis=0), hit.argmax(axis=0), before)
        demoted = (order >= first) & (order < before)
        self._begin(demoted, tried=False)
        self._forget(alarm & ~demoted & (order >= first))
        self.on = first.copy()
        promoted = np.zeros_like(demoted)
        reached = self.log >= rule.reach
        for i in range(rule.candidates):
            now = (self.on == i) & reached[i]
            promoted[i] = now
            self.on += now
        old = (self.seen >= rule.window) & (order >= self.on)
        self._begin(old, tried=True)
        return promoted, demoted

    def _begin(self, which: Bools, *, tried: bool) -> None:
        if which.any():
            self.logs[:, which] = np.array(FRESH)[:, None]
            self.seen[which] = 0
            self.tried[which] = tried
            self._forget(which)

    def _forget(self, which: Bools) -> None:
        if which.any():
            self.rise[:, which] = 0.0
            self.level[:, which] = 0.0
            self.detected[which] = 0
            self.differing[which] = 0
