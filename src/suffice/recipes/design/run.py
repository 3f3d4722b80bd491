"""Run a design: enumerate, predict loss and cost of every shape at once, select."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import (
    Dimensions,
    FloatArray,
    ShapeGrid,
    aspect,
    mlp_to_attention_ratio,
    non_embedding_parameters,
)
from suffice.architecture.lattice import Lattice, enumerate_lattice, shape_at
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import NOISE_FLOOR_NATS, AbsoluteLaw, ConditionalLaw, LossNoise
from suffice.architecture.predict import shape_variables
from suffice.architecture.search import LossTarget, Scores, Selection, select
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.hardware import Hardware, load_hardware
from suffice.recipes.design.anchor import loss_anchor
from suffice.recipes.design.config import DesignConfig
from suffice.recipes.design.result import DesignResult, Pick
from suffice.throughput.analytic import predict, predict_grid
from suffice.throughput.serving import Serving

# The level of loss moves with N inside the search's tolerance; its slope comes from here.
SCALE_LAW = "besiroglu2024"
# Models of some hundred thousand parameters; with width, MLP share and depth in one form.
OUR_LADDER = "our-ladder"
_DRAW_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LossModel:
    """Loss of a shape given the reference's: a conditional law for shape, Chinchilla for size."""

    law: ConditionalLaw
    scale: AbsoluteLaw
    reference: Shape
    reference_loss: float
    tokens: float

    def axes(self, shape: Dimensions[Any]) -> dict[str, Any]:
        """The law's variables at a shape or a grid."""
        known = {
            "x": aspect(shape),
            "r": mlp_to_attention_ratio(shape),
            "gqa": shape.num_attention_heads / shape.num_key_value_heads,
            "kv_share": shape.num_key_value_heads / shape.num_attention_heads,
            "layers": shape.num_hidden_layers,
            "width_per_layer": shape.hidden_size / shape.num_hidden_layers,
            "tokens_per_parameter": self.tokens / non_embedding_parameters(shape),
            "N": non_embedding_parameters(shape),
            "D": self.tokens,
        }
        missing = [name for name in self.law.family.variables if name not in known]
        if missing:
            raise InputError(
                f"law {self.law.name!r} needs {', '.join(missing)}, which no shape has"
            )
        return {name: known[name] for name in self.law.family.variables}

    def loss_at_equal_size(self, shapes: ShapeGrid) -> FloatArray:
        """Predicted loss in nats if every shape had the reference's N."""
        here, there = self.axes(shapes), self.axes(self.reference)
        ratio = self.law.relative_loss(**here) / self.law.relative_loss(**there)
        return self.reference_loss * ratio

    def size_factor(self, shapes: ShapeGrid) -> FloatArray:
        """What the difference in N to the reference does to the loss, as a factor."""
        own = self.scale.loss(float(non_embedding_parameters(self.reference)), self.tokens)
        return self.scale.loss(non_embedding_parameters(shapes), self.tokens) / own

    def loss(self, shapes: ShapeGrid) -> FloatArray:
        """Predicted loss in nats."""
        return self.loss_at_equal_size(shapes) * self.size_factor(shapes)

    def sd(self, shapes: ShapeGrid) -> FloatArray:
        """Standard deviation in nats of the difference to the reference's loss.

        A law that is blind to GQA and depth sees no difference between shapes that differ in
        nothing else; its noise, which stands for what it leaves out, applies to them all the same.
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
        blind = (relative == 0.0) & ~_same_dimensions(shapes, self.reference)
        floor = (self.law.noise or _NO_NOISE).difference_sd()
        return self.reference_loss * np.where(blind, floor, relative)


def _same_dimensions(shapes: ShapeGrid, reference: Shape) -> NDArray[np.bool_]:
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim",
    )  # fmt: skip
    same = np.ones(len(shapes), dtype=bool)
    for name in names:
        same &= getattr(shapes, name) == getattr(reference, name)
    return same


def score(loss: LossModel, grid: ShapeGrid, serving: Serving, config: DesignConfig) -> Scores:
    """Loss and cost of every shape of `grid`."""
    cost = predict_grid(grid, serving, config.requests, batch=config.batch)
    equal_size = loss.loss_at_equal_size(grid)
    return Scores(
        loss=equal_size * loss.size_factor(grid),
        loss_at_equal_size=equal_size,
        loss_sd=loss.sd(grid),
        output_tokens_per_s=cost.output_tokens_per_s,
        ttft_s=cost.ttft_s,
        tpot_s=cost.tpot_s,
        e2e_s=cost.e2e_s,
        usd_per_million_tokens=cost.usd_per_million_tokens,
        kv_bytes_per_token=cost.kv_bytes_per_token,
        batch=cost.batch,
    )


def design(config: DesignConfig) -> DesignResult:
    """The shapes of `config.like`'s size that serve its workload best within the loss target.

    Raises UnknownName, ConfigError, UnsupportedModel, OutsideValidity, DoesNotFit or
    NothingFeasible.
    """
    reference = config.like if isinstance(config.like, Shape) else load_shape(config.like)
    hardware = (
        config.hardware if isinstance(config.hardware, Hardware) else load_hardware(config.hardware)
    )
    law = _law(config, reference)
    serving = Serving(
        hardware=hardware,
        weight_dtype=config.weight_dtype,
        kv_dtype=config.kv_dtype,
        tensor_parallel=config.tensor_parallel,
        max_batch=config.max_batch,
        engine=config.engine,
    )
    lattice = _lattice(config, reference, law)
    notes = _validity_notes(config, reference, law)
    anchor = loss_anchor(reference, config)
    loss = LossModel(
        law=law,
        scale=_scale_law(),
        reference=reference,
        reference_loss=anchor.loss,
        tokens=config.tokens,
    )
    reference_prediction = predict(reference, serving, config.requests, batch=config.batch)
    grid = enumerate_lattice(reference, lattice)
    scores = score(loss, grid, serving, config)
    target = LossTarget(
        loss=config.max_loss or anchor.loss * (1 + config.loss_slack),
        confidence=config.confidence,
        quantile=(law.noise or _NO_NOISE).quantile(config.confidence),
    )
    selection = select(
        grid,
        scores,
        config.objective,
        target,
        modelled=_gqa_seen_by(law, grid, reference),
        num_runners_up=config.num_runners_up,
    )
    builder = _PickBuilder(
        config=config,
        loss=loss,
        serving=serving,
        target=target,
        base_tokens_per_s=reference_prediction.output_tokens_per_s,
    )
    return DesignResult(
        config=config,
        law=law,
        hardware=hardware,
        serving=serving,
        anchor=anchor,
        target_loss=target.loss,
        picks=builder.all_of(reference, grid, selection),
        grid=grid,
        scores=scores,
        selection=selection,
        notes=(*notes, *reference_prediction.notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PickBuilder:
    config: DesignConfig
    loss: LossModel
    serving: Serving
    target: LossTarget
    base_tokens_per_s: float

    def all_of(self, reference: Shape, grid: ShapeGrid, found: Selection) -> tuple[Pick, ...]:
        """The reference, then the selection's picks; a shape has one role, the first of these."""
        rows = [("chosen", found.chosen)]
        rows += [(f"runner-up {i}", row) for i, row in enumerate(found.runners_up, start=1)]
        picks = [self.of("reference", reference)]
        for role, row in (
            ("loss-optimal", found.loss_optimal),
            ("point-estimate", found.point_estimate),
        ):
            picks.append(self.of(role, shape_at(grid, row, reference)))
        return (*picks, *(self.of(role, shape_at(grid, row, reference)) for role, row in rows))

    def of(self, role: str, shape: Shape) -> Pick:
        """One shape with its predictions."""
        one = ShapeGrid.like(shape)
        value, sd = float(self.loss.loss(one)[0]), float(self.loss.sd(one)[0])
        quantile = self.target.quantile or 0.0
        prediction = predict(shape, self.serving, self.config.requests, batch=self.config.batch)
        return Pick(
            role=role,
            shape=shape,
            loss=value,
            loss_low=value - quantile * sd,
            loss_high=value + quantile * sd,
            meets_target=value + quantile * sd <= self.target.loss + 1e-12,
            prediction=prediction,
            speedup=prediction.output_tokens_per_s / self.base_tokens_per_s,
            notes=_pick_notes(shape, self.loss),
        )


