"""The test: how far along its path a policy may go, on questions that had no part in laying it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.evals.statistics.binomial import (
    at_most_p_value,
    clopper_pearson,
    rows_needed,
    upper_bound,
)
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.statistics.bounded import BOLDEST, mean_p_value, mean_upper_bound
from suffice.evals.statistics.paired import Pairs, drop_p_value, drop_upper_bound
from suffice.evals.statistics.sequence import conformal_risk
from suffice.policies.policy_file import MonitorTable, Range, Tested
from suffice.recipes.calibrate.config import Loss
from suffice.recipes.calibrate.options import PlayedOption

# paired    exact unconditional test of the difference, one play of each question
# binomial  exact test of the harmed questions (Clopper-Pearson), one play of each
# means     betting on each question's mean loss over its plays
# crc       conformal risk control: a bound in expectation
TestKind = Literal["paired", "binomial", "means", "crc"]

# Chance that a monitor's range misses the truth, all monitors and path steps together. With what
# the bets against these ranges may spend (suffice.policies.monitor), an alarm of theirs without a
# reason stays below 0.5 %; `drop` and `harm` are held against the limit and have no range to miss.
MONITOR_ALPHA = 0.0025
# Questions beyond which nobody is told to record more.
MOST_QUESTIONS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RuleEffect:
    """What one rule does to each question: arrays of questions by plays."""

    harmed: BoolArray  # the baseline is right and the rule is not
    helped: BoolArray
    differs: BoolArray  # the answer is not the baseline's
    stopped: BoolArray  # answered without the baseline: the answer is not its own
    baseline_right: BoolArray
    cost: FloatArray
    baseline_cost: FloatArray

    @classmethod
    def of(
        cls, option: PlayedOption, baseline: PlayedOption, costs: tuple[FloatArray, FloatArray], *,
        reverts: bool,
    ) -> RuleEffect:  # fmt: skip
        """The step of an option against the baseline, on the plays that both have.

        `reverts`: an option that does not end early gives the baseline's answer.
        """
        cost, baseline_cost = costs
        plays = min(option.correct.shape[1], baseline.correct.shape[1])
        right, standard = option.correct[:, :plays], baseline.correct[:, :plays]
        stopped = option.early[:, :plays] | (not reverts)
        return cls(
            harmed=standard & ~right,
            helped=~standard & right,
            differs=stopped & (option.answer[:, :plays] != baseline.answer[:, :plays]),
            stopped=stopped,
            baseline_right=standard,
            cost=cost[:, :plays],
            baseline_cost=baseline_cost[:, :plays],
        )

    @property
    def pairs(self) -> Pairs:
        """Counts against the baseline, one play of each question."""
        harmed, helped = self.harmed[:, 0], self.helped[:, 0]
        return Pairs(n=len(harmed), harmed=int(harmed.sum()), helped=int(helped.sum()))

    def losses(self, loss: Loss) -> FloatArray:
        """Each question's mean loss over its plays."""
        lost: FloatArray = self.harmed.mean(axis=1)
        if loss == "drop":
            lost = lost - self.helped.mean(axis=1)
        return lost

    @property
    def saving(self) -> float:
        """One minus the cost over the baseline's."""
        return 1.0 - float(self.cost.sum() / self.baseline_cost.sum())

    def within(self, index: IntArray | BoolArray) -> RuleEffect:
        """The same on some of the questions."""
        return RuleEffect(**{name: getattr(self, name)[index] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """Which test, of which loss; chosen before the certifying questions are looked at."""

    kind: TestKind
    loss: Loss
    boldest: float = BOLDEST  # of the bets on means

    @classmethod
    def of(cls, loss: Loss, *, means: bool, crc: bool = False) -> Test:
        """The test of a loss."""
        if crc:
            return cls(kind="crc", loss=loss)
        if means:
            return cls(kind="means", loss=loss)
        return cls(kind="binomial" if loss == "harm" else "paired", loss=loss)

    def p_value(self, step: RuleEffect, limit: float, alpha: float) -> float:
        """P-value of the null "the loss is `limit` or more"; tuned to be tested at `alpha`."""
        if self.kind == "means":
            return mean_p_value(step.losses(self.loss), limit, alpha, boldest=self.boldest)
        pairs = step.pairs
        if self.kind == "binomial":
            return at_most_p_value(pairs.harmed, pairs.n, limit)
        return drop_p_value(pairs, limit, alpha)

    def bound(self, step: RuleEffect, confidence: float) -> float | None:
        """Largest loss that the questions leave possible; None under crc."""
        if self.kind == "crc":
            return None
        if self.kind == "means":
            return mean_upper_bound(step.losses(self.loss), confidence, boldest=self.boldest)
        pairs = step.pairs
        if self.kind == "binomial":
            return upper_bound(pairs.harmed, pairs.n, confidence)
        return drop_upper_bound(pairs, confidence)

    def questions_for(self, step: RuleEffect, limit: float, alpha: float) -> int | None:
        """How many questions like these would show the limit; None: no number of them would.

        As many differ, and by as much, as was seen here.
        """
        losses = step.losses(self.loss)
        pairs = step.pairs
        seen = (
            losses.mean() if self.kind == "means"
            else pairs.harmed / pairs.n if self.kind == "binomial" else pairs.drop
        )  # fmt: skip
        if seen >= limit:
            return None

        def enough(n: int) -> bool:
            return self._scaled(step, losses, n, limit, alpha) <= alpha

        high = len(losses)
        while not enough(high):
            high = int(high * 1.5) + 1
            if high > MOST_QUESTIONS:
                return None
        low = 0
        while high - low > max(1, high // 500):
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def _scaled(
        self, step: RuleEffect, losses: FloatArray, n: int, limit: float, alpha: float
    ) -> float:
        """The p-value of `n` questions among which as many differ."""
        pairs = step.pairs
        if self.kind == "means":
            # Evenly spread over the seen losses, in an order that does not depend on them.
            index = np.floor(np.arange(n) * (len(losses) / n)).astype(np.int64) % len(losses)
            mixed = np.random.default_rng(0).permutation(index)
            return mean_p_value(losses[mixed], limit, alpha, boldest=self.boldest)
        harmed = round(pairs.harmed * n / pairs.n)
        if self.kind == "binomial":
            return at_most_p_value(harmed, n, limit)
        helped = min(n - harmed, round(pairs.helped * n / pairs.n))
        return drop_p_value(Pairs(n=n, harmed=harmed, helped=helped), limit, alpha)

    def shown_by_crc(self, steps: Sequence[RuleEffect], limit: float) -> int:
        """How many steps keep the expected loss within the limit."""
        return conformal_risk(np.stack([step.losses("harm") for step in steps], axis=1), limit)

    def flawless(self, limit: float, alpha: float) -> int:
        """Questions that a rule takes which never differs from the baseline."""
        if self.kind == "crc":
            return max(1, int(np.ceil(1.0 / limit - 1.0 - 1e-9)))
        if self.kind != "means":
            return rows_needed(limit, 1.0 - alpha)
        n = rows_needed(limit, 1.0 - alpha)
        while mean_p_value(np.zeros(n), limit, alpha, boldest=self.boldest) > alpha:
            n += 1
        return n


def tested(step: RuleEffect, test: Test, confidence: float, limit: float = 1.0) -> Tested:
    """The counts behind a rule, with the bound of its loss: at most the `limit` that was shown.

    Counts are of one play of each question; `loss` is the mean over all its plays.
    """
    pairs, bound = step.pairs, test.bound(step, confidence)
    return Tested(
        n=pairs.n,
        stopped=int(step.stopped[:, 0].sum()),
        harmed=pairs.harmed,
        helped=pairs.helped,
        loss=round(float(step.losses(test.loss).mean()), 6),
        upper_bound=None if bound is None else min(limit, round(bound + 5e-7, 6)),
    )


def saving_of(step: RuleEffect, confidence: float, seed: int) -> Range:
    """The saving, its interval by resampling questions."""
    spent, standard = step.cost.sum(axis=1), step.baseline_cost.sum(axis=1)
    found = ratio_interval(standard - spent, standard, confidence=confidence, seed=seed)
    return Range(estimate=found.estimate, low=found.low, high=found.high, confidence=confidence)


def monitors(
    step: RuleEffect, sure: FloatArray | None, path_steps: int, test: Test, limit: float, *,
    answers: bool,
) -> tuple[MonitorTable, ...]:  # fmt: skip
    """What the gateway's monitors hold traffic against.

    The certified loss: the limit itself. The others: ranges, where the certifying data leave the
    truth. Bonferroni over quantities and path steps, because the rule was chosen on the same data.
    One play of each question counts. `sure`: the predictor's P(right) per question, None where the
    policy has no gate. `answers`: the recording holds what was answered, not verdicts alone.
    """
    stopped = step.stopped[:, 0]
    n, stops = len(stopped), int(stopped.sum())
    alpha = MONITOR_ALPHA / (3 * max(1, path_steps))
    share = clopper_pearson(stops, n, 1.0 - alpha)
    found = [MonitorTable(quantity="stopped", low=share.low, high=share.high)]
    if answers:
        differ = upper_bound(int(step.differs[:, 0].sum()), n, 1.0 - alpha)
        found.append(MonitorTable(quantity="differ", low=0.0, high=differ))
    if test.loss == "drop":
        found.append(MonitorTable(quantity="drop", low=-1.0, high=limit))
    else:
        if test.kind == "crc":  # it holds in the mean over calibrations, not for each
            limit = max(limit, upper_bound(step.pairs.harmed, n, 1.0 - alpha))
        found.append(MonitorTable(quantity="harm", low=0.0, high=limit))
    if sure is not None and stops > 1:
        found.append(_confidence(sure[stopped], alpha))
    return tuple(found)


def _confidence(values: FloatArray, alpha: float) -> MonitorTable:
    """Range of a mean in [0, 1] by empirical Bernstein (0907.3740, theorem 4), alpha / 2 a side."""
    n, mean, log = len(values), float(values.mean()), float(np.log(4.0 / alpha))
    reach = float(np.sqrt(2.0 * values.var(ddof=1) * log / n) + 7 * log / (3 * (n - 1)))
    return MonitorTable(
        quantity="confidence", low=max(0.0, mean - reach), high=min(1.0, mean + reach)
    )
