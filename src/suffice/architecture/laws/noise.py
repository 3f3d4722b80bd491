"""How far a law's comparison of two shapes is off, where coefficients came without covariance."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import stdtrit

from suffice.core.errors import InputError

# Repeats of one run differ in loss by .00047 to .00105 nats from 190M to 3B parameters
# (OLMo ladder, arXiv:2412.04403). Smaller differences are ties.
NOISE_FLOOR_NATS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class LossNoise:
    """Standard deviation of ln(loss) of one shape about the law, after the level of its scale.

    It holds what the law leaves out (GQA, depth, misfit) and what a repeated run would change.
    `degrees_of_freedom` is what it was estimated from; None stands for many.
    """

    relative_sd: float
    degrees_of_freedom: int | None
    basis: str

    def difference_sd(self) -> float:
        """Standard deviation of ln(loss of one shape / loss of another): √2 of one shape's."""
        return 2**0.5 * self.relative_sd

    def quantile(self, confidence: float) -> float:
        """One-sided quantile in standard deviations: Student's t when estimated from few."""
        if not 0.5 <= confidence < 1:
            raise InputError(f"confidence must lie in [0.5, 1), got {confidence}")
        freedom = 1e9 if self.degrees_of_freedom is None else self.degrees_of_freedom
        return float(stdtrit(freedom, confidence))
