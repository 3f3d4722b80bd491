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
        return float(kv_cache_bytes_per_token(self.shape, serving.kv_dtype_of(None)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GainSplit:
    """Where the recommended shape's speed comes from; ratios of tokens per second.

    `total` = `kept` times `regrouped`. `kept` is the best that is recommended with KV heads (query
    heads per KV head) and depth as the reference's, at least 1: the reference itself. `loss_change`
    is what the recommended grouping is expected to do to the loss, nats, with one-sided bounds at
    the run's confidence; 0 where the law has KV heads among its variables.
    """

    total: float
    kept: float
    loss_change: float
    loss_low: float
    loss_high: float

    @property
    def regrouped(self) -> float:
        """What fewer or more KV heads add to `kept`."""
        return self.total / self.kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where the absolute level of the losses comes from."""

    loss: float
    basis: str
    is_estimate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignResult:
    """The answer to a design question.

    `picks` by role: reference, lowest-loss, fastest (if the law is exactly right; half of the time
    it misses), recommended, runner-up 1, …. `stated_confidence` is that with which the recommended
    shape keeps the loss target; None outside the law's evidence, where it is a guess. `gain` splits
    its speed. `grid`, `scores` and `selection` are the whole search.
    """

    config: DesignConfig
    law: ConditionalLaw
    hardware: Hardware
    serving: Serving
    anchor: Anchor
    target_loss: float
    stated_confidence: float | None
    gain: GainSplit
    picks: tuple[Pick, ...]
    grid: ShapeGrid
    scores: Scores
    selection: Selection
    notes: tuple[str, ...]

    def pick(self, role: str) -> Pick:
        """The pick with this role; raises KeyError where there is none."""
        for pick in self.picks:
            if pick.role == role:
                return pick
        raise KeyError(role)

    @property
    def reference(self) -> Pick:
        """The model that was to be improved on."""
        return self.pick("reference")

    @property
    def recommended(self) -> Pick:
        """The best by the objective whose loss target holds; it may be the reference itself."""
        return self.pick("recommended")

    @property
    def keeps_reference(self) -> bool:
        """Whether nothing was shown to be better than the reference."""
        return self.recommended.shape == self.reference.shape

    def headline(self) -> str:
        """The answer in one or two plain sentences."""
        gain, pick = self.gain, self.recommended
        if self.keeps_reference:
            if self.stated_confidence is None:
                return "Keep the reference: no shape is predicted to be better."
            return (
                "Keep the reference: no shape is shown to be better at "
                f"{self.stated_confidence:.0%} confidence."
            )
        shape = pick.shape
        sure = (
            "a guess: outside the law's evidence, no confidence is stated"
            if self.stated_confidence is None
            else "predicted, not trained; loss no higher at "
            f"{self.stated_confidence:.0%} confidence"
        )
        return (
            f"Recommended: hidden {shape.hidden_size}, MLP {shape.intermediate_size}, "
            f"{shape.num_attention_heads}/{shape.num_key_value_heads} heads: {gain.total:.2f}x "
            f"tokens per second ({sure}). Of this, width and MLP give {gain.kept:.2f}x, "
            f"KV heads {gain.regrouped:.2f}x at {gain.loss_change:+.4f} nats "
            f"[{gain.loss_low:+.4f}, {gain.loss_high:+.4f}]."
        )

    def __repr__(self) -> str:
        return f"<DesignResult: {self.headline()}>"
