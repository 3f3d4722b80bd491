"""One device's share of a model of any architecture."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np

from suffice.architecture.model import Block, Experts, Matrix, Mixer, Model, Part, Run
from suffice.architecture.model_counts import STATE_VALUE_BYTES
from suffice.architecture.weight_format import Storage, WeightFormat
from suffice.hardware import Hardware
from suffice.throughput.work import (
    VOCABULARY_MULTIPLE,
    Cache,
    Device,
    Products,
    Routed,
    Tiles,
    one_value,
)
from suffice.throughput.workload import Workload

# Precisions that products run in, widest first; each has a coefficient of its own. "8 block": 8
# bits with a scale per block of weights and of activations, as DeepSeek and Qwen quantise.
Precision = Literal["16", "8", "8 block", "4"]
PRECISIONS: tuple[Precision, ...] = ("16", "8", "8 block", "4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a replica's devices share the model.

    `tensor` devices share each attention; `data` replicas of it take sequences in turn. Experts are
    on all `tensor * data` devices: whole ones where `experts` is true, else slices of each.
    """

    tensor: int = 1
    data: int = 1
    experts: bool = False

    @property
    def devices(self) -> int:
        """Devices of one pipeline stage."""
        return self.tensor * self.data


def precision_of(storage: Storage, hardware: Hardware) -> Precision:
    """What weights of this format are multiplied in on this machine."""
    if storage.widened or storage.wide_share >= 0.5:
        return "16"
    native = hardware.multiplies_in(storage.dtype)
    if native == "fp4":
        return "4"
    if native in ("fp8", "int8"):
        return "8" if storage.group is None else "8 block"
    return "16"


def seconds_per_flop(hardware: Hardware, precision: Precision) -> float:
    """At peak; a width that the machine lacks counts as the next wider one."""
    eight = ("fp8", "int8", "bf16")
    names = {"16": ("bf16",), "8": eight, "8 block": eight, "4": ("fp4", *eight)}[precision]
    return 1.0 / next(hardware.peak_flops[n] for n in names if n in hardware.peak_flops)


def gemm_share(hardware: Hardware, precision: Precision) -> float:
    """Share of the peak that products of this precision reach."""
    use = hardware.utilisation
    shares = {"16": use.gemm, "8": use.gemm_8bit, "8 block": use.gemm_8bit_block,
              "4": use.gemm_4bit}  # fmt: skip
    return shares[precision]


def model_device(
    model: Model,
    formats: WeightFormat,
    *,
    kv_value_bytes: float,
    hardware: Hardware,
    tiles: Tiles,
    layout: Layout,
    workload: Workload,
    planned_output: float,
) -> Device:
    """What one device holds and does; arrays of one row."""
    t = layout.tensor
    sums = _Sums(formats, hardware, tiles, layout)
    for run in model.runs:
        sums.add_run(run)
    sums.add_products(model.body, 1, "16", fused=False)
    sums.streamed += 2.0 * _shared_values(model.body, t)
    sums.held += 2.0 * (_shared_values(model.body, t) + model.body.vectors)
    vocabulary = _padded(model.vocab_size, t)
    head_inputs = model.head.matrices[0].inputs
    head_values = head_inputs * vocabulary
    sums.streamed += formats.head.value_bytes * head_values
    sums.held += formats.head.value_bytes * head_values
    sums.held += 2.0 * model.lookup / t if not model.tied else 2.0 * max(
        model.lookup - model.vocab_size * head_inputs, 0
    ) / t  # fmt: skip
    caches = _caches(model, layout, kv_value_bytes, workload, planned_output)
    per_token = sum(
        run.layers * m.cached / m.stride * _cache_share(m, t)
        for run in model.runs
        for m in run.block.mixers
    )
    reduces, reduced, exchanged = _reduces(model, layout)
    return Device(
        weight_bytes=one_value(sums.held),
        streamed_bytes=one_value(sums.streamed),
        products=tuple(
            Products(
                one_value(sums.flops[bits]),
                seconds_per_flop(hardware, bits),
                gemm_share(hardware, bits),
            )
            for bits in PRECISIONS
        ),
        head=Products(
            one_value(2.0 * _up(head_inputs, tiles.columns) * vocabulary),
            seconds_per_flop(hardware, "16"),
            gemm_share(hardware, "16"),
        ),
        activation_bytes=one_value(sums.activation),
        widest_bytes=one_value(sums.widest),
        caches=caches,
        experts=tuple(sums.routed.values()),
        state_bytes=one_value(sums.state_bytes),
        state_flops=one_value(sums.state_flops),
        layers=one_value(float(model.layers)),
        sparse_layers=one_value(float(sum(r.layers for r in model.runs if r.block.experts))),
        recurrent_layers=one_value(
            float(sum(r.layers for r in model.runs if any(m.state for m in r.block.mixers)))
        ),
        latent_layers=one_value(
            float(sum(r.layers * max(map(_latent, r.block.mixers), default=0) for r in model.runs))
        ),
        block_layers=one_value(float(model.layers) * _scales_blocks(formats, hardware)),
        reduced_values=one_value(reduced),
        exchanged_values=one_value(exchanged),
        reduces=one_value(reduces),
        splits=np.array([splits(model, layout)]),
        vocabulary=one_value(vocabulary),
        kv_bytes_per_token=one_value(kv_value_bytes * per_token),
    )


