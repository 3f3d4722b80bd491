"""Mixtures of experts of 2025 and 2026 whose attention partly slides, is gated or is sparse."""

from __future__ import annotations

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
    sliding_pattern,
    sparse_kinds,
    windows,
)
from suffice.architecture.families.draft import with_draft
from suffice.architecture.families.parts import attention, linear, vectors
from suffice.architecture.families.registry import family
from suffice.architecture.families.sparse import after_dense, attentions, shared_feeds
from suffice.architecture.model import Mixer, Model
from suffice.architecture.settings import Settings


@family("afmoe")
def afmoe(s: Settings) -> Model:
    """Arcee's mixture: an output gate, four norms, a correction that is a parameter."""
    period = s.size("global_attn_every_n_layers", 4)
    width = s.size("num_attention_heads") * head_width(s)
    mixers = attentions(
        s, every(period, "full_attention", "sliding_attention"), qk_norm="head", gate=width
    )
    moe = routed(
        s,
        shared=s.count("num_shared_experts") * s.size("moe_intermediate_size"),
        extra=vectors(s.size("num_experts")),
    )
    where = after_dense(s, "num_dense_layers", 1)
    return decoder(s, mixers, feeds(s, where, dense(s), moe), norms=4)


@family("exaone_moe")
def exaone_moe(s: Settings) -> Model:
    """EXAONE's mixture."""
    mixers = attentions(
        s,
        sliding_pattern(s, 4),
        qkv_bias=False,
        qk_norm="head",
    )
    where = sparse_kinds(s, after_dense(s, "first_k_dense_replace", 1))
    return decoder(
        s, mixers, shared_feeds(s, where, count="num_experts", shared="num_shared_experts")
    )


@family("mimo_v2_flash")
def mimo_v2(s: Settings) -> Model:
    """MiMo-V2-Flash: values narrower than keys, more KV heads and sinks where layers slide."""
    d, heads, kv = hidden(s), s.size("num_attention_heads"), s.size("num_key_value_heads")

    def mixer(window: int | None) -> Mixer:
        slides = window is not None
        ways = s.size("swa_num_key_value_heads", 2 * kv) if slides else kv
        return attention(
            d, heads, ways, head_width(s),
            value_dim=s.size("v_head_dim"),
            query_bias=s.flag("attention_bias"),
            extra=vectors(heads if slides else 0),
            window=window,
        )  # fmt: skip

    kinds = windows(
        s, lambda i: "full_attention" if i == 0 or (i + 1) % 6 == 0 else "sliding_attention"
    )
    made = {window: mixer(window) for window in set(kinds)}
    where = sparse_kinds(s, lambda i: i >= 1)
    feed = feeds(s, where, dense(s), routed(s, count="n_routed_experts"))
    return with_draft(s, decoder(s, [made[w] for w in kinds], feed), "num_nextn_predict_layers")


@family("minimax_m3_vl_text")
def minimax_m3(s: Settings) -> Model:
    """MiniMax-M3: some layers read only the blocks that a small attention picks."""
    sparse = s.mapping("sparse_attention_config")
    pick = {
        "heads": int(sparse.get("sparse_num_index_heads", s.size("index_n_heads"))),
        "dim": int(sparse.get("sparse_index_dim", s.size("index_head_dim"))),
        "block": int(sparse.get("sparse_block_size", s.size("index_block_size"))),
        "top": int(sparse.get("sparse_topk_blocks", s.size("index_topk_blocks"))),
    }
    d = hidden(s)
    full = grouped(s, qk_norm="head")
    index_part = linear(d, pick["heads"] * pick["dim"], "none") + linear(d, pick["dim"], "none")
    index = Mixer(
        kind="index",
        part=index_part + vectors(2 * pick["dim"]),
        cached=pick["dim"],
        pair_flops=2 * pick["heads"] * pick["dim"],
        prefill_pair_flops=2 * pick["heads"] * pick["dim"],
    )
    picked = replace(full, kind="sparse attention", selected=pick["block"] * pick["top"])
    frequency = sparse.get("sparse_attention_freq")
    kinds = layer_kinds(
        s,
        lambda i: "minimax_m3_sparse" if frequency and frequency[i] else "full_attention",
    )
    mixers = [(picked, index) if kind == "minimax_m3_sparse" else full for kind in kinds]
    named = s.get("moe_layer_freq")
    where = sparse_kinds(s, lambda i: bool(named[i]) if isinstance(named, list) else True)
    moe = routed(
        s,
        count="num_local_experts",
        width="intermediate_size",
        shared=s.size("shared_intermediate_size"),
    )
    return decoder(s, mixers, feeds(s, where, dense(s, key="dense_intermediate_size"), moe))


