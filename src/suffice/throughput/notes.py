"""What a prediction rests on, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from suffice.architecture.model import Model
from suffice.architecture.model_counts import notes_on
from suffice.architecture.shape import Shape
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

CALIBRATED_ON = ("b200", "b300", "h100", "h200")


def notes_of(what: Shape | Model, serving: Serving, workload: Workload) -> Iterator[str]:
    """Notes on a prediction: where its coefficients come from and what was assumed."""
    hardware = serving.hardware
    yield f"utilisation {hardware.utilisation.source}"
    if hardware.kind == "gpu" and hardware.name not in CALIBRATED_ON:
        yield f"no measured point is from {hardware.name}: fractions of peak carried over"
    if isinstance(what, Model):
        yield from notes_on(what, workload.longest_tokens)
    elif (limit := what.config.get("max_position_embeddings")) and workload.longest_tokens > limit:
        yield (
            f"{workload.longest_tokens:,} tokens are more than max_position_embeddings "
            f"({limit:,}): the model was not trained for them"
        )
    formats = serving.formats_of(what if isinstance(what, Model) else None)
    for dtype in dict.fromkeys(
        storage.dtype for storage in (formats.attention, formats.mlp, formats.experts)
    ):
        if hardware.multiplies_in(dtype) == "bf16" and dtype not in ("bf16", "fp16", "fp32"):
            yield f"{dtype} weights are widened to 16 bits to be multiplied"
    devices = serving.tensor_parallel * serving.data_parallel
    if hardware.kind == "gpu" and devices > hardware.node_devices:
        yield (
            f"{devices} devices are more than one node's {hardware.node_devices}: their sums go "
            f"over a network of {hardware.network_bytes_per_s / 1e9:.0f} GB/s per device"
        )
    elif devices > 1 and hardware.interconnect_latency_s:
        yield "devices are joined by PCIe: sums over them take the latency of the hardware file"
