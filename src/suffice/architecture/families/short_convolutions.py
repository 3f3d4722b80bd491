"""Attention beside short convolutions: the LFM2 family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from suffice.architecture.families.decoder import (
    Feed,
    decoder,
    dense,
    depth,
    feeds,
    grouped,
    hidden,
    layer_kinds,
    routed,
)
from suffice.architecture.families.hybrid import chosen
from suffice.architecture.families.parts import (
    mlp,
    short_convolution,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Model
from suffice.architecture.settings import Settings


@family("lfm2")
def lfm2(s: Settings) -> Model:
    """LFM2: gated short convolutions beside attention."""
    width = s.size("block_ff_dim") if s.has("block_ff_dim") else s.size("intermediate_size")
    if s.flag("block_auto_adjust_ff_dim", True):
        multiple = s.size("block_multiple_of")
        width = int(s.number("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
        width = multiple * math.ceil(width / multiple)
    at = set(s.integers("full_attn_idxs")) if s.has("full_attn_idxs") else set(range(depth(s)))
    kinds = layer_kinds(s, lambda i: "full_attention" if i in at else "conv")
    return _lfm(s, kinds, mlp(hidden(s), width))


@family("lfm2_moe")
def lfm2_moe(s: Settings) -> Model:
    """LFM2 with experts after the first dense layers."""
    if not s.has("layer_types"):
        at = set(s.integers("full_attn_idxs"))
        kinds = layer_kinds(s, lambda i: "full_attention" if i in at else "conv")
    else:
        kinds = layer_kinds(s)
    first = s.count("num_dense_layers")
    return _lfm(s, kinds, feeds(s, lambda i: i >= first, dense(s), routed(s)))


def _lfm(s: Settings, kinds: Sequence[str], feed: Feed | Sequence[Feed]) -> Model:
    made = {
        "conv": short_convolution(hidden(s), s.size("conv_L_cache"), bias=s.flag("conv_bias")),
        "full_attention": grouped(s, qk_norm="head"),
    }
    model = decoder(s, chosen(kinds, made), feed)
    key = "tie_embedding"
    return replace(model, tied=s.flag(key)) if s.has(key) else model


@family("lfm3")
def lfm3(s: Settings) -> Model:
    """LFM3: longer filters, gated and partly sliding attention, norms on both sides."""
    heads = s.size("num_attention_heads")
    gate = heads if s.flag("use_attention_gate") else 0
    made = {
        "conv": short_convolution(hidden(s), s.size("conv_L_cache"), bias=s.flag("conv_bias")),
        "full_attention": grouped(s, qkv_bias="attention_bias", qk_norm="head", gate=gate),
        "sliding_attention": grouped(
            s, s.maybe("sliding_window"), qkv_bias="attention_bias", qk_norm="head", gate=gate
        ),
    }

    def kind(i: int) -> str:
        if i % 4 == 2:
            return "full_attention"
        return "sliding_attention" if i % 4 == 0 and i > 0 else "conv"

    norms = 4 if s.flag("use_sandwich_norm") else 2
    return decoder(s, chosen(layer_kinds(s, kind), made), dense(s), norms=norms)
