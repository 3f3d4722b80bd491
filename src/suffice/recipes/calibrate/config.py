"""What `suffice calibrate` is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import check_confidence, rows_needed
from suffice.evals.statistics.paired import rows_for_drop
from suffice.recipes.calibrate.play import TokenWeights

Method = Literal["fst", "crc"]
Loss = Literal["drop", "harm"]
Scope = Literal["overall", "cluster"]

# Questions below which thresholds and predictor would be guesses.
LEAST_TO_FIT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateConfig:
    """Target, arms and split. None lets the data say: they only see the fitting questions."""

    max_drop: float
    confidence: float = 0.95
    method: Method = "fst"
    loss: Loss | None = None  # drop; harm under crc
    scope: Scope = "overall"
    safe: str | None = None
    cheap: tuple[str, ...] = ()
    strong: str | None = None  # whom an unsettled vote of the safe arm may be handed to
    clusters: int | None = None
    steps: int = 20
    dimensions: int = 512
    fit_share: float = 0.5
    seed: int = 0
    weights: TokenWeights = field(default_factory=TokenWeights)
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
        if self.method == "crc" and self.scope == "cluster":
            raise InputError("conformal risk control covers the whole: use --scope overall")
        if self.clusters is not None and self.clusters < 1:
            raise InputError(f"clusters must be 1 or more, got {self.clusters}")
        if not 0.0 < self.fit_share < 1.0:
            raise InputError(f"fit_share must lie between 0 and 1, got {self.fit_share}")

    @property
    def used_loss(self) -> Loss:
        """What is bounded: `loss`, or the method's own."""
        return self.loss or ("harm" if self.method == "crc" else "drop")

    @property
    def alpha(self) -> float:
        """Error probability."""
        return 1.0 - self.confidence

    def rows_needed(self, alpha: float | None = None) -> int:
        """Certifying questions without which no setting can be shown, a flawless one included."""
        if self.method == "crc":
            return max(1, math.ceil(1.0 / self.max_drop - 1.0 - 1e-9))
        confidence = 1.0 - (self.alpha if alpha is None else alpha)
        if self.used_loss == "harm":
            return rows_needed(self.max_drop, confidence)
        return rows_for_drop(self.max_drop, confidence)
