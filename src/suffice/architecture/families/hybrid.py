"""Attention beside recurrent layers: state spaces, delta rules, short convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from suffice.architecture.families.decoder import (
    decoder,
    dense,
    depth,
    every,
    feeds,
    grouped,
    head_width,
    hidden,
    layer_kinds,
    routed,
    sparse_kinds,
)
from suffice.architecture.families.draft import with_draft
from suffice.architecture.families.latent import deepseek_feeds, latent
from suffice.architecture.families.parts import (
    NOTHING,
    delta_net,
    experts,
    linear,
    mamba,
    mamba2,
    mlp,
    plain_mlp,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Experts, Mixer, Model, runs_of
from suffice.architecture.settings import Settings
from suffice.core.errors import ConfigError


def rank_of(s: Settings, key: str, width: int) -> int:
    """Rank of the time step; "auto" is a sixteenth of `width`."""
    value = s.get(key, "auto")
    return math.ceil(width / 16) if value == "auto" else s.size(key)


def chosen(kinds: Sequence[str], mixers: dict[str, Mixer]) -> list[Mixer]:
    """The mixer of each layer; raises ConfigError for a kind that the family has not."""
    unknown = sorted(set(kinds) - set(mixers))
    if unknown:
        raise ConfigError(
            f"layer_types names {', '.join(unknown)}; known here: {', '.join(sorted(mixers))}"
        )
    return [mixers[kind] for kind in kinds]


def _gated_delta(s: Settings, *, gate_extra: int = 0) -> Mixer:
    """Qwen's gated delta net: a gate as wide as the values, two scalars per value head."""
    d = hidden(s)
    key_heads, value_heads = s.size("linear_num_key_heads"), s.size("linear_num_value_heads")
    value_dim = s.size("linear_value_head_dim")
    extra = linear(d, value_heads * value_dim) + linear(d, 2 * value_heads)
    return delta_net(
        d,
        key_heads=key_heads,
        value_heads=value_heads,
        key_dim=s.size("linear_key_head_dim"),
        value_dim=value_dim,
        kernel=s.size("linear_conv_kernel_dim"),
        extra=extra,
        decays=2 * value_heads + gate_extra,
    )


