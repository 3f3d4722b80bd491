"""What an ablation varies: the shapes of a family along one axis, or one workload quantity.

The axes are those of arXiv:2510.18245, Figure 3 and its appendix: hidden size, MLP-to-attention
ratio and GQA at fixed N and depth; batch size and context length for the published shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import mlp_to_attention_ratio
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, UnknownName
from suffice.recipes.ablation.families import Axis, shapes_along
from suffice.recipes.ablation.scaling import shrunk
from suffice.throughput.engines.protocol import Lengths

AxisName = Literal["d", "r", "gqa", "batch", "context"]
AXES: tuple[AxisName, ...] = get_args(AxisName)
_SHAPE_AXES: dict[str, Axis] = {"d": "hidden_size", "r": "mlp_ratio", "gqa": "gqa"}
LABELS: dict[str, str] = {
    "d": "hidden size d",
    "r": "MLP over attention parameters r",
    "gqa": "query heads per KV head",
    "batch": "batch size",
    "context": "prompt tokens",
}
# The first of a family is the reference of the shape axes; all of them take part in sweeps.
FAMILIES: dict[str, tuple[str, ...]] = {
    "1b": ("meta-llama/Llama-3.2-1B", "bian2025/surefire-1b", "bian2025/panda-1b"),
    "3b": ("meta-llama/Llama-3.2-3B", "bian2025/surefire-3b", "bian2025/panda-3b"),
    "8b": ("meta-llama/Llama-3.1-8B",),
    "qwen3-0.6b": ("Qwen/Qwen3-0.6B",),
    "qwen3-1.7b": ("Qwen/Qwen3-1.7B",),
    "qwen3-4b": ("Qwen/Qwen3-4B",),
    "qwen3-8b": ("Qwen/Qwen3-8B",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationSetting:
    """One point of an ablation: a shape under a load; `value` is where it lies on the axis."""

    series: str
    value: float
    shape: Shape
    batch: int
    lengths: Lengths


def settings(
    axis: str,
    family: str,
    *,
    batches: Sequence[int],
    contexts: Sequence[int],
    output_tokens: int,
    points: int = 5,
    span: float = 2.0,
    shrink: int = 1,
) -> list[AblationSetting]:
    """All points of one ablation, in the order of their series.

    Shape axes take every batch size (a series each) at the first context; the batch sweep takes
    the first context, the context sweep the first batch size, with a series for every model.
    """
    if axis not in AXES:
        raise InputError(f"ablation {axis!r} is unknown; known: {', '.join(AXES)}")
    shapes = [shrunk(shape, shrink) for shape in family_shapes(family)]
    lengths = [Lengths(input_tokens=c, output_tokens=output_tokens) for c in contexts]
    if axis in _SHAPE_AXES:
        along = ablation_shapes(axis, shapes[0], points=points, span=span)
        return [
            AblationSetting(
                series=f"batch {batch}", value=axis_value(axis, shape), shape=shape, batch=batch,
                lengths=lengths[0],
            )
            for batch in batches
            for shape in along
        ]  # fmt: skip
    sweep = (
        [(float(batch), batch, lengths[0]) for batch in batches]
        if axis == "batch"
        else [(float(one.input_tokens), batches[0], one) for one in lengths]
    )
    return [
        AblationSetting(
            series=shape.name or str(shape), value=value, shape=shape, batch=batch, lengths=one
        )
        for shape in shapes
        for value, batch, one in sweep
    ]


def family_shapes(family: str) -> list[Shape]:
    """Models of a family by its short name."""
    if family.lower() not in FAMILIES:
        raise UnknownName.of("family", family, FAMILIES, f"— known: {', '.join(FAMILIES)}")
    return [load_shape(name) for name in FAMILIES[family.lower()]]


def ablation_shapes(axis: str, reference: Shape, *, points: int, span: float) -> list[Shape]:
    """At most `points` shapes along `axis`, ends and reference included, by increasing value."""
    if points < 2:
        raise InputError(f"an ablation needs at least 2 points, got {points}")
    every = shapes_along(_SHAPE_AXES[axis], reference, span=span)
    if axis == "d":
        every = _nearest_ratio(every, float(mlp_to_attention_ratio(reference)))
    at = next(index for index, shape in enumerate(every) if shape == reference)
    wanted = {0, at, len(every) - 1}
    while len(wanted) < min(points, len(every)):
        # The index that lies furthest from all that are chosen.
        wanted.add(max(range(len(every)), key=lambda i: min(abs(i - j) for j in wanted)))
    return [every[index] for index in sorted(wanted)]


def axis_value(axis: str, shape: Shape) -> float:
    """Where a shape lies on a shape axis."""
    values: dict[str, Callable[[Shape], float]] = {
        "d": lambda s: float(s.hidden_size),
        "r": lambda s: float(mlp_to_attention_ratio(s)),
        "gqa": lambda s: float(s.gqa),
    }
    return values[axis](shape)


def _nearest_ratio(shapes: Sequence[Shape], ratio: float) -> list[Shape]:
    """Of the shapes of one hidden size, the one whose r is nearest: r is to be held."""
    best: dict[int, Shape] = {}
    for shape in shapes:
        held = best.get(shape.hidden_size)
        if held is None or abs(float(mlp_to_attention_ratio(shape)) - ratio) < abs(
            float(mlp_to_attention_ratio(held)) - ratio
        ):
            best[shape.hidden_size] = shape
    return [best[d] for d in sorted(best)]