@family("laguna")
def laguna(s: Settings) -> Model:
    """Laguna: heads may differ from layer to layer, each with a gate."""
    layers = depth(s)
    heads = s.integers("num_attention_heads_per_layer") or (s.size("num_attention_heads"),) * layers
    per_head = s.get("gating", True) in (True, "per-head")
    mixers = []
    for window, n in zip(windows(s), heads, strict=True):
        own = Settings({**s.given, "num_attention_heads": n}, s.defaults, {})
        gate = n if per_head else n * head_width(s)
        mixers.append(grouped(own, window, qkv_bias="attention_bias", qk_norm="head", gate=gate))
    moe = routed(
        s, shared=s.size("shared_expert_intermediate_size"), extra=vectors(s.size("num_experts"))
    )
    where = sparse_kinds(s, lambda i: i >= 1)
    return decoder(s, mixers, feeds(s, where, dense(s), moe))


@family("mellum")
def mellum(s: Settings) -> Model:
    """Mellum's mixture."""
    where = sparse_kinds(s, lambda _: True)
    mixers = attentions(s, qk_norm="head")
    model = decoder(s, mixers, feeds(s, where, dense(s), routed(s, count="num_local_experts")))
    return with_draft(s, model, "num_nextn_predict_layers")


@family("kolibri1")
def kolibri(s: Settings) -> Model:
    """Kolibri: four norms, a shared expert."""
    mixers = attentions(
        s, every(5, "full_attention", "sliding_attention"), qkv_bias=False, qk_norm="head"
    )
    moe = routed(s, count="num_local_experts", shared=s.size("shared_expert_intermediate_size"))
    return decoder(s, mixers, moe, norms=4)


@family("flint")
def flint(s: Settings) -> Model:
    """Flint: sinks, a shared expert, dense first layers."""
    layers = depth(s)
    full = {i for i in range(layers) if i < 2 or i % 4 == 1 or i == layers - 1}
    mixers = attentions(
        s,
        lambda i: "full_attention" if i in full else "sliding_attention",
        qk_norm="head",
        sinks=True,
    )
    plain = set(s.integers("mlp_only_layers")) if s.has("mlp_only_layers") else {0, 1}
    step = s.size("decoder_sparse_step", 1)
    moe = routed(s, shared=s.size("shared_expert_intermediate_size"))
    return decoder(
        s, mixers, feeds(s, lambda i: i not in plain and (i + 1) % step == 0, dense(s), moe)
    )


@family("beam")
def beam(s: Settings) -> Model:
    """Beam: an output gate with one bias per head, four norms."""
    layers, heads = depth(s), s.size("num_attention_heads")
    mixers = attentions(
        s,
        lambda i: "full_attention" if (i + 1) % 6 == 0 or i == layers - 1 else "sliding_attention",
        qk_norm="head",
        gate=heads * head_width(s),
        extra=vectors(heads),
    )
    where = sparse_kinds(s, lambda i: i >= min(3, layers))
    return decoder(s, mixers, feeds(s, where, dense(s), routed(s)), norms=4)
