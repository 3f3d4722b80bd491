"""The test: how far along its path a policy may go, on questions that had no part in laying it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.evals.statistics.binomial import at_most_p_value, clopper_pearson, upper_bound
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.statistics.paired import Pairs, drop_p_value, drop_upper_bound
from suffice.evals.statistics.sequence import conformal_risk, fixed_sequence
from suffice.policies.policy_file import Expected, MonitorTable, Range, Tested
from suffice.recipes.calibrate.config import CalibrateConfig, Loss

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Chance that a monitor's range misses the truth, all monitors and path steps together; the watch
# may spend as much again.
MONITOR_ALPHA = 0.005


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """What one setting of a path does to each question."""

    harmed: BoolArray
    helped: BoolArray
    stopped: BoolArray
    cost: FloatArray

    @property
    def pairs(self) -> Pairs:
        """Counts against the safe arm."""
        return Pairs(
            n=len(self.harmed), harmed=int(self.harmed.sum()), helped=int(self.helped.sum())
        )

    def within(self, mask: BoolArray) -> Step:
        """The same on some of the questions."""
        return Step(**{name: getattr(self, name)[mask] for name in self.__slots__})


def step_p_value(step: Step, limit: float, loss: Loss, alpha: float) -> float:
    """P-value of the null "the loss is `limit` or more"."""
    pairs = step.pairs
    if loss == "harm":
        return at_most_p_value(pairs.harmed, pairs.n, limit)
    return drop_p_value(pairs, limit, alpha)


def shown_steps(steps: Sequence[Step], config: CalibrateConfig, alpha: float | None = None) -> int:
    """How many settings from the start of the path are shown."""
    if not steps:
        return 0
    if config.method == "crc":
        return conformal_risk(np.stack([step.harmed for step in steps], axis=1), config.max_drop)
    level = config.alpha if alpha is None else alpha
    loss = config.used_loss
    tests = (step_p_value(step, config.max_drop, loss, level) for step in steps)
    return fixed_sequence(tests, level)


def tested(step: Step, config: CalibrateConfig, alpha: float | None = None) -> Tested:
    """The counts behind a setting, with the bound of its loss."""
    pairs = step.pairs
    confidence = 1.0 - (config.alpha if alpha is None else alpha)
    bound: float | None = None
    if config.method == "fst":
        harm = config.used_loss == "harm"
        bound = (
            upper_bound(pairs.harmed, pairs.n, confidence)
            if harm
            else round(drop_upper_bound(pairs, confidence), 6)
        )
    return Tested(
        n=pairs.n,
        stopped=int(step.stopped.sum()),
        harmed=pairs.harmed,
        helped=pairs.helped,
        upper_bound=bound,
    )


def expected(
    step: Step, safe_right: BoolArray, cheap_right: BoolArray, safe_cost: FloatArray,
    config: CalibrateConfig, *, by_sample: bool = False,
) -> Expected:  # fmt: skip
    """Accuracy and saving on the certifying questions; the interval resamples questions."""
    saving = ratio_interval(
        safe_cost - step.cost, safe_cost, confidence=config.confidence, seed=config.seed
    )
    right = (safe_right & ~step.harmed) | step.helped
    return Expected(
        baseline_accuracy=float(safe_right.mean()),
        accuracy=float(right.mean()),
        option_accuracy=float(cheap_right.mean()),
        stopped=float(step.stopped.mean()),
        saving=Range(
            estimate=saving.estimate, low=saving.low, high=saving.high, confidence=config.confidence
        ),
        cost_unit="samples" if by_sample else "tokens",
    )


def monitors(step: Step, right: FloatArray | None, path_steps: int) -> tuple[MonitorTable, ...]:
    """Ranges for the watch: where the certifying data leave the truth, whatever step was chosen.

    Bonferroni over quantities, sides and path steps, because the step was chosen on the same data.
    `right`: the predictor's P(right) per question, None where the policy has no gate.
    """
    n, stops = len(step.stopped), int(step.stopped.sum())
    alpha = MONITOR_ALPHA / (3 * max(1, path_steps))
    share = clopper_pearson(stops, n, 1.0 - alpha)
    harm = upper_bound(int(step.harmed.sum()), n, 1.0 - alpha)
    found = [
        MonitorTable(quantity="stopped", low=share.low, high=share.high),
        MonitorTable(quantity="harm", low=0.0, high=harm),
    ]
    if right is not None and stops > 1:
        values = right[step.stopped]
        # Empirical Bernstein (0907.3740, theorem 4), each side at alpha / 2.
        log = float(np.log(4.0 / alpha))
        reach = float(np.sqrt(2.0 * values.var(ddof=1) * log / stops) + 7 * log / (3 * (stops - 1)))
        mean = float(values.mean())
        found.append(
            MonitorTable(
                quantity="confidence", low=max(0.0, mean - reach), high=min(1.0, mean + reach)
            )
        )
    return tuple(found)
