"""Gemma 3n and 4: embeddings per layer, shared caches, wider heads where all is attended to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suffice.architecture.families.decoder import (
    assembled,
    depth,
    every,
    grouped,
    head_width,
    hidden,
    layer_kinds,
)
from suffice.architecture.families.parts import (
    NOTHING,
    experts,
    linear,
    mlp,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Experts, Mixer, Model, Part
from suffice.architecture.settings import Settings
from suffice.core.errors import ConfigError


@family("gemma3n_text")
def gemma3n(s: Settings) -> Model:
    """Gemma 3n: four streams, LAuReL, per-layer embeddings; the last layers share caches."""
    d, layers = hidden(s), depth(s)
    streams, rank = s.size("altup_num_inputs"), s.size("laurel_rank")
    each = s.size("hidden_size_per_layer_input")
    table = s.size("vocab_size_per_layer_input")
    widths = _widths(s, layers)
    kinds = layer_kinds(s, every(5, "full_attention", "sliding_attention"))
    first_shared = layers - s.count("num_kv_shared_layers")
    altup = Part(
        linear(streams, streams, "none").matrices
        + linear(streams, streams * streams, "none").matrices
        + linear(d, streams, "none").matrices,
        2 * d,
    )
    laurel = linear(d, rank, "none") + linear(rank, d, "none") + vectors(d)
    inputs = linear(d, each, "none") + linear(each, d, "none") + vectors(d)
    window = s.maybe("sliding_window")
    blocks = [
        Block(
            mixers=(
                grouped(
                    s,
                    window if kind == "sliding_attention" else None,
                    qkv_bias="attention_bias",
                    qk_norm="head",
                    own_keys=i < first_shared,
                ),
            ),
            mlp=mlp(d, widths[i]),
            rest=vectors(4 * d) + altup + laurel + inputs,
        )
        for i, kind in enumerate(kinds)
    ]
    body = vectors(d + each) + linear(d, layers * each, "none")
    for _ in range(2 * (streams - 1)):
        body += linear(d, d, "none")
    return assembled(s, blocks, body=body, lookup=table * layers * each)


def _widths(s: Settings, layers: int) -> Sequence[int]:
    value = s.get("intermediate_size")
    if isinstance(value, list | tuple):
        if len(value) != layers:
            raise ConfigError(f"intermediate_size has {len(value)} entries for {layers} layers")
        return s.integers("intermediate_size")
    return (s.size("intermediate_size"),) * layers


@family("gemma4_text", "gemma4_unified_text")
def gemma4(s: Settings) -> Model:
    """Gemma 4: wider heads, and perhaps fewer KV heads, in the layers that attend to everything."""
    d, layers = hidden(s), depth(s)
    kinds = list(layer_kinds(s, every(6, "full_attention", "sliding_attention")))
    kinds[-1] = "full_attention"
    first_shared = layers - s.count("num_kv_shared_layers", 0)
    each = s.count("hidden_size_per_layer_input", 0)
    wide_mlp = s.flag("use_double_wide_mlp")
    moe = _gemma_experts(s) if s.flag("enable_moe_block") else None
    more = vectors(3 * d) if moe else NOTHING
    if each:
        more += linear(d, each, "none") + linear(each, d, "none") + vectors(d)
    blocks = []
    for i, kind in enumerate(kinds):
        shared = i >= first_shared
        width = s.size("intermediate_size") * (2 if wide_mlp and shared else 1)
        blocks.append(
            Block(
                mixers=(_gemma4_attention(s, i, kind, shared=shared),),
                mlp=mlp(d, width),
                experts=(moe,) if moe else (),
                rest=vectors(4 * d) + more,
            )
        )
    body, lookup = vectors(d), 0
    if each:
        body += linear(d, layers * each, "none") + vectors(each)
        lookup = s.size("vocab_size_per_layer_input") * layers * each
    return assembled(s, blocks, body=body, lookup=lookup)


def _gemma4_attention(s: Settings, layer: int, kind: str, *, shared: bool) -> Mixer:
    sliding = kind == "sliding_attention"
    own = _overrides(s, layer)
    alternative = s.flag("attention_k_eq_v") and not sliding
    if own is None:
        width = head_width(s) if sliding else s.size("global_head_dim", 512)
        kv = s.maybe("num_global_key_value_heads") if alternative else None
    else:
        width = int(own.get("head_dim", head_width(s)))
        kv = own.get("num_key_value_heads")
    return grouped(
        s,
        s.maybe("sliding_window") if sliding else None,
        qkv_bias="attention_bias",
        qk_norm="head",
        head_dim=width,
        kv_heads=int(kv) if kv else None,
        own_keys=not shared,
        own_values=not alternative,
    )


def _overrides(s: Settings, layer: int) -> Mapping[str, Any] | None:
    """What `per_layer_config` says of a layer; None where the config has no such object."""
    table = s.get("per_layer_config")
    if not isinstance(table, Mapping):
        return None
    found = {int(key): value for key, value in table.items()}.get(layer, {})
    return found if isinstance(found, Mapping) else {}


def _gemma_experts(s: Settings) -> Experts:
    d, count = hidden(s), s.size("num_experts")
    return experts(
        d,
        s.size("moe_intermediate_size"),
        count,
        s.size("top_k_experts"),
        shared=vectors(d + count),
    )
