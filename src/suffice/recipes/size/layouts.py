"""Layouts worth trying: how a replica's devices share a model."""

from __future__ import annotations

from collections.abc import Iterator

from suffice.architecture.model import Model
from suffice.hardware import Hardware
from suffice.recipes.size.config import MOST_DEVICES, SizeConfig
from suffice.throughput.model_work import Layout, splits
from suffice.throughput.serving import Serving

DEGREES = (1, 2, 4, 8, 16, 32, 64)


def layouts(model: Model, hardware: Hardware, config: SizeConfig) -> Iterator[Serving]:
    """Servings to try, smallest first.

    Tensor parallelism inside a node; for mixtures of experts also whole experts per device, and
    replicas of the attention that share the experts. Stages of a pipeline join nodes, and devices
    without fast links.
    """
    sparse = any(run.block.experts for run in model.runs)
    node = hardware.node_devices
    wanted = (config.devices,) if config.devices is not None else DEGREES
    for devices in wanted:
        for t in _degrees(devices):
            if config.tensor_parallel not in (None, t):
                continue
            if t > node and config.tensor_parallel is None:
                continue
            for stages in _degrees(devices // t):
                data = devices // t // stages
                if not _worth(hardware, t, data, stages, sparse=sparse) or stages > model.layers:
                    continue
                for experts in (False, True) if sparse and t * data > 1 else (False,):
                    if data > 1 and not experts:
                        continue
                    if splits(model, Layout(tensor=t, data=data, experts=experts)):
                        yield _serving(hardware, config, t, data, stages, experts=experts)


def _degrees(devices: int) -> tuple[int, ...]:
    """Powers of two that divide it, and itself."""
    found = [d for d in DEGREES if devices % d == 0]
    return tuple(dict.fromkeys([*found, devices])) if devices <= MOST_DEVICES else ()


def _worth(hardware: Hardware, t: int, data: int, stages: int, *, sparse: bool) -> bool:
    node = hardware.node_devices
    if data > 1 and not sparse:
        return False
    if stages == 1:
        return t * data <= node or data > 1 or t > node
    linked = hardware.interconnect_latency_s > 0.0
    return data == 1 and (t == node or linked)


def _serving(
    hardware: Hardware, config: SizeConfig, t: int, data: int, stages: int, *, experts: bool
) -> Serving:
    max_batch, max_batched_tokens = config.limits_on(hardware)
    return Serving(
        hardware=hardware,
        weight_dtype=config.weight_dtype,
        kv_dtype=config.kv_dtype,
        tensor_parallel=t,
        data_parallel=data,
        pipeline_parallel=stages,
        expert_parallel=experts,
        speculative=config.speculative,
        draft_tokens=config.draft_tokens,
        memory_fraction=config.memory_fraction,
        max_batch=max_batch,
        max_batched_tokens=max_batched_tokens,
        engine=config.engine,
        captured_graphs=config.captured_graphs,
    )
