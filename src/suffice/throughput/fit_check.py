"""Whether a shape can be served at all, and what to change if not."""

from __future__ import annotations

from typing import NoReturn

from suffice.architecture.counts import BYTES_PER_VALUE, kv_cache_bytes, weight_bytes
from suffice.architecture.model import Model
from suffice.architecture.model_counts import sequence_bytes
from suffice.architecture.model_counts import weight_bytes as model_weight_bytes
from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit, InputError
from suffice.core.quantities import format_bytes
from suffice.throughput.model_work import Layout, splits
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload


def check_fits(
    what: Shape | Model, serving: Serving, workload: Workload, *, largest_batch: float
) -> None:
    """Raise InputError if the heads cannot be split, DoesNotFit if no sequence fits."""
    if isinstance(what, Model):
        _check_model(what, serving, workload, largest_batch=largest_batch)
        return
    shape, t = what, serving.tensor_parallel
    heads, kv_heads = shape.num_attention_heads, shape.num_key_value_heads
    if heads % t or (kv_heads % t and t % kv_heads):
        possible = [
            n for n in range(1, 17)
            if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)
        ]  # fmt: skip
        raise InputError(
            f"tensor_parallel {t} cannot split {heads} query heads over {kv_heads} KV heads; "
            f"possible here: {', '.join(map(str, possible))}"
        )
    if largest_batch >= 1:
        return
    dtype = serving.weight_dtype or "bf16"
    weights = float(weight_bytes(shape, dtype))
    cache = serving.kv_dtype or "bf16"
    sequence = float(kv_cache_bytes(shape, round(workload.held_tokens()), cache))
    _refuse(shape.name, weights, sequence, serving, workload)


def _check_model(
    model: Model, serving: Serving, workload: Workload, *, largest_batch: float
) -> None:
    layout = Layout(
        tensor=serving.tensor_parallel, data=serving.data_parallel, experts=serving.expert_parallel
    )
    if not splits(model, layout):
        possible = [n for n in range(1, 17) if splits(model, Layout(tensor=n))]
        raise InputError(
            f"{layout.tensor} devices cannot share the heads of {model.name or model.model_type}"
            f"{' with whole experts' if layout.experts else ''}; possible here: "
            f"{', '.join(map(str, possible))}"
        )
    if serving.pipeline_parallel > model.layers:
        raise InputError(
            f"{model.layers} layers cannot be cut into {serving.pipeline_parallel} stages"
        )
    if largest_batch >= 1:
        return
    context = round(workload.held_tokens())
    size = BYTES_PER_VALUE[serving.kv_dtype_of(model)]
    _refuse(
        model.name,
        model_weight_bytes(model, serving.formats_of(model)),
        sequence_bytes(model, context, size),
        serving,
        workload,
    )


def _refuse(
    name: str | None, weights: float, sequence: float, serving: Serving, workload: Workload
) -> NoReturn:
    have = serving.hardware.memory_bytes * serving.memory_fraction * serving.devices
    missing = max(weights + sequence - have, 0.0)
    raise DoesNotFit(
        f"{name or 'the model'} does not fit on {serving}: weights take "
        f"{format_bytes(weights)} and one sequence of {round(workload.held_tokens())} tokens "
        f"{format_bytes(sequence)}, {format_bytes(have)} are usable (missing "
        f"{format_bytes(missing)} plus workspace); {_remedy(weights + sequence, serving)}"
    )


def _remedy(needed_bytes: float, serving: Serving) -> str:
    per_device = serving.hardware.memory_bytes * serving.memory_fraction
    devices = serving.devices
    while devices * per_device < needed_bytes * 1.1 and devices < 64:
        devices *= 2
    options = []
    if devices > serving.devices and serving.hardware.kind == "gpu":
        options.append(f"tensor_parallel {devices}")
    if serving.weight_dtype in (None, "bf16", "fp16"):
        options.append("fp8 or int4 weights")
    return "try " + ", ".join([*options, "a larger device or shorter requests"])