_NO_NOISE = LossNoise(relative_sd=NOISE_FLOOR_NATS, degrees_of_freedom=None, basis="")


def _scale_law() -> AbsoluteLaw:
    law = load_law(SCALE_LAW)
    if not isinstance(law, AbsoluteLaw):
        raise InputError(f"law {SCALE_LAW!r} must predict an absolute loss")
    return law


def _law(config: DesignConfig, reference: Shape) -> ConditionalLaw:
    if isinstance(config.law, ConditionalLaw):
        return config.law
    law = load_law(config.law or default_law(reference))
    if not isinstance(law, ConditionalLaw):
        raise InputError(
            f"law {law.name!r} does not say how loss depends on shape; a design needs a "
            "conditional law, such as bian2025-80m-297m (see `suffice laws`)"
        )
    return law


def default_law(reference: Shape) -> str:
    """Our own ladder's law inside its range, else the published set the paper used at this size."""
    size = float(non_embedding_parameters(reference))
    own = load_law(OUR_LADDER).domain.interval("N")
    if own is not None and bool(own.contains(size)):
        return OUR_LADDER
    return "bian2025-1b" if size >= 2e9 else "bian2025-80m-297m"


def _lattice(config: DesignConfig, reference: Shape, law: ConditionalLaw) -> Lattice:
    changes: dict[str, object] = {
        "parameter_tolerance": config.parameter_tolerance,
        "tensor_parallel": config.tensor_parallel,
    }
    for variable in ("x", "r"):
        interval = law.domain.interval(variable)
        if interval is not None:
            changes[f"{variable}_range"] = (interval.low, interval.high)
    changes |= _beyond_width(law)
    for name in (
        "parameters", "hidden_multiple", "mlp_multiple", "x_range", "r_range", "gqa_range",
        "attention_width_range", "key_value_multiple", "head_dims", "depths",
    ):  # fmt: skip
        value = getattr(config, name)
        if value is not None:
            changes[name] = value
    lattice = Lattice.around(reference, **changes)
    low, high = lattice.x_range, lattice.r_range
    law.check(extrapolate=config.extrapolate, x=np.array(low), r=np.array(high))
    return lattice


