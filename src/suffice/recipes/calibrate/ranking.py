"""Which rules the test shows, at every limit of the table, and which of them saves most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from suffice.evals.statistics.sequence import chains_shown
from suffice.recipes.calibrate.certify import RuleEffect, Test
from suffice.recipes.calibrate.chains import RuleChain
from suffice.recipes.calibrate.config import CalibrateConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRule:
    """A rule that is shown at a limit."""

    chain: int
    rule: int
    shown: tuple[int, ...]  # by chain
    level: float  # at which its chain was tested


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Chains with their test; p-values are worked out once."""

    chains: tuple[RuleChain, ...]
    test: Test
    config: CalibrateConfig
    _known: dict[tuple[int, int, float], float] = field(default_factory=dict)

    def share(self, chain: int) -> float:
        """A chain's part of the error probability, before others leave theirs to it."""
        return self.chains[chain].share / sum(each.share for each in self.chains)

    def level(self, chain: int) -> float:
        """The level at which its first rule is tested."""
        return self.config.alpha * self.share(chain)

    def test_of(self, chain: int) -> Test:
        """The test of a chain's rules."""
        return self.chains[chain].tested_by(self.test)

    def p_value(self, chain: int, rule: int, limit: float) -> float:
        """P-value of "the loss of this rule is `limit` or more"."""
        key = chain, rule, limit
        found = self._known.get(key)
        if found is None:
            step = self.chains[chain].step(rule)
            found = self._known[key] = self.test_of(chain).p_value(step, limit, self.level(chain))
        return found

    def _at(self, limit: float, chain: int, rule: int) -> float:
        return self.p_value(chain, rule, limit)

    def shown(self, limit: float) -> tuple[int, ...]:
        """How many rules of each chain are shown at a limit."""
        return self._walked(limit)[0]

    def _walked(self, limit: float) -> tuple[tuple[int, ...], tuple[float, ...]]:
        if self.test.kind == "crc":
            steps = [self.chains[0].step(rule) for rule in range(len(self.chains[0]))]
            return (self.test.shown_by_crc(steps, limit),), (self.config.alpha,)
        return chains_shown(
            [partial(self._at, limit, chain) for chain in range(len(self.chains))],
            [len(chain) for chain in self.chains],
            [chain.share for chain in self.chains],
            self.config.alpha,
        )

    def best(self, limit: float) -> ShownRule | None:
        """The shown rule that saves most; None where none is shown, or none saves anything."""
        shown, levels = self._walked(limit)
        saved = [
            (chain.step(rule).saving, number, rule)
            for number, chain in enumerate(self.chains)
            for rule in range(shown[number])
        ]
        most = max(saved, key=lambda each: each[0], default=None)
        if most is None or not most[0] > 0.0:
            return None
        return ShownRule(chain=most[1], rule=most[2], shown=shown, level=levels[most[1]])

    def step(self, choice: ShownRule) -> RuleEffect:
        """What the chosen rule does."""
        return self.chains[choice.chain].step(choice.rule)

    @property
    def rules(self) -> int:
        """Rules of all chains: one of them is chosen."""
        return sum(map(len, self.chains))


def ranked(chains: Sequence[RuleChain], limits: Sequence[float], *, net: bool) -> list[RuleChain]:
    """Chains by what they save at half of each limit where they were observed, in the mean."""

    def promise(chain: RuleChain) -> float:
        best = np.zeros(len(limits))
        for rule in range(len(chain)):
            step = chain.step(rule)
            lost = float(step.losses("drop" if net else "harm").mean())
            best = np.where(lost <= np.array(limits) / 2, np.maximum(best, step.saving), best)
        return float(best.mean())

    return sorted(chains, key=lambda chain: -promise(chain))
