"""What `suffice calibrate` is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.evals.statistics.binomial import check_confidence, rows_needed
from suffice.evals.statistics.paired import rows_for_drop

Method = Literal["fst", "crc"]
Loss = Literal["drop", "harm"]
Scope = Literal["overall", "group"]
TestChoice = Literal["auto", "paired", "means"]

# Questions below which thresholds and predictor would be guesses.
LEAST_TO_FIT = 60
# Certifying questions below which nothing is fitted: too few for any usual limit.
LEAST_LEFT = 29
# Where prompts are a few tokens that no one would pay for: every completion token costs alike.
COMPLETIONS_ALONE = Prices.parse(["*=0/1"])
# The limits of the table that is printed whatever was asked for.
USUAL_LIMITS = (0.01, 0.02, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateConfig:
    """Accuracy limit, baseline and options. None lets the recording say."""

    max_drop: float
    confidence: float = 0.95
    method: Method = "fst"
    loss: Loss | None = None  # drop; harm under crc
    scope: Scope = "overall"
    baseline: str | None = None  # what is served today, as --policy takes it
    options: tuple[str, ...] = ()  # what may answer in its place; empty: everything sensible
    large: str | None = None  # whom an unsettled vote of the baseline may be handed to
    fitted: bool | None = None  # whether fitted rules are tried too; None: where they may help
    groups: int | None = None  # question groups of the fitted rules
    test: TestChoice = "auto"
    plays: int = 24  # of every question, where several samples of it were recorded
    steps: int = 120  # settings of a fitted path
    dimensions: int = 512
    fit_share: float = 1.0 / 3.0
    seed: int = 0  # of the order of samples, of the split and the fit
    tries: int = 1  # calibrations of these questions, declared before the first
    prices: Prices = field(default_factory=Prices)
    mixed: bool = False  # several data sets on purpose: the claim is about their mixture

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if not 0.0 < self.max_drop < 1.0:
            raise InputError(f"max_drop must lie between 0 and 1 (1% is 0.01), got {self.max_drop}")
        if self.method == "crc" and self.loss == "drop":
            raise InputError(
                "conformal risk control needs a loss that never falls along the path: "
                "use --loss harm with --method crc, or --method fst"
            )
        if self.method == "crc" and self.scope == "group":
            raise InputError("conformal risk control covers the whole: use --scope overall")
        for name in ("plays", "steps", "tries"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.groups is not None and self.groups < 1:
            raise InputError(f"groups must be 1 or more, got {self.groups}")
        if not 0.0 < self.fit_share < 1.0:
            raise InputError(f"fit_share must lie between 0 and 1, got {self.fit_share}")

    @property
    def used_loss(self) -> Loss:
        """What is bounded: `loss`, or the method's own."""
        return self.loss or ("harm" if self.method == "crc" else "drop")

    @property
    def alpha(self) -> float:
        """Error probability of this calibration: its part of what all declared tries share."""
        return (1.0 - self.confidence) / self.tries

    @property
    def limits(self) -> tuple[float, ...]:
        """The limits of the table, the one that was asked for among them."""
        return tuple(sorted({*USUAL_LIMITS, self.max_drop}))

    def questions_needed(self, limit: float | None = None, alpha: float | None = None) -> int:
        """Certifying questions without which no rule can be shown, a flawless one included."""
        most = self.max_drop if limit is None else limit
        if self.method == "crc":
            return max(1, math.ceil(1.0 / most - 1.0 - 1e-9))
        confidence = 1.0 - (self.alpha if alpha is None else alpha)
        if self.used_loss == "harm":
            return rows_needed(most, confidence)
        return rows_for_drop(most, confidence)
