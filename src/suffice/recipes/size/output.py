"""The answer for machines and in words; units are in the names."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from suffice.architecture.model_counts import parameters
from suffice.core.version import __version__
from suffice.recipes.size.config import SizeConfig
from suffice.recipes.size.result import Pool, Sized, SizeResult, TwoPools
from suffice.throughput.serving import Serving

SCHEMA_VERSION = 1


def summary(result: SizeResult) -> dict[str, Any]:
    """The whole answer as plain JSON values."""
    counts = parameters(result.model)
    return {
        "schema_version": SCHEMA_VERSION,
        "suffice_version": __version__,
        "model": result.model.name or result.model.model_type,
        "parameters": counts.total,
        "active_parameters": counts.active,
        "weight_format": str(result.model.weights),
        "question": question(result.config),
        "answers": [answer(one) for one in result.answers],
        "does_not_fit": [asdict(one) for one in result.unfit],
    }


def question(config: SizeConfig) -> dict[str, Any]:
    """What was asked."""
    workload = config.requests
    return {
        "rate_per_s": config.rate_per_s,
        "input_tokens": workload.mean_input_tokens,
        "output_tokens": workload.mean_output_tokens,
        "cached_prompt": workload.cached_share,
        "max_ttft_s": config.max_ttft_s,
        "max_tpot_s": config.max_tpot_s,
        "within": config.within if config.rate_per_s is not None else None,
        "speculative": config.speculative,
        "context": config.context or workload.longest_tokens,
        "engine": config.engine,
    }


def answer(one: Sized) -> dict[str, Any]:
    """One machine's answer."""
    told = {
        name: getattr(one, name)
        for name in (
            "meets", "reason", "devices", "replicas", "batch", "largest_batch", "rate_per_s",
            "output_tokens_per_s", "total_tokens_per_s", "ttft_s", "tpot_s", "ttft_within_s",
            "tpot_within_s", "weight_bytes", "kv_bytes", "kv_tokens", "memory_bytes",
            "usd_per_hour", "usd_per_million_tokens", "command", "notes",
        )
    }  # fmt: skip
    told |= {"hardware": one.serving.hardware.name, "layout": layout(one.serving)}
    told["floor"] = asdict(one.floor)
    told["confirmed"] = None if one.confirmed is None else asdict(one.confirmed)
    told["two_pools"] = None if one.pools is None else _pools(one.pools)
    return told


def layout(serving: Serving) -> dict[str, Any]:
    """Degrees of parallelism of a replica."""
    return {
        "devices": serving.devices,
        "tensor_parallel": serving.tensor_parallel,
        "data_parallel": serving.data_parallel,
        "pipeline_parallel": serving.pipeline_parallel,
        "expert_parallel": serving.expert_parallel,
    }


def _pools(pools: TwoPools) -> dict[str, Any]:
    return {
        "prefill": _pool(pools.prefill),
        "decode": _pool(pools.decode),
        "devices": pools.devices,
        "ttft_within_s": pools.ttft_s,
        "tpot_within_s": pools.tpot_s,
        "transfer_s": pools.transfer_s,
        "usd_per_hour": pools.usd_per_hour,
    }


def _pool(pool: Pool) -> dict[str, Any]:
    return {
        "replicas": pool.replicas,
        "devices": pool.devices,
        "busy": pool.busy,
        "layout": layout(pool.serving),
    }


def layout_in_short(serving: Serving) -> str:
    """`tp8`, `tp2 dp4 ep`, `pp2 tp8`."""
    degrees = (
        ("pp", serving.pipeline_parallel),
        ("tp", serving.tensor_parallel),
        ("dp", serving.data_parallel),
    )
    parts = [f"{name}{degree}" for name, degree in degrees if degree > 1]
    parts += ["ep"] if serving.expert_parallel else []
    return " ".join(parts) or "-"


def layout_in_words(serving: Serving) -> str:
    """`tensor 8`, `tensor 2 x data 4, whole experts`, `pipeline 2 x tensor 8`."""
    parts = []
    for name, degree in (
        ("pipeline", serving.pipeline_parallel),
        ("tensor", serving.tensor_parallel),
        ("data", serving.data_parallel),
    ):
        if degree > 1:
            parts.append(f"{name} {degree}")
    words = " x ".join(parts) or "1 device"
    return f"{words}, whole experts" if serving.expert_parallel else words
