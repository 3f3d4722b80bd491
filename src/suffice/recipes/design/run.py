"""Run a design: enumerate, predict loss and cost of every shape at once, select."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import ShapeGrid, non_embedding_parameters
from suffice.architecture.lattice import Lattice, enumerate_lattice
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import AbsoluteLaw, ConditionalLaw
from suffice.architecture.predict import shape_variables
from suffice.architecture.search import LossTarget, Scores, select
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.hardware import Hardware, load_hardware
from suffice.recipes.design.anchor import loss_anchor
from suffice.recipes.design.config import DesignConfig
from suffice.recipes.design.loss_model import LossModel, sees_depth, sees_grouping
from suffice.recipes.design.picks import PickBuilder
from suffice.recipes.design.result import DesignResult
from suffice.throughput.analytic import predict, predict_grid
from suffice.throughput.serving import Serving

# The level of loss moves with N inside the search's tolerance; its slope comes from here.
SCALE_LAW = "besiroglu2024"
# Models of some hundred thousand parameters; with width, MLP share and depth in one form.
OUR_LADDER = "our-ladder"


def score(loss: LossModel, grid: ShapeGrid, serving: Serving, config: DesignConfig) -> Scores:
    """Loss and cost of every shape of `grid`."""
    cost = predict_grid(grid, serving, config.requests, batch=config.batch)
    equal_size = loss.loss_at_equal_size(grid)
    sd, dof = loss.uncertainty(grid)
    return Scores(
        loss=equal_size * loss.size_factor(grid),
        loss_at_equal_size=equal_size,
        loss_sd=sd,
        loss_dof=dof,
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

    The reference is a candidate: where no shape is shown to be better, it is recommended itself.
    Outside the law's evidence (`extrapolate`) no confidence is stated, and the recommendation is
    the law's point estimate, marked as a guess. Raises UnknownName, ConfigError, UnsupportedModel,
    OutsideValidity, DoesNotFit or NothingFeasible.
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
        scale=scale_law(),
        reference=reference,
        reference_loss=anchor.loss,
        tokens=config.tokens,
    )
    own = predict(reference, serving, config.requests, batch=config.batch)
    grid = enumerate_lattice(reference, lattice)
    scores = score(loss, grid, serving, config)
    stated = config.confidence if loss.inside_evidence else None
    target = LossTarget(
        loss=config.max_loss or anchor.loss * (1 + config.loss_slack), confidence=config.confidence
    )
    held = _held(grid, reference)
    selection = select(
        grid, scores, config.objective, target,
        modelled=_modelled(law, grid, reference),
        num_runners_up=config.num_runners_up,
    )  # fmt: skip
    builder = PickBuilder(
        config=config,
        loss=loss,
        serving=serving,
        target=target,
        reference=own,
    )
    return DesignResult(
        config=config,
        law=law,
        hardware=hardware,
        serving=serving,
        anchor=anchor,
        target_loss=target.loss,
        stated_confidence=stated,
        picks=builder.all_of(grid, selection, stated=stated is not None),
        gain=builder.gain(grid, scores, selection, held, stated=stated is not None),
        grid=grid,
        scores=scores,
        selection=selection,
        notes=(*notes, *own.notes),
    )


def scale_law() -> AbsoluteLaw:
    """The law of size and tokens by which a shape's loss is scaled."""
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


# In this order: our own ladder in its range, then what the paper used at this size.
_BY_SIZE = (OUR_LADDER, "bian2025-80m-297m", "bian2025-1b")


def default_law(reference: Shape) -> str:
    """The first law whose evidence holds the reference's size; else the nearest in ln N."""
    size = float(non_embedding_parameters(reference))
    away: dict[str, float] = {}
    for name in _BY_SIZE:
        interval = load_law(name).domain.interval("N")
        if interval is None or bool(interval.contains(size)):
            return name
        away[name] = abs(math.log(size / (interval.low if size < interval.low else interval.high)))
    return min(away, key=away.__getitem__)


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


def _held(grid: ShapeGrid, reference: Shape) -> NDArray[np.bool_]:
    """Rows whose grouping and depth are the reference's."""
    grouping = grid.num_attention_heads == reference.gqa * grid.num_key_value_heads
    return np.asarray(grouping & (grid.num_hidden_layers == reference.num_hidden_layers))


def _modelled(law: ConditionalLaw, grid: ShapeGrid, reference: Shape) -> NDArray[np.bool_]:
    """Rows that differ from the reference in nothing that the law itself does not see."""
    seen: NDArray[np.bool_] = np.asarray(grid.head_dim == reference.head_dim)
    if not sees_grouping(law):
        seen &= grid.num_attention_heads == reference.gqa * grid.num_key_value_heads
    if not sees_depth(law):
        seen &= grid.num_hidden_layers == reference.num_hidden_layers
    return seen


def _checked_variables(law: ConditionalLaw, shape: Shape) -> dict[str, float]:
    """What is held against the law's evidence; that it is blind to GQA or depth is said apart."""
    wanted = {"N", "x", "r", *law.family.variables}
    return {name: value for name, value in shape_variables(shape).items() if name in wanted}
