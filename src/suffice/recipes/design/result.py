"""What a design run returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suffice.architecture.counts import (
    ShapeGrid,
    aspect,
    kv_cache_bytes_per_token,
    mlp_to_attention_ratio,
    non_embedding_parameters,
)
from suffice.architecture.hf_config import config_from_shape
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.search import Scores, Selection
from suffice.architecture.shape import Shape
from suffice.hardware import Hardware
from suffice.recipes.design.config import DesignConfig
from suffice.throughput.analytic import Prediction
from suffice.throughput.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One shape of the answer: predicted loss with bounds, predicted cost, and what is not known.

    `loss_low` and `loss_high` are one-sided bounds in nats at the run's confidence, of the loss
    *given the reference's loss*: the level itself is the anchor's. `speedup` is the objective's
    throughput over the reference's. `meets_target` says whether the upper bound is within target.
    """

    role: str
    shape: Shape
    loss: float
    loss_low: float
    loss_high: float
    meets_target: bool
    prediction: Prediction
    speedup: float
    notes: tuple[str, ...] = ()

    @property
    def r(self) -> float:
        """MLP over attention weights."""
        return float(mlp_to_attention_ratio(self.shape))

    @property
    def x(self) -> float:
        """Hidden size over the root of N."""
        return float(aspect(self.shape))

    @property
    def parameters(self) -> int:
        """N, attention and MLP weights."""
        return non_embedding_parameters(self.shape)

    def config(self) -> dict[str, Any]:
        """The `config.json` that transformers and vLLM load."""
        return config_from_shape(self.shape)

    def kv_bytes_per_token(self, serving: Serving) -> float:
        """KV cache of one token over all devices, bytes."""
        return float(kv_cache_bytes_per_token(self.shape, serving.kv_dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where the absolute level of the losses comes from."""

    loss: float
    basis: str
    is_estimate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignResult:
    """The answer to a design question.

    `picks` start with the reference and hold the loss-optimal shape, the point-estimate pick, the
    chosen shape and the runners-up, by role. `grid`, `scores` and `selection` are the whole search.
    """

    config: DesignConfig
    law: ConditionalLaw
    hardware: Hardware
    serving: Serving
    anchor: Anchor
    target_loss: float
    picks: tuple[Pick, ...]
    grid: ShapeGrid
    scores: Scores
    selection: Selection
    notes: tuple[str, ...]

    def pick(self, role: str) -> Pick:
        """The pick with this role: reference, loss-optimal, point-estimate, chosen, runner-up 1."""
        return next(pick for pick in self.picks if pick.role == role)

    @property
    def reference(self) -> Pick:
        """The model that was to be improved on."""
        return self.pick("reference")

    @property
    def chosen(self) -> Pick:
        """The best by the objective whose loss holds at the stated confidence."""
        return self.pick("chosen")
