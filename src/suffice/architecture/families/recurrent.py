"""Models that recur in every layer, and those that share one attention block between layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from suffice.architecture.families.decoder import decoder, depth, grouped, hidden
from suffice.architecture.families.hybrid import chosen, expanded, never_tied, rank_of
from suffice.architecture.families.parts import (
    NOTHING,
    attention,
    linear,
    mamba,
    mamba2,
    mlp,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Matrix, Mixer, Model, Part, Run
from suffice.architecture.settings import Settings
from suffice.core.errors import ConfigError


@family("mamba", "falcon_mamba")
def mamba_model(s: Settings) -> Model:
    """Mamba: no attention and no MLP."""
    d = hidden(s)
    # A config may state the width beside an `expand` that does not give it (Falcon Mamba); the
    # width is what the layers are built with.
    inner = s.size("intermediate_size", int(s.number("expand", 2) * d))
    net = mamba(
        d,
        inner,
        state=s.size("state_size"),
        kernel=s.size("conv_kernel"),
        rank=rank_of(s, "time_step_rank", d),
        bias=s.flag("use_bias"),
        conv_bias=s.flag("use_conv_bias", True),
    )
    return decoder(s, net, NOTHING, norms=1)


@family("mamba2")
def mamba2_model(s: Settings) -> Model:
    """Mamba-2: no attention and no MLP."""
    d, heads = hidden(s), s.size("num_heads")
    inner = int(s.number("expand", 2) * d)
    net = mamba2(
        d,
        inner,
        heads=heads,
        groups=s.size("n_groups", 8),
        state=s.size("state_size"),
        kernel=s.size("conv_kernel"),
        bias=s.flag("use_bias"),
        conv_bias=s.flag("use_conv_bias", True),
    )
    return decoder(s, net, NOTHING, norms=1)


@family("recurrent_gemma")
def recurrent_gemma(s: Settings) -> Model:
    """RecurrentGemma: gated linear recurrences beside local attention (arXiv:2404.07839)."""
    d, heads = hidden(s), s.size("num_attention_heads")
    width = s.size("lru_width", d)
    block = width // heads
    gates = Part((Matrix(block, heads * block),) * 2, 2 * heads * block)
    net = Mixer(
        kind="recurrent",
        part=linear(d, width, bias=True) + linear(d, width, bias=True)
        + linear(width, d, "inputs", bias=True)
        + vectors(width * (s.size("conv1d_width") + 1) + width)
        + gates,
        token_flops=20 * width,
        state=width * (1 + s.size("conv1d_width")),
        state_heads=width,
    )  # fmt: skip
    local = grouped(
        s, s.maybe("attention_window_size"), qkv_bias="attention_bias", output_bias=True
    )
    pattern = s.get("block_types") or ("recurrent", "recurrent", "attention")
    kinds = [str(pattern[i % len(pattern)]) for i in range(depth(s))]
    mixers = chosen(kinds, {"recurrent": net, "attention": local})
    return decoder(s, mixers, mlp(d, s.size("intermediate_size") // 2, bias=True))


@family("xlstm")
def xlstm(s: Settings) -> Model:
    """xLSTM 7B: matrix-memory cells."""
    d = s.size("hidden_size", s.maybe("embedding_dim"))
    layers = s.maybe("num_blocks") or s.size("num_hidden_layers")
    heads, bias = s.size("num_heads"), s.flag("use_bias")

    def up(width: float, multiple: int) -> int:
        return int(math.ceil(width / multiple) * multiple)

    keys = up(d * s.number("qk_dim_factor", 0.5), 64)
    values = up(d * s.number("v_dim_factor", 1.0), 64)
    part = linear(d, keys, bias=bias) + linear(d, keys, bias=bias) + linear(d, values, bias=bias)
    part += linear(d, values, bias=bias) + linear(d, 2 * heads, bias=True)
    part += linear(values, d, "inputs", bias=bias) + vectors(values * (2 if bias else 1))
    net = Mixer(
        kind="recurrent",
        part=part,
        token_flops=6 * keys * values // heads,
        state=keys * values // heads + keys + heads,
        state_heads=heads,
    )
    width = up(d * s.number("ffn_proj_factor", 2.667), s.size("ffn_round_up_to_multiple_of"))
    named = Settings({**s.given, "hidden_size": d, "num_hidden_layers": layers}, s.defaults, {})
    feed = mlp(d, width, bias=bias)
    return never_tied(decoder(named, net, feed, norm_bias=bias, final_norm=vectors(d)))


@family("rwkv")
def rwkv(s: Settings) -> Model:
    """RWKV-4: time mixing and channel mixing, a small state and no cache."""
    d = hidden(s)
    wide, inner = s.size("attention_hidden_size", d), s.size("intermediate_size", 4 * d)
    net = Mixer(
        kind="recurrent",
        part=linear(d, wide) + linear(d, wide) + linear(d, wide) + linear(wide, d, "inputs")
        + vectors(2 * wide + 3 * d),
        token_flops=20 * wide,
        state=5 * wide,
        state_heads=wide,
    )  # fmt: skip
    channel = linear(d, inner) + linear(d, d) + linear(inner, d, "inputs") + vectors(2 * d)
    return decoder(s, net, channel, norm_bias=True, body=vectors(2 * d))


@family("zamba")
def zamba(s: Settings) -> Model:
    """Zamba: Mamba layers and one attention block that several layers use."""
    d = hidden(s)
    wide = s.size("attention_hidden_size", 2 * d)
    heads = s.size("num_attention_heads")
    each = s.size("attention_head_dim", 2 * d // heads)
    inner = expanded(s)
    rank, state = rank_of(s, "mamba_dt_rank", d), s.size("mamba_d_state")
    # Its projections are split into one block per Mamba head, which together are as large as one.
    net = mamba(
        d, inner, state=state, kernel=s.size("mamba_d_conv"), rank=rank,
        bias=s.flag("mamba_proj_bias"), conv_bias=s.flag("mamba_conv_bias", True),
    )  # fmt: skip
    kinds = s.names("layers_block_type", depth(s)) or tuple(
        "hybrid"
        if i == 2
        or (i > 2 and (i - 3) % s.size("attn_layer_period") == s.count("attn_layer_offset"))
        else "linear_attention"
        for i in range(depth(s))
    )
    shared = Block(
        mixers=(attention(d, heads, s.size("num_key_value_heads"), each, inputs=wide),),
        mlp=mlp(d, s.size("intermediate_size")),
        rest=vectors(wide + d),
    )
    return _shared_attention(s, kinds, net, shared, linear(d, d))


@family("zamba2")
def zamba2(s: Settings) -> Model:
    """Zamba2: Mamba-2 layers and a few attention blocks that layers take in turns."""
    d, heads = hidden(s), s.size("num_attention_heads")
    width = s.size("intermediate_size", 4 * d)
    inner = int(s.number("mamba_expand", 2) * d)
    biased = s.flag("add_bias_linear")
    net = mamba2(
        d, inner, heads=s.size("n_mamba_heads"), groups=s.size("mamba_ngroups"),
        state=s.size("mamba_d_state"), kernel=s.size("mamba_d_conv"), bias=biased,
    )  # fmt: skip
    kinds = s.names("layers_block_type", depth(s)) or _zamba2_kinds(s)
    uses = sum(kind == "hybrid" for kind in kinds)
    blocks = s.size("num_mem_blocks")
    rank = s.size("adapter_rank")
    adapter = linear(d, rank, "none") + linear(rank, 2 * width)
    if s.flag("use_shared_attention_adapter"):
        for _ in range(3):
            adapter += linear(2 * d, rank, "none") + linear(rank, 2 * d)
    each = 2 * d // heads
    core = attention(d, heads, s.size("num_key_value_heads", heads), each, inputs=2 * d)
    shared = Block(mixers=(core,), mlp=mlp(d, width, bias=biased), rest=vectors(2 * d + d))
    return _shared_attention(
        s, kinds, net, shared, linear(d, d) + adapter, stored=min(blocks, uses)
    )


def _zamba2_kinds(s: Settings) -> tuple[str, ...]:
    m, h = "linear_attention", "hybrid"
    layers, where = depth(s), s.integers("hybrid_layer_ids")
    if where:
        return tuple(h if i in where else m for i in range(layers))
    usual = (m, *(((m,) * 5 + (h,)) * 7), *((m,) * 4), h, *((m,) * 3), h, *((m,) * 2))
    if layers != len(usual):
        raise ConfigError(
            f"a zamba2 of {layers} layers must say which of them attend: layers_block_type or "
            "hybrid_layer_ids"
        )
    return usual


def _shared_attention(
    s: Settings,
    kinds: Sequence[str],
    net: Mixer,
    shared: Block,
    own: Part,
    *,
    stored: int = 1,
) -> Model:
    """Recurrent layers, some of which run a shared block first; `own` is what they add to it."""
    uses = sum(kind == "hybrid" for kind in kinds)
    plain = Block(mixers=(net,), rest=vectors(hidden(s)))
    mixed = Block(mixers=(net,), rest=vectors(hidden(s)) + own)
    counted = Settings({**s.given, "num_hidden_layers": len(kinds)}, s.defaults, {})
    model = decoder(counted, net, NOTHING)
    runs = [Run(plain, len(kinds) - uses, len(kinds) - uses)]
    if uses:
        runs += [Run(mixed, uses, uses), Run(shared, uses, stored)]
    return replace(model, runs=tuple(run for run in runs if run.layers))
