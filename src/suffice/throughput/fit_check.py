"""Whether a shape can be served at all, and what to change if not."""

from __future__ import annotations

from suffice.architecture.counts import kv_cache_bytes, weight_bytes
from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit, InputError
from suffice.core.quantities import format_bytes
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload


def check_fits(shape: Shape, serving: Serving, workload: Workload, *, largest_batch: float) -> None:
    """Raise InputError if the heads cannot be split, DoesNotFit if no sequence fits."""
    t, heads, kv_heads = (
        serving.tensor_parallel,
        shape.num_attention_heads,
        shape.num_key_value_heads,
    )
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
    weights = float(weight_bytes(shape, serving.weight_dtype))
    sequence = float(kv_cache_bytes(shape, round(workload.held_tokens()), serving.kv_dtype))
    have = serving.hardware.memory_bytes * serving.memory_fraction * t
    missing = max(weights + sequence - have, 0.0)
    raise DoesNotFit(
        f"{shape.name or 'the model'} does not fit on {serving}: weights take "
        f"{format_bytes(weights)} and one sequence of {round(workload.held_tokens())} tokens "
        f"{format_bytes(sequence)}, {format_bytes(have)} are usable (missing "
        f"{format_bytes(missing)} plus workspace); {_remedy(weights + sequence, serving)}"
    )


def _remedy(needed_bytes: float, serving: Serving) -> str:
    per_device = serving.hardware.memory_bytes * serving.memory_fraction
    devices = serving.tensor_parallel
    while devices * per_device < needed_bytes * 1.1 and devices < 64:
        devices *= 2
    options = []
    if devices > serving.tensor_parallel and serving.hardware.kind == "gpu":
        options.append(f"tensor_parallel {devices}")
    if serving.weight_dtype in ("bf16", "fp16"):
        options.append("fp8 or int4 weights")
    return "try " + ", ".join([*options, "a larger device or shorter requests"])
