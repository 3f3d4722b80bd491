"""The least time a step or a prefill can take: bytes and FLOPs over a device's ceilings."""

from __future__ import annotations

from suffice.architecture.counts import (
    decode_flops,
    kv_cache_bytes_per_token,
    lm_head_parameters,
    non_embedding_parameters,
    prefill_flops,
)
from suffice.architecture.shape import Shape
from suffice.throughput.engines.protocol import Ceilings, Lengths

_BYTES = 2


def decode_step_bytes(shape: Shape, batch: int, context: float) -> float:
    """Bytes a decode step must read in bf16: all matrices once, and every sequence's KV cache."""
    weights = non_embedding_parameters(shape) + lm_head_parameters(shape)
    cache = float(kv_cache_bytes_per_token(shape, "bf16")) * context
    return _BYTES * weights + batch * cache


def decode_floor_s(shape: Shape, batch: int, lengths: Lengths, ceilings: Ceilings) -> float:
    """Seconds of one decode step at the lengths's mean KV length, at the ceilings.

    The larger of bytes over copy bandwidth and FLOPs (both attention matmuls, with the output
    matrix) over the matrix rate. Embedding rows, norms and the one new KV entry are left out.
    """
    context = lengths.mean_context
    bytes_s = decode_step_bytes(shape, batch, context) / ceilings.copy_bytes_per_s
    flops = batch * decode_flops(shape, round(context), "matmul", lm_head=True)
    return max(bytes_s, flops / ceilings.matmul_flops_per_s)


def prefill_floor_s(shape: Shape, batch: int, lengths: Lengths, ceilings: Ceilings) -> float:
    """Seconds to prefill the batch at the matrix rate (causal attention, one row of logits)."""
    flops = batch * prefill_flops(shape, lengths.input_tokens, "matmul")
    return flops / ceilings.matmul_flops_per_s
