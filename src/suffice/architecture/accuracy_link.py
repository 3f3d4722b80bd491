"""From loss to accuracy, where a table of runs has both.

    accuracy = floor + (ceiling - floor) / (1 + exp(k (L - L_half)))

The sigmoid of arXiv:2412.04403 (its step from task loss to task accuracy). The floor may be held at
chance, the ceiling at 1: few runs span the whole curve. A link from training loss is looser than
one from the loss on the task's own answers, and holds for one recipe and one text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit, stdtrit

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, TableError

_FEWEST_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyLink:
    """Accuracies are shares of 1, losses nats. `sd` is the scatter about the curve.

    `loss_low` and `loss_high` are the losses of the runs: outside them nothing is known.
    """

    floor: float
    ceiling: float
    slope: float
    half: float
    sd: float
    degrees_of_freedom: int
    loss_low: float
    loss_high: float

    def at(self, loss: float | FloatArray) -> FloatArray:
        """Accuracy at a loss."""
        share = expit(-self.slope * (np.asarray(loss, dtype=np.float64) - self.half))
        result: FloatArray = self.floor + (self.ceiling - self.floor) * share
        return result

    def bounds(self, loss: float, confidence: float = 0.9) -> tuple[float, float]:
        """Two-sided bounds of the accuracy of one more run at `loss`; InputError outside the runs.

        By the scatter alone: what the curve itself may be off comes on top.
        """
        if not self.loss_low <= loss <= self.loss_high:
            raise InputError(
                f"a loss of {loss:.4g} lies outside the runs of the link, {self.loss_low:.4g} to "
                f"{self.loss_high:.4g}"
            )
        wide = float(stdtrit(self.degrees_of_freedom, 0.5 + confidence / 2)) * self.sd
        middle = float(self.at(loss))
        return middle - wide, middle + wide


def fit_accuracy(
    loss: FloatArray, accuracy: FloatArray, *, floor: float = 0.0, ceiling: float = 1.0
) -> AccuracyLink:
    """The sigmoid through the runs, by least squares, `floor` and `ceiling` held.

    Raises TableError for fewer than five runs, accuracies outside [floor, ceiling], or losses that
    do not differ.
    """
    loss, accuracy = np.asarray(loss, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if not 0 <= floor < ceiling <= 1:
        raise InputError(
            f"floor {floor:g} and ceiling {ceiling:g}: shares of 1, floor below ceiling"
        )
    if len(loss) < _FEWEST_RUNS or loss.shape != accuracy.shape or np.ptp(loss) < 1e-6:
        raise TableError(
            f"{len(loss)} runs are too few, or too alike, for a curve of accuracy: at least "
            f"{_FEWEST_RUNS} of different losses"
        )
    if float(accuracy.min()) < floor - 0.1 or float(accuracy.max()) > ceiling:
        raise TableError(
            f"accuracies of {accuracy.min():.3g} to {accuracy.max():.3g} do not fit between "
            f"{floor:g} and {ceiling:g}: give shares of 1, not per cent"
        )

    def curve(point: FloatArray) -> FloatArray:
        share = expit(-np.exp(point[0]) * (loss - point[1]))
        result: FloatArray = floor + (ceiling - floor) * share
        return result

    starts = [(np.log(4.0 / np.ptp(loss)), float(np.median(loss))),
              (np.log(1.0 / np.ptp(loss)), float(loss.min()))]  # fmt: skip

    def residual(point: FloatArray) -> FloatArray:
        return curve(point) - accuracy

    fits = [least_squares(residual, np.array(start)) for start in starts]
    best = min(fits, key=lambda found: found.cost)
    freedom = len(loss) - 2
    return AccuracyLink(
        floor=floor,
        ceiling=ceiling,
        slope=float(np.exp(best.x[0])),
        half=float(best.x[1]),
        sd=float(np.sqrt(2 * best.cost / freedom)),
        degrees_of_freedom=freedom,
        loss_low=float(loss.min()),
        loss_high=float(loss.max()),
    )