def _scales_blocks(formats: WeightFormat, hardware: Hardware) -> bool:
    """Whether activations are scaled block by block before they are multiplied."""
    return "8 block" in {precision_of(s, hardware) for s in (formats.mlp, formats.experts)}


def _latent(mixer: Mixer) -> int:
    """How many latent attentions' small kernels it launches; an indexer's are as many again."""
    if mixer.kind not in ("latent attention", "sparse attention", "compressed attention"):
        return 0
    return 1 if mixer.selected is None else 2


class _Sums:
    """What adds up over layers."""

    def __init__(
        self, formats: WeightFormat, hardware: Hardware, tiles: Tiles, layout: Layout
    ) -> None:
        self.formats, self.hardware, self.tiles, self.layout = formats, hardware, tiles, layout
        self.held = self.streamed = self.activation = self.widest = 0.0
        self.state_bytes = self.state_flops = 0.0
        self.flops: dict[Precision, float] = dict.fromkeys(PRECISIONS, 0.0)
        self.routed: dict[tuple[int, int, Precision], Routed] = {}

    def add_products(self, part: Part, layers: int, bits: Precision, *, fused: bool) -> None:
        self.flops[bits] += layers * _flops(part, self.layout.tensor, self.tiles, fused=fused)

    def add_run(self, run: Run) -> None:
        """Layers of one kind: their products, what they hold and stream, their states."""
        block, t, formats = run.block, self.layout.tensor, self.formats
        always = [(mixer.part, formats.attention, True) for mixer in block.mixers]
        always += [(block.mlp, formats.mlp, False), (block.rest, Storage(), False)]
        always += [(experts.shared, formats.mlp, False) for experts in block.experts]
        always += [(experts.router, Storage(), False) for experts in block.experts]
        for part, storage, fused in always:
            values = _shared_values(part, t)
            self.add_products(part, run.layers, precision_of(storage, self.hardware), fused=fused)
            self.streamed += run.layers * storage.value_bytes * values
            self.held += run.stored * (storage.value_bytes * values + 2.0 * part.vectors)
        for experts in block.experts:
            self._add_experts(run, experts)
        activation = _activation_bytes(block, self.layout)
        self.activation += run.layers * activation
        self.widest = max(self.widest, activation)
        for mixer in block.mixers:
            share = 1.0 / min(t, mixer.state_heads)
            self.state_bytes += run.layers * STATE_VALUE_BYTES * mixer.state * share
            self.state_flops += run.layers * mixer.token_flops * share

    def _add_experts(self, run: Run, experts: Experts) -> None:
        layout, storage, hardware = self.layout, self.formats.experts, self.hardware
        devices = layout.devices
        values = experts.count * experts.expert.matrix_values / devices
        whole = storage.value_bytes * values
        vectors = 2.0 * experts.count * experts.expert.vectors / devices
        self.held += run.stored * (whole + vectors)
        slices = 1 if layout.experts else devices
        flops = run.layers * _flops(experts.expert, slices, self.tiles, fused=False)
        bits = precision_of(storage, hardware)
        key = (experts.count, experts.per_token, bits)
        before = self.routed.get(key)
        held = run.layers * whole + (0.0 if before is None else float(before.bytes[0]))
        if before is not None:
            flops += float(before.products.flops_per_token[0])
        self.routed[key] = Routed(
            bytes=one_value(held),
            count=float(experts.count),
            per_token=float(experts.per_token),
            share=1.0 / devices if layout.experts else 1.0,
            products=Products(
                one_value(flops), seconds_per_flop(hardware, bits), gemm_share(hardware, bits)
            ),
        )


def _share(matrix: Matrix, t: int) -> float:
    if matrix.split == "none":
        return 1.0
    if matrix.split == "kv":
        return max(1.0 / t, 1.0 / max(matrix.ways, 1))
    return 1.0 / t


def _shared_values(part: Part, t: int) -> float:
    return sum(matrix.values * _share(matrix, t) for matrix in part.matrices)


def _flops(part: Part, t: int, tiles: Tiles, *, fused: bool) -> float:
    """FLOPs per token of a part's products, dimensions rounded up to tiles.

    `fused`: products that read the same input are one product, as engines run queries, keys and
    values.
    """
    columns: dict[tuple[int, bool], float] = defaultdict(float)
    total = 0.0
    for matrix in part.matrices:
        share = _share(matrix, t)
        if matrix.split == "inputs":
            inner = tiles.inner if fused else tiles.columns
            total += _up(matrix.inputs * share, inner) * _up(matrix.outputs, tiles.columns)
        elif fused:
            columns[matrix.inputs, matrix.split == "none"] += matrix.outputs * share
        else:
            total += _up(matrix.inputs, tiles.columns) * _up(matrix.outputs * share, tiles.columns)
    for (inputs, _), outputs in columns.items():
        total += _up(inputs, tiles.columns) * _up(outputs, tiles.columns)
    return 2.0 * total