@family("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "lara_mini")
def qwen_next(s: Settings) -> Model:
    """Qwen3-Next, Qwen3.5: three gated delta nets to one gated attention."""
    model_type = str(s.get("model_type"))
    width = s.size("num_attention_heads") * head_width(s)
    plain = model_type == "lara_mini"
    gate = 0 if plain else width
    # Query and gate come from one projection, so the gate has a bias where queries do.
    more = vectors(gate if s.flag("attention_bias") else 0)
    made = {
        "linear_attention": _gated_delta(s),
        "full_attention": grouped(
            s, qkv_bias="attention_bias", qk_norm="head", gate=gate, extra=more
        ),
        "sliding_attention": grouped(
            s, s.maybe("sliding_window"), qkv_bias="attention_bias", qk_norm="head", gate=gate,
            extra=more,
        ),
    }  # fmt: skip
    interval = s.size("full_attention_interval", 4)
    pattern = ("linear_attention", "sliding_attention", "linear_attention", "full_attention",
               "sliding_attention")  # fmt: skip
    kinds = layer_kinds(
        s,
        (lambda i: pattern[i % 5])
        if plain
        else every(interval, "full_attention", "linear_attention"),
    )
    mixers = chosen(kinds, made)
    if model_type == "qwen3_5_text":
        return with_draft(s, decoder(s, mixers, dense(s)), "mtp_num_hidden_layers")
    moe = routed(s, shared=s.size("shared_expert_intermediate_size"), shared_gate=not plain)
    only = set(s.integers("mlp_only_layers"))
    step = s.size("decoder_sparse_step", 1)
    where: Callable[[int], bool] = lambda i: i not in only and (i + 1) % step == 0  # noqa: E731
    dense_part = dense(s) if s.get("intermediate_size") else NOTHING
    model = decoder(s, mixers, feeds(s, where, dense_part, moe))
    return with_draft(s, model, "mtp_num_hidden_layers")


@family("olmo_hybrid")
def olmo_hybrid(s: Settings) -> Model:
    """OLMo Hybrid: norms before its delta nets, behind its attention."""
    d, heads = hidden(s), s.size("num_attention_heads")
    key_heads = s.size("linear_num_key_heads", heads)
    value_heads = s.size("linear_num_value_heads", heads)
    key_dim = s.size("linear_key_head_dim", int(0.75 * d / key_heads))
    value_dim = s.size("linear_value_head_dim", 2 * key_dim)
    net = delta_net(
        d,
        key_heads=key_heads,
        value_heads=value_heads,
        key_dim=key_dim,
        value_dim=value_dim,
        kernel=s.size("linear_conv_kernel_dim"),
        extra=linear(d, value_heads * value_dim) + linear(d, 2 * value_heads),
        decays=2 * value_heads,
    )
    full = grouped(s, qkv_bias="attention_bias", qk_norm="full")
    kinds = list(layer_kinds(s, every(4, "full_attention", "linear_attention")))
    if not s.has("layer_types") and "full_attention" not in kinds:
        kinds[-1] = "full_attention"
    mixers = chosen(kinds, {"linear_attention": net, "full_attention": full})
    return decoder(s, mixers, dense(s))


@family("kimi_linear")
def kimi_linear(s: Settings) -> Model:
    """Kimi Linear: Kimi delta attention (arXiv:2510.26692) beside latent attention."""
    d, nested = hidden(s), s.mapping("linear_attn_config")
    heads = int(nested.get("num_heads", s.size("linear_num_heads")))
    width = int(nested.get("head_dim", s.size("linear_head_dim")))
    kernel = int(nested.get("short_conv_kernel_size", s.size("linear_conv_kernel_dim")))
    low_rank = linear(d, width, "none") + linear(width, heads * width)
    net = delta_net(
        d,
        key_heads=heads,
        value_heads=heads,
        key_dim=width,
        value_dim=width,
        kernel=kernel,
        extra=low_rank + low_rank + linear(d, heads),
        decays=heads * width + heads,
    )
    full = {int(i) - 1 for i in nested.get("full_attn_layers", ())}
    kinds = layer_kinds(
        s,
        lambda i: (
            "full_attention"
            if (i in full if full else bool(i and i % 4 == 0))
            else "linear_attention"
        ),
    )
    mixers = chosen(kinds, {"linear_attention": net, "full_attention": latent(s)})
    first = s.count("first_k_dense_replace", 1)
    where = sparse_kinds(s, lambda i: i >= first)
    return never_tied(decoder(s, mixers, deepseek_feeds(s, where, count="num_experts")))


@family("bailing_hybrid")
def bailing_hybrid(s: Settings) -> Model:
    """Ling and Ring hybrids: the same, with wide gates and a gate per head on attention."""
    d, heads = hidden(s), s.size("num_attention_heads")
    width = s.size("linear_head_dim", s.size("head_dim", 128))
    net = delta_net(
        d,
        key_heads=heads,
        value_heads=heads,
        key_dim=width,
        value_dim=width,
        kernel=s.size("short_conv_kernel_size"),
        extra=linear(d, heads * width) + linear(d, heads * width) + linear(d, heads),
        decays=heads * width + heads,
    )
    group = s.size("layer_group_size")
    kinds = layer_kinds(s, every(group, "full_attention", "linear_attention"))
    full = latent(s, extra=linear(d, heads))
    mixers = chosen(kinds, {"linear_attention": net, "full_attention": full})
    first = s.count("first_k_dense_replace", 2)
    where = sparse_kinds(s, lambda i: i >= first)
    shared = s.count("n_shared_experts", 0) * s.size("moe_intermediate_size")
    model = decoder(s, mixers, deepseek_feeds(s, where, count="num_experts", shared_width=shared))
    return with_draft(s, never_tied(model), "num_nextn_predict_layers")


def never_tied(model: Model) -> Model:
    """Families whose output matrix is one of its own whatever the config says."""
    return replace(model, tied=False)


@family("minimax", "minimax_text_01", "minimax_m1")
def minimax(s: Settings) -> Model:
    """MiniMax-Text-01 and M1: lightning attention beside full attention, experts everywhere."""
    d, heads = hidden(s), s.size("num_attention_heads")
    width = head_width(s)
    wide = heads * width
    net = Mixer(
        kind="linear attention",
        part=linear(d, 3 * wide) + linear(wide, d, "inputs") + linear(d, wide) + vectors(wide),
        token_flops=4 * heads * width * width,
        state=heads * width * width,
        state_heads=heads,
    )
    named = s.get("attn_type_list")
    kinds = layer_kinds(
        s,
        (lambda i: "full_attention" if named[i] else "linear_attention")
        if isinstance(named, list)
        else every(2, "linear_attention", "full_attention"),
    )
    full = grouped(s, s.maybe("sliding_window"))
    mixers = chosen(kinds, {"linear_attention": net, "full_attention": full})
    return decoder(s, mixers, routed(s, count="num_local_experts", width="intermediate_size"))


def _mamba2(
    s: Settings, *, inner: int, heads: str = "mamba_n_heads", gate_norm: bool = True
) -> Mixer:
    return mamba2(
        hidden(s),
        inner,
        heads=s.size(heads),
        groups=s.size("mamba_n_groups", 1),
        state=s.size("mamba_d_state"),
        kernel=s.size("mamba_d_conv"),
        bias=s.flag("mamba_proj_bias"),
        conv_bias=s.flag("mamba_conv_bias", True),
        gate_norm=gate_norm,
    )


def expanded(s: Settings) -> int:
    """Channels of a state space: mamba_expand times the hidden size."""
    return int(s.number("mamba_expand", 2) * hidden(s))


@family("bamba")
def bamba(s: Settings) -> Model:
    """Bamba: Mamba-2 with attention at the listed layers."""
    at = set(s.integers("attn_layer_indices"))
    made = {
        "linear_attention": _mamba2(s, inner=expanded(s)),
        "full_attention": grouped(s, qkv_bias="attention_bias"),
    }
    kinds = ["full_attention" if i in at else "linear_attention" for i in range(depth(s))]
    return decoder(s, chosen(kinds, made), dense(s, bias="mlp_bias"))


@family("granitemoehybrid")
def granite_hybrid(s: Settings) -> Model:
    """Granite 4: Mamba-2 beside attention, a shared MLP, experts if it has any."""
    made = {
        "linear_attention": _mamba2(s, inner=expanded(s)),
        "full_attention": grouped(s, qkv_bias="attention_bias"),
    }
    kinds = layer_kinds(s, lambda _: "linear_attention")
    shared = s.count("shared_intermediate_size", 0)
    if s.count("num_local_experts", 0):
        feed = routed(s, count="num_local_experts", width="intermediate_size", shared=shared)
        return decoder(s, chosen(kinds, made), feed)
    return decoder(s, chosen(kinds, made), mlp(hidden(s), shared))


@family("falcon_h1")
def falcon_h1(s: Settings) -> Model:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    inner = s.maybe("mamba_d_ssm") or expanded(s)
    net = _mamba2(s, inner=inner, gate_norm=s.flag("mamba_rms_norm"))
    d = hidden(s)
    if s.flag("projectors_bias") != s.flag("mamba_proj_bias"):
        change = d if s.flag("projectors_bias") else -d
        net = replace(net, part=net.part + vectors(change))
    pair = (net, grouped(s, qkv_bias="attention_bias"))
    return decoder(s, [pair] * depth(s), dense(s, bias="mlp_bias"))


@family("nemotron_h", "nemotron_h_puzzle")
def nemotron_h(s: Settings) -> Model:
    """Nemotron-H and Nemotron 3: each layer is one mixer, one MLP or experts, behind one norm."""
    d = hidden(s)
    heads, width = s.size("mamba_num_heads"), s.size("mamba_head_dim")
    net = mamba2(
        d,
        heads * width,
        heads=heads,
        groups=s.size("mamba_n_groups", s.size("n_groups", 8)),
        state=s.size("ssm_state_size"),
        kernel=s.size("mamba_d_conv", s.size("conv_kernel", 4)),
        bias=s.flag("use_bias"),
        conv_bias=s.flag("mamba_conv_bias", s.flag("use_conv_bias", True)),
    )
    older = None if s.has("head_dim") else s.maybe("attention_head_dim")
    full = grouped(s, head_dim=older or s.size("head_dim", 128))

    def block(kind: str) -> Block:
        if kind == "linear_attention":
            return Block(mixers=(net,), rest=vectors(d))
        if kind == "full_attention":
            return Block(mixers=(full,), rest=vectors(d))
        if kind == "mlp":
            plain = plain_mlp(d, s.size("intermediate_size"), bias=s.flag("mlp_bias"))
            return Block(mlp=plain, rest=vectors(d))
        return Block(experts=(_nemotron_experts(s),), rest=vectors(d))

    kinds = _nemotron_kinds(s)
    known = {"linear_attention", "full_attention", "mlp", "moe"}
    unknown = sorted(set(kinds) - known)
    if unknown:
        raise ConfigError(
            f"layers_block_type names {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    # Only kinds that occur: sizes of others would be named as taken from the defaults.
    blocks = {kind: block(kind) for kind in sorted(set(kinds))}
    counted = Settings({**s.given, "num_hidden_layers": len(kinds)}, s.defaults, {})
    model = decoder(counted, full, NOTHING)
    return replace(model, runs=runs_of(blocks[kind] for kind in kinds), tied=False)


def _nemotron_kinds(s: Settings) -> tuple[str, ...]:
    names = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe",
             "mamba": "linear_attention", "attention": "full_attention"}  # fmt: skip
    pattern = s.get("hybrid_override_pattern")
    listed = s.get("layers_block_type") or s.get("layer_types")
    if listed is None:
        listed = list(pattern) if isinstance(pattern, str) else (
            "linear_attention", "moe", "full_attention", "mlp"
        )  # fmt: skip
    return tuple(names.get(str(item), str(item)) for item in listed if item != "|")


def _nemotron_experts(s: Settings) -> Experts:
    d = hidden(s)
    narrow = s.maybe("moe_latent_size")
    bias = s.flag("mlp_bias")
    shared = plain_mlp(d, s.size("moe_shared_expert_intermediate_size"), bias=bias)
    count = s.size("n_routed_experts")
    if narrow:
        shared += linear(d, narrow, "none", bias=bias) + linear(narrow, d, "none", bias=bias)
    return experts(
        narrow or d,
        s.size("moe_intermediate_size"),
        count,
        s.size("num_experts_per_tok"),
        gated=False,
        router=linear(d, count, "none"),
        shared=shared,
    )


@family("jamba")
def jamba(s: Settings) -> Model:
    """Jamba: one attention to seven Mambas, experts in every other layer."""
    d, inner = hidden(s), expanded(s)
    rank, state = rank_of(s, "mamba_dt_rank", d), s.size("mamba_d_state")
    net = mamba(
        d,
        inner,
        state=state,
        kernel=s.size("mamba_d_conv"),
        rank=rank,
        bias=s.flag("mamba_proj_bias"),
        conv_bias=s.flag("mamba_conv_bias", True),
        extra=vectors(rank + 2 * state),
    )
    period, offset = s.size("attn_layer_period"), s.count("attn_layer_offset")
    kinds = [
        "full_attention" if i % period == offset else "linear_attention" for i in range(depth(s))
    ]
    mixers = chosen(kinds, {"linear_attention": net, "full_attention": grouped(s)})
    step, first = s.size("expert_layer_period"), s.count("expert_layer_offset")
    many = s.size("num_experts") > 1
    moe = routed(s, width="intermediate_size") if many else dense(s)
    return decoder(s, mixers, [moe if i % step == first else dense(s) for i in range(depth(s))])