def _beyond_width(law: ConditionalLaw) -> dict[str, object]:
    """Depths and groupings that a law which models them has seen."""
    changes: dict[str, object] = {}
    layers, share = law.domain.interval("layers"), law.domain.interval("kv_share")
    if layers is not None and "layers" in law.family.variables:
        changes["depths"] = tuple(range(math.ceil(layers.low), math.floor(layers.high) + 1))
    if share is not None and "kv_share" in law.family.variables:
        changes["gqa_range"] = (max(1, math.ceil(1 / share.high)), math.floor(1 / share.low))
    return changes


def _validity_notes(config: DesignConfig, reference: Shape, law: ConditionalLaw) -> tuple[str, ...]:
    size = config.parameters or float(non_embedding_parameters(reference))
    own = _checked_variables(law, reference)
    checked = law.check(
        extrapolate=config.extrapolate,
        **{**own, "N": size, "tokens_per_parameter": config.tokens / size},
    )
    return (*checked, *law.not_modelled)


def _gqa_seen_by(law: ConditionalLaw, grid: ShapeGrid, reference: Shape) -> Any:
    """Rows whose GQA and depth are the reference's, unless the law models those axes."""
    seen = np.ones(len(grid), dtype=bool)
    variables = set(law.family.variables)
    if not variables & {"gqa", "kv_share"}:
        seen &= grid.num_attention_heads == reference.gqa * grid.num_key_value_heads
    if not variables & {"layers", "width_per_layer"}:
        seen &= grid.num_hidden_layers == reference.num_hidden_layers
    return seen


def _pick_notes(shape: Shape, loss: LossModel) -> tuple[str, ...]:
    """What the law did not see in this shape."""
    variables, reference = set(loss.law.family.variables), loss.reference
    notes = []
    if not variables & {"gqa", "kv_share"} and shape.gqa != reference.gqa:
        notes.append(f"GQA {shape.gqa} where the reference has {reference.gqa}: not in the law")
    if (
        not variables & {"layers", "width_per_layer"}
        and shape.num_hidden_layers != reference.num_hidden_layers
    ):
        notes.append(
            f"depth {shape.num_hidden_layers} where the reference has "
            f"{reference.num_hidden_layers}: not in the law"
        )
    notes += loss.law.check(extrapolate=True, **_checked_variables(loss.law, shape))
    return tuple(notes)


def _checked_variables(law: ConditionalLaw, shape: Shape) -> dict[str, float]:
    """What is held against the law's evidence; that it is blind to GQA or depth is said apart."""
    wanted = {"N", "x", "r", *law.family.variables}
    return {name: value for name, value in shape_variables(shape).items() if name in wanted}
