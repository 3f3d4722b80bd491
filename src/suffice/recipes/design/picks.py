"""From rows of a grid to the shapes that a design run names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.counts import ShapeGrid, kv_cache_bytes_per_token
from suffice.architecture.lattice import shape_at
from suffice.architecture.predict import shape_variables
from suffice.architecture.search import TIE_TOLERANCE, LossTarget, Scores, Selection
from suffice.architecture.shape import Shape
from suffice.core.errors import NothingFeasible
from suffice.recipes.design.config import DesignConfig
from suffice.recipes.design.loss_model import LossModel, sees_depth, sees_grouping
from suffice.recipes.design.result import GainSplit, Pick
from suffice.throughput.analytic import Prediction, predict
from suffice.throughput.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class PickBuilder:
    """Names shapes by role; `reference` is the reference's own prediction."""

    config: DesignConfig
    loss: LossModel
    serving: Serving
    target: LossTarget
    reference: Prediction

    def all_of(self, grid: ShapeGrid, found: Selection, *, stated: bool) -> tuple[Pick, ...]:
        """The reference, then the selection's picks; a shape may have several roles."""
        own = self.loss.reference
        picks = [
            self.of("reference", own),
            self.of("lowest-loss", shape_at(grid, found.lowest_loss, own)),
        ]
        fastest = None if found.fastest is None else shape_at(grid, found.fastest, own)
        if fastest is not None:
            picks.append(self.of("fastest", fastest))
        recommended, keeps = self._recommended(grid, found, fastest, stated=stated)
        picks.append(self.of("recommended", recommended))
        if not keeps and stated:
            rows = enumerate(found.runners_up, start=1)
            picks += [self.of(f"runner-up {i}", shape_at(grid, row, own)) for i, row in rows]
        return tuple(picks)

    def _recommended(
        self, grid: ShapeGrid, found: Selection, fastest: Shape | None, *, stated: bool
    ) -> tuple[Shape, bool]:
        """The shape that is recommended, and whether it is the reference itself."""
        own = self.loss.reference
        candidate = fastest
        if stated:
            row = found.recommended
            candidate = None if row is None else shape_at(grid, row, own)
        keeps_target = self.loss.reference_loss <= self.target.loss + 1e-12
        if candidate is None and not keeps_target:
            raise NothingFeasible(
                f"no shape holds loss <= {self.target.loss:.4f} at {self.target.confidence:.0%} "
                "confidence, the reference included: allow more loss, lower the confidence, or "
                "widen the search"
            )
        if candidate is None or (keeps_target and self._no_better(candidate)):
            return own, True
        return candidate, False

    def _no_better(self, shape: Shape) -> bool:
        """Whether the reference is as good by the objective, ties included."""
        objective = self.config.objective
        if objective == "loss":
            return float(self.loss.loss_at_equal_size(ShapeGrid.like(shape))[0]) >= (
                self.loss.reference_loss
            )
        ours = predict(shape, self.serving, self.config.requests, batch=self.config.batch)
        theirs = self.reference
        ratio = {
            "throughput": theirs.output_tokens_per_s / ours.output_tokens_per_s,
            "latency": ours.e2e_s / theirs.e2e_s,
            "cost": ours.usd_per_million_tokens / theirs.usd_per_million_tokens,
            "kv-memory": _kv(shape, self.serving) / _kv(self.loss.reference, self.serving),
        }[objective]
        return ratio >= 1 - TIE_TOLERANCE

    def of(self, role: str, shape: Shape) -> Pick:
        """One shape with its predictions."""
        one = ShapeGrid.like(shape)
        value = float(self.loss.loss(one)[0])
        sd, dof = self.loss.uncertainty(one)
        margin = float(self.target.margin(sd, dof)[0])
        prediction = predict(shape, self.serving, self.config.requests, batch=self.config.batch)
        return Pick(
            role=role,
            shape=shape,
            loss=value,
            loss_low=value - margin,
            loss_high=value + margin,
            meets_target=value + margin <= self.target.loss + 1e-12,
            prediction=prediction,
            speedup=prediction.output_tokens_per_s / self.reference.output_tokens_per_s,
            notes=self._notes(shape),
        )

    def gain(
        self,
        grid: ShapeGrid,
        scores: Scores,
        found: Selection,
        held: NDArray[np.bool_],
        *,
        stated: bool,
    ) -> GainSplit:
        """What of the recommended shape's speed comes from KV heads and depth, and its price."""
        fastest = (
            None if found.fastest is None else shape_at(grid, found.fastest, self.loss.reference)
        )
        shape, keeps = self._recommended(grid, found, fastest, stated=stated)
        total = 1.0 if keeps else self.of("recommended", shape).speedup
        likely = np.flatnonzero(self.target.likely_met_by(scores) & scores.fits)
        rows = found.within if stated else likely
        rows = rows[held[rows]]
        kept = 1.0
        if len(rows):
            best = rows[np.argmin(scores.cost(self.config.objective)[rows])]
            speed = float(scores.output_tokens_per_s[best])
            kept = max(1.0, speed / self.reference.output_tokens_per_s)
        one = ShapeGrid.like(shape)
        change = self.loss.reference_loss * np.expm1(self.loss.grouping_change(one))
        margin = 0.0
        if self.loss.grouping is not None:
            sd = self.loss.reference_loss * self.loss.grouping.change_sd(
                self.loss.reference.gqa, shape.gqa
            )
            dof = np.asarray(float(self.loss.grouping.degrees_of_freedom))
            margin = float(self.target.margin(np.asarray(sd), dof))
        return GainSplit(
            total=total,
            kept=min(kept, max(total, 1.0)),
            loss_change=float(change[0]),
            loss_low=float(change[0]) - margin,
            loss_high=float(change[0]) + margin,
        )

    def _notes(self, shape: Shape) -> tuple[str, ...]:
        """What the law did not see in this shape."""
        law, own = self.loss.law, self.loss.reference
        notes = []
        if not sees_grouping(law) and shape.gqa != own.gqa:
            notes.append(
                f"{shape.gqa:g} query heads per KV head where the reference has {own.gqa:g}: not "
                "in the law; the effect on loss comes from other published models"
            )
        if not sees_depth(law) and shape.num_hidden_layers != own.num_hidden_layers:
            notes.append(
                f"depth {shape.num_hidden_layers} where the reference has {own.num_hidden_layers}: "
                "nothing that was published says what that does at equal size; no confidence"
            )
        if shape.head_dim != own.head_dim:
            notes.append(
                f"heads of {shape.head_dim} where the reference has {own.head_dim}: nothing that "
                "was published says what that does at equal size; no confidence"
            )
        wanted = {"N", "x", "r", *law.family.variables}
        values = {k: v for k, v in shape_variables(shape).items() if k in wanted}
        return (*notes, *law.check(extrapolate=True, **values))


def _kv(shape: Shape, serving: Serving) -> float:
    return float(kv_cache_bytes_per_token(shape, serving.kv_dtype_of(None)))
