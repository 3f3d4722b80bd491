"""Choose among many shapes: Pareto front, near-optimal set, picks with the law's uncertainty.

Eq. 4 of arXiv:2510.18245 maximises throughput subject to loss <= target, and its Algorithm 1
enumerates GQA around the optimum of (x, r). Departs from it: all of (hidden size, heads, KV heads,
MLP width, depth) are enumerated at once, and the loss constraint is met at a stated confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from suffice.architecture.counts import ShapeGrid
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, NothingFeasible

# Throughputs closer than this are ties: no prediction here is better than several per cent.
TIE_TOLERANCE = 0.01

Objective = Literal["throughput", "latency", "cost", "loss", "kv-memory"]
OBJECTIVES: tuple[Objective, ...] = ("throughput", "latency", "cost", "loss", "kv-memory")
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What each shape of a grid is predicted to lose and to cost, one array per quantity.

    `loss_at_equal_size` leaves out what a shape gains or loses by the tolerance on N.
    `loss_sd` is the standard deviation of the *difference* to the reference's loss: errors that
    two shapes share cancel in a comparison. It is infinite where nothing is known of a difference,
    and such a shape is in no certified set. `loss_dof` are the degrees of freedom that it was
    estimated with; None: many. Shapes that do not fit have 0 tokens per second.
    """

    loss: FloatArray
    loss_at_equal_size: FloatArray
    loss_sd: FloatArray
    loss_dof: FloatArray | None = None
    output_tokens_per_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    usd_per_million_tokens: FloatArray
    kv_bytes_per_token: FloatArray
    batch: FloatArray

    def cost(self, objective: Objective) -> FloatArray:
        """The quantity that `objective` minimises; infinite where a shape does not fit."""
        values = {
            "throughput": -self.output_tokens_per_s,
            "latency": self.e2e_s,
            "cost": self.usd_per_million_tokens,
            "loss": self.loss_at_equal_size,
            "kv-memory": self.kv_bytes_per_token,
        }[objective]
        return np.where(self.fits & np.isfinite(values), values, np.inf)

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether at least one sequence fits in memory."""
        return np.isfinite(self.output_tokens_per_s) & (self.output_tokens_per_s > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTarget:
    """Loss at most `loss` (nats), met with probability `confidence` under the law's uncertainty."""

    loss: float
    confidence: float = 0.9

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise InputError(
                f"confidence must lie in [0.5, 1), got {self.confidence}: 0.5 is right if the law "
                "is exactly right, 0.9 leaves room for its error"
            )

    def margin(self, sd: FloatArray, dof: FloatArray | None) -> FloatArray:
        """One-sided quantile (Student's t at `dof` degrees of freedom) times `sd`, nats."""
        freedom = np.full(np.shape(sd), 1e9) if dof is None else dof
        known = np.isfinite(sd)
        quantile = stdtrit(freedom, self.confidence)
        margin: FloatArray = np.where(known, quantile * np.where(known, sd, 0.0), np.inf)
        return margin

    def upper_bound(self, scores: Scores) -> FloatArray:
        """One-sided upper confidence bound of each shape's loss, nats; infinite where unknown."""
        return scores.loss + self.margin(scores.loss_sd, scores.loss_dof)

    def met_by(self, scores: Scores) -> NDArray[np.bool_]:
        """Whether the target holds at the stated confidence."""
        return self.upper_bound(scores) <= self.loss + 1e-12

    def likely_met_by(self, scores: Scores) -> NDArray[np.bool_]:
        """Whether the law's point estimate meets the target, as Eq. 4 of the paper asks."""
        return scores.loss <= self.loss + 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows of a grid that a search returns.

    `recommended` is the best by the objective whose loss target holds at the stated confidence;
    among those within TIE_TOLERANCE of the best, the one with the lowest loss. None: no row holds
    it. `fastest` is the best that meets the target by the law's word alone (the paper's rule: half
    of the time it misses; never slower); None: no row does. `lowest_loss` is what it says.
    `runners_up` follow `recommended` and differ from it and from each other in hidden size or
    heads. `within` are all rows that hold the target at the confidence, best first; `front` is the
    Pareto front of objective against loss, best first.
    """

    objective: Objective
    target: LossTarget
    recommended: int | None
    fastest: int | None
    lowest_loss: int
    runners_up: tuple[int, ...]
    within: Rows
    front: Rows


def select(
    grid: ShapeGrid,
    scores: Scores,
    objective: Objective,
    target: LossTarget,
    *,
    modelled: NDArray[np.bool_] | None = None,
    num_runners_up: int = 1,
) -> Selection:
    """Front, near-optimal set and picks. Raises NothingFeasible if no shape fits into memory.

    `modelled` marks the shapes whose every dimension the law has seen. The loss-optimal pick, and
    every pick when loss is the objective, is one of them: where a law is blind (GQA), its lowest
    loss would be decided by chance.
    """
    if objective not in OBJECTIVES:
        raise InputError(f"objective {objective!r} must be one of {', '.join(OBJECTIVES)}")
    cost = scores.cost(objective)
    if not scores.fits.any():
        raise NothingFeasible(
            "none of the shapes leaves memory for one sequence of this workload: use hardware with "
            "more memory, a higher tensor-parallel degree, fp8 or int4 weights, or shorter contexts"
        )
    usable = scores.fits if modelled is None or objective != "loss" else scores.fits & modelled
    likely = np.flatnonzero(target.likely_met_by(scores) & usable)
    likely = likely[np.lexsort((scores.loss[likely], cost[likely]))]
    within = np.flatnonzero(target.met_by(scores) & usable)
    # Ties in the objective are settled by loss, so that a pick never loses for nothing.
    within = within[np.lexsort((scores.loss[within], cost[within]))]
    recommended = None
    if len(within):
        tolerance = 0.0 if objective == "loss" else TIE_TOLERANCE
        recommended = _best_of_ties(cost, scores.loss, within, tolerance)
    seen = scores.fits if modelled is None else scores.fits & modelled
    lowest = np.where(seen if seen.any() else scores.fits, scores.loss_at_equal_size, np.inf)
    return Selection(
        objective=objective,
        target=target,
        recommended=recommended,
        fastest=int(likely[0]) if len(likely) else None,
        lowest_loss=int(np.argmin(lowest)),
        runners_up=()
        if recommended is None
        else _distinct(grid, np.r_[recommended, within], num_runners_up),
        within=within,
        front=pareto_front(cost, scores.loss),
    )


def pareto_front(first: FloatArray, second: FloatArray) -> Rows:
    """Rows that no other row beats in both costs (smaller is better), by increasing `first`.

    Of equal rows one is kept. Rows with an infinite or NaN cost are never on the front.
    """
    finite = np.flatnonzero(np.isfinite(first) & np.isfinite(second))
    order = finite[np.lexsort((second[finite], first[finite]))]
    if not len(order):
        return order
    best_before = np.minimum.accumulate(second[order])
    improves = np.r_[True, second[order][1:] < best_before[:-1]]
    return order[improves]


def _best_of_ties(cost: FloatArray, loss: FloatArray, ranked: Rows, tolerance: float) -> int:
    """The row of lowest loss among those whose cost is within `tolerance` of the best's."""
    best = cost[ranked[0]]
    ties = ranked[cost[ranked] <= best + tolerance * abs(best)]
    return int(ties[np.argmin(loss[ties])])


def _distinct(grid: ShapeGrid, ranked: Rows, count: int) -> tuple[int, ...]:
    """The first `count` rows after the first that differ in hidden size, heads or depth."""
    seen: set[tuple[float, ...]] = set()
    found: list[int] = []
    for row in ranked:
        key = (
            float(grid.hidden_size[row]),
            float(grid.num_attention_heads[row]),
            float(grid.num_key_value_heads[row]),
            float(grid.num_hidden_layers[row]),
        )
        if key not in seen:
            seen.add(key)
            found.append(int(row))
        if len(found) > count:
            break
    return tuple(found[1:])
