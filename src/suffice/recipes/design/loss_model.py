"""Loss of every shape against the reference's, with the uncertainty of everything that changes.

ln(loss / reference loss) = shape term (conditional law) + size term (Chinchilla form, inside the
search's tolerance on N) + grouping term (`suffice.architecture.effects`, where the law is blind to
KV heads). Variances add; degrees of freedom by Welch and Satterthwaite. What has no term is not
known: another depth under a law that is blind to depth, any shape outside the law's own evidence.
Its standard deviation is infinite, and no confidence is stated of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.counts import (
    Dimensions,
    ShapeGrid,
    aspect,
    mlp_to_attention_ratio,
    non_embedding_parameters,
)
from suffice.architecture.effects import Effect, grouping_effect
from suffice.architecture.laws import NOISE_FLOOR_NATS, AbsoluteLaw, ConditionalLaw, LossNoise
from suffice.architecture.shape import Shape
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError

_DRAW_CHUNK = 4096
_MANY = 1e9  # degrees of freedom of a spread that counts as known
_NO_NOISE = LossNoise(relative_sd=NOISE_FLOOR_NATS, degrees_of_freedom=None, basis="")


def sees_grouping(law: ConditionalLaw) -> bool:
    """Whether KV heads are among the law's variables."""
    return bool({"gqa", "kv_share"} & set(law.family.variables))


def sees_depth(law: ConditionalLaw) -> bool:
    """Whether the number of layers is among the law's variables."""
    return bool({"layers", "width_per_layer"} & set(law.family.variables))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossModel:
    """Loss of a shape given the reference's."""

    law: ConditionalLaw
    scale: AbsoluteLaw
    reference: Shape
    reference_loss: float
    tokens: float

    @property
    def grouping(self) -> Effect | None:
        """The term of KV heads; None where the law has its own."""
        return None if sees_grouping(self.law) else grouping_effect()

    def axes(self, shape: Dimensions[Any]) -> dict[str, Any]:
        """The law's variables at a shape or a grid."""
        known = self._known(shape)
        missing = [name for name in self.law.family.variables if name not in known]
        if missing:
            raise InputError(
                f"law {self.law.name!r} needs {', '.join(missing)}, which no shape has"
            )
        return {name: known[name] for name in self.law.family.variables}

    def _known(self, shape: Dimensions[Any]) -> dict[str, Any]:
        size = non_embedding_parameters(shape)
        return {
            "x": aspect(shape),
            "r": mlp_to_attention_ratio(shape),
            "gqa": shape.num_attention_heads / shape.num_key_value_heads,
            "kv_share": shape.num_key_value_heads / shape.num_attention_heads,
            "layers": shape.num_hidden_layers,
            "width_per_layer": shape.hidden_size / shape.num_hidden_layers,
            "tokens_per_parameter": self.tokens / size,
            "N": size,
            "D": self.tokens,
        }

    def grouping_change(self, shapes: ShapeGrid) -> FloatArray:
        """ln(loss) that KV heads add to the reference's; 0 where the law has its own term."""
        if self.grouping is None:
            return np.zeros(len(shapes))
        return self.grouping.change(self.reference.gqa, _gqa(shapes))

    def loss_at_equal_size(self, shapes: ShapeGrid) -> FloatArray:
        """Predicted loss in nats if every shape had the reference's N."""
        here, there = self.axes(shapes), self.axes(self.reference)
        ratio = self.law.relative_loss(**here) / self.law.relative_loss(**there)
        return self.reference_loss * ratio * np.exp(self.grouping_change(shapes))

    def size_factor(self, shapes: ShapeGrid) -> FloatArray:
        """What the difference in N to the reference does to the loss, as a factor."""
        own = self.scale.loss(float(non_embedding_parameters(self.reference)), self.tokens)
        return self.scale.loss(non_embedding_parameters(shapes), self.tokens) / own

    def loss(self, shapes: ShapeGrid) -> FloatArray:
        """Predicted loss in nats."""
        return self.loss_at_equal_size(shapes) * self.size_factor(shapes)

    def uncertainty(self, shapes: ShapeGrid) -> tuple[FloatArray, FloatArray]:
        """Standard deviation (nats) of the difference to the reference, and degrees of freedom.

        0 for the reference's own shape; infinite where nothing is known of the difference.
        """
        law_sd = self._law_sd(shapes)
        law_dof = float((self.law.noise or _NO_NOISE).degrees_of_freedom or _MANY)
        group_sd, group_dof = np.zeros(len(shapes)), _MANY
        if self.grouping is not None:
            group_sd = self.grouping.change_sd(self.reference.gqa, _gqa(shapes))
            group_dof = float(self.grouping.degrees_of_freedom)
        variance = law_sd**2 + group_sd**2
        with np.errstate(invalid="ignore", divide="ignore"):
            dof = variance**2 / (law_sd**4 / law_dof + group_sd**4 / group_dof)
        dof = np.where(np.isfinite(dof), dof, _MANY)
        same = _same_dimensions(shapes, self.reference)
        sd = np.where(self.known(shapes), np.sqrt(variance), np.inf)
        return self.reference_loss * np.where(same, 0.0, sd), dof

    def known(self, shapes: ShapeGrid) -> NDArray[np.bool_]:
        """Rows that change nothing but what has a term, inside the law's evidence."""
        inside = np.full(len(shapes), self.inside_evidence)
        inside &= shapes.head_dim == self.reference.head_dim
        if not sees_depth(self.law):
            inside &= shapes.num_hidden_layers == self.reference.num_hidden_layers
        checked = {"x", "r", *self.law.family.variables} - {"N", "D"}
        values = {name: v for name, v in self._known(shapes).items() if name in checked}
        return inside & self.law.domain.contains(**values)

    @property
    def inside_evidence(self) -> bool:
        """Whether the reference, its size included, lies where the law was fitted."""
        wanted = {"N", "x", "r", *self.law.family.variables}
        own = {name: float(v) for name, v in self._known(self.reference).items() if name in wanted}
        return bool(self.law.domain.contains(**own))

    def _law_sd(self, shapes: ShapeGrid) -> FloatArray:
        """Relative standard deviation of the law's own comparison with the reference.

        A law that is blind to a change sees no difference between shapes that differ in nothing
        else; its noise applies to them all the same.
        """
        versus = {name: float(value) for name, value in self.axes(self.reference).items()}
        if self.law.draws is None:
            relative = self.law.difference_sd(self.axes(shapes), versus)
        else:
            # Draws times shapes is the one large array here; keep it a few MB.
            starts = range(0, len(shapes), _DRAW_CHUNK)
            parts = (shapes.take(slice(start, start + _DRAW_CHUNK)) for start in starts)
            relative = np.concatenate(
                [self.law.difference_sd(self.axes(part), versus) for part in parts]
            )
        floor = (self.law.noise or _NO_NOISE).difference_sd()
        return np.where(relative == 0.0, floor, relative)


def _gqa(shapes: ShapeGrid) -> FloatArray:
    return np.asarray(shapes.num_attention_heads / shapes.num_key_value_heads, dtype=np.float64)


def _same_dimensions(shapes: ShapeGrid, reference: Shape) -> NDArray[np.bool_]:
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim",
    )  # fmt: skip
    same = np.ones(len(shapes), dtype=bool)
    for name in names:
        same &= getattr(shapes, name) == getattr(reference, name)
    return same