def _activation_bytes(block: Block, layout: Layout) -> float:
    """Bytes that a token's activations move in a layer: residual stream, projections, MLP."""
    t = layout.tensor
    d = max((m.outputs for p in (block.mlp, *_parts(block)) for m in p.matrices
             if m.split == "inputs"), default=0)  # fmt: skip
    mixed = sum(
        matrix.outputs * _share(matrix, t)
        for mixer in block.mixers
        for matrix in mixer.part.matrices
        if matrix.split != "inputs"
    )
    wide = sum(
        matrix.inputs * _share(matrix, t)
        for part in (block.mlp, *(e.shared for e in block.experts))
        for matrix in part.matrices
        if matrix.split == "inputs"
    )
    for experts in block.experts:
        inner = sum(m.inputs for m in experts.expert.matrices if m.split == "inputs")
        wide += experts.per_token * inner / layout.devices
    return 12.0 * d + 6.0 * wide + 4.0 * mixed


def _parts(block: Block) -> tuple[Part, ...]:
    return tuple(mixer.part for mixer in block.mixers) + tuple(e.expert for e in block.experts)


def _cache_share(mixer: Mixer, t: int) -> float:
    return max(1.0 / t, 1.0 / mixer.cache_heads)


def _caches(
    model: Model,
    layout: Layout,
    value_bytes: float,
    workload: Workload,
    planned_output: float,
) -> tuple[Cache, ...]:
    """Caches by what they keep; a device computes its share of the heads for every entry."""
    t = layout.tensor
    sums: dict[tuple[int | None, int | None, int], list[float]] = {}
    for run in model.runs:
        for mixer in run.block.mixers:
            if not (mixer.cached or mixer.pair_flops):
                continue
            limit = mixer.window
            if mixer.selected is not None:
                most = mixer.selected * mixer.stride
                limit = most if limit is None else min(limit, most)
            found = sums.setdefault((limit, mixer.window, mixer.stride), [0.0, 0.0, 0.0])
            found[0] += run.layers * value_bytes * mixer.cached * _cache_share(mixer, t)
            found[1] += run.layers * mixer.pair_flops / t
            found[2] += run.layers * mixer.prefill_pair_flops / t
    return tuple(
        Cache(
            read_bytes=one_value(read),
            decode_flops=one_value(decode),
            prompt_flops=one_value(prompt),
            attended=workload.decode_context_tokens(limit) / stride,
            pairs=workload.prompt_pairs(limit) / stride,
            held=workload.held_tokens(planned_output, window) / stride,
        )
        for (limit, window, stride), (read, decode, prompt) in sums.items()
    )


def _reduces(model: Model, layout: Layout) -> tuple[float, float, float]:
    """All-reduces of a pass, values that they sum per token, and values exchanged per token.

    Tensor parallelism sums behind each mixer and each MLP. With attention replicas, tokens are
    gathered before the experts and scattered after them, which moves as much as one sum for every
    token of another replica.
    """
    if layout.devices == 1:
        return 0.0, 0.0, 0.0
    d = float(model.hidden_size)
    sparse = sum(run.layers for run in model.runs if run.block.experts)
    count = 0.0
    if layout.tensor > 1:
        for run in model.runs:
            feeds = bool(run.block.mlp.matrices) or bool(run.block.experts)
            count += run.layers * (len(_summing(run.block)) + feeds)
    values = count * d * (1.0 - 1.0 / layout.tensor)
    exchanged = 0.0
    if layout.data > 1:
        count += 2.0 * sparse
        exchanged = sparse * d
    return count, values, exchanged


def _summing(block: Block) -> list[Mixer]:
    return [
        mixer
        for mixer in block.mixers
        if any(matrix.split == "inputs" for matrix in mixer.part.matrices)
    ]


def splits(model: Model, layout: Layout) -> bool:
    """Whether the heads can be shared by the layout's devices."""
    t = layout.tensor
    for run in model.runs:
        for mixer in run.block.mixers:
            wide = [m for m in mixer.part.matrices if m.split == "outputs"]
            if any(matrix.outputs % t for matrix in wide):
                return False
            kv = mixer.cache_heads
            if kv > 1 and kv % t and t % kv:
                return False
        if layout.experts and any(e.count % layout.devices for e in run.block.experts):
            return False
    return True


def _padded(vocabulary: int, t: int) -> float:
    if t == 1:
        return float(vocabulary)
    return _up(vocabulary, VOCABULARY_MULTIPLE * t) / t


def _up(value: float, multiple: float) -> float:
    return float(np.ceil(value / multiple) * multiple)
