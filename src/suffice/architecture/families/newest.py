"""Families of 2026 with parts of their own: compressed caches, hyper-connections, gated norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from suffice.architecture.families.decoder import (
    Feed,
    assembled,
    decoder,
    dense,
    depth,
    feeds,
    grouped,
    hidden,
    layer_kinds,
    routed,
    sparse_kinds,
)
from suffice.architecture.families.latent import deepseek_feeds, latent
from suffice.architecture.families.parts import (
    attention,
    indexer,
    latent_attention,
    linear,
    norm,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Matrix, Mixer, Model, Part
from suffice.architecture.settings import Settings


def _hyper_connection(d: int, streams: int, outputs: int, scales: int) -> Part:
    """Learned mixing of `streams` residual streams (arXiv:2409.19606)."""
    return linear(streams * d, outputs, "none") + vectors(outputs + scales)


def _hyper_head(d: int, streams: int) -> Part:
    return linear(streams * d, streams, "none") + vectors(streams + 1)


@family("deepseek_v4")
def deepseek_v4(s: Settings) -> Model:
    """DeepSeek-V4: a short window, and behind it entries that stand for 4 or 128 tokens each."""
    d, layers, streams = hidden(s), depth(s), s.size("hc_mult")
    rates = {
        "compressed_sparse_attention": 4,
        "heavily_compressed_attention": 128,
        **{str(k): int(v) for k, v in s.mapping("compress_rates").items()},
    }
    for key, name in (("compress_rate_csa", "compressed_sparse_attention"),
                      ("compress_rate_hca", "heavily_compressed_attention")):  # fmt: skip
        if s.has(key):
            rates[name] = s.size(key)
    by_ratio = {0: "sliding_attention", 4: "compressed_sparse_attention",
                128: "heavily_compressed_attention"}  # fmt: skip
    ratios = s.get("compress_ratios")

    def kind(i: int) -> str:
        if ratios:
            return by_ratio[int(ratios[i])]
        early = i < 2 or i % 2 == 0
        return "heavily_compressed_attention" if early else "compressed_sparse_attention"

    # A config lists the layers of its multi-token prediction too.
    named = s.get("layer_types")
    kinds = [str(name) for name in named[:layers]] if named else [kind(i) for i in range(layers)]
    mixers = {name: _v4_mixers(s, name, rates.get(name)) for name in set(kinds)}
    width = s.size("moe_intermediate_size")
    moe = routed(s, count="n_routed_experts", shared=width, shared_bias=s.flag("mlp_bias"))
    mix = _hyper_connection(d, streams, 2 * streams + streams * streams, 3)
    blocks = [
        Block(mixers=mixers[name], experts=(moe,), rest=vectors(2 * d) + mix + mix)
        for name in kinds
    ]
    return assembled(s, blocks, body=norm(d) + _hyper_head(d, streams))


def _v4_mixers(s: Settings, kind: str, rate: int | None) -> tuple[Mixer, ...]:
    d, heads, width = hidden(s), s.size("num_attention_heads"), s.size("head_dim")
    rank, groups, out = s.size("q_lora_rank"), s.size("o_groups"), s.size("o_lora_rank")
    part = linear(d, rank, "none") + norm(rank) + linear(rank, heads * width)
    part += linear(d, width, "none") + norm(width) + vectors(heads)
    part += linear(heads * width // groups, groups * out) + linear(groups * out, d, "inputs")
    pair = 4 * heads * width
    local = Mixer(
        kind="sliding attention",
        part=part,
        cached=width,
        window=s.size("sliding_window"),
        pair_flops=pair,
        prefill_pair_flops=pair,
    )
    if rate is None:
        return (local,)
    sparse = kind == "compressed_sparse_attention"
    wide = 2 * width if sparse else width
    compressor = linear(d, wide, "none") + linear(d, wide, "none") + vectors(rate * wide)
    far = Mixer(
        kind="compressed attention",
        part=compressor + norm(width),
        cached=width,
        stride=rate,
        selected=s.size("index_topk") if sparse else None,
        pair_flops=pair,
        prefill_pair_flops=pair,
    )
    if not sparse:
        return (local, far)
    index_heads, index_width = s.size("index_n_heads"), s.size("index_head_dim")
    index = linear(d, 2 * index_width, "none") + linear(d, 2 * index_width, "none")
    index += vectors(rate * 2 * index_width) + norm(index_width)
    index += linear(rank, index_heads * index_width, "none") + linear(d, index_heads, "none")
    scored = 2 * index_heads * index_width
    picks = Mixer(
        kind="index", part=index, cached=index_width, stride=rate,
        pair_flops=scored, prefill_pair_flops=scored,
    )  # fmt: skip
    return (local, far, picks)


@family("hy_v4")
def hy_v4(s: Settings) -> Model:
    """Hunyuan 4: sparse latent attention with an output gate, sinks and hyper-connections."""
    d, layers, heads = hidden(s), depth(s), s.size("num_attention_heads")
    streams = s.size("hc_mult")
    gate = linear(d, heads * s.size("v_head_dim")) + vectors(heads)
    main = latent(s, extra=gate, selected=s.size("index_topk"))
    index = indexer(d, s.size("q_lora_rank"), s.size("index_n_heads"), s.size("index_head_dim"))
    named = s.names("indexer_types", layers)
    own = (
        tuple(name == "full" for name in named)
        if named
        else tuple(i == 0 or (i - 1) % 4 == 0 for i in range(layers))
    )
    mixers = [(main, index) if has else main for has in own]
    where = sparse_kinds(s, lambda i: i >= 1)
    mix = _hyper_connection(d, streams, 2 * streams, 2)
    return decoder(
        s, mixers, deepseek_feeds(s, where), layer=mix + mix, body=_hyper_head(d, streams)
    )


@family("axk2")
def axk2(s: Settings) -> Model:
    """A.X K2: queries come with an output gate, norms carry a small MLP."""
    d, heads = hidden(s), s.size("num_attention_heads")
    query, cache = s.size("q_lora_rank"), s.size("kv_lora_rank")
    plain, rotary, value = (
        s.size("qk_nope_head_dim"), s.size("qk_rope_head_dim"), s.size("v_head_dim"),
    )  # fmt: skip
    base = latent_attention(
        d, heads, query_rank=query, cache_rank=cache, plain_dim=plain, rotary_dim=rotary,
        value_dim=value, bias=s.flag("attention_bias"), selected=s.size("index_topk"),
    )  # fmt: skip
    # The query's up-projection reads the latent twice as wide and gives the gate as well.
    wider = Matrix(query, heads * (plain + rotary), "outputs")
    fused = Matrix(2 * query, heads * (plain + rotary + value), "outputs")
    matrices = tuple(fused if matrix == wider else matrix for matrix in base.part.matrices)
    main = replace(base, part=Part(matrices, base.part.vectors))
    index = indexer(d, query, s.size("index_n_heads"), s.size("index_head_dim"))
    rank = s.size("gated_norm_rank")
    gated = linear(d, rank, "none") + linear(rank, d, "none")
    first = s.count("first_k_dense_replace", 1)
    where = sparse_kinds(s, lambda i: i >= first)
    rest = [gated + gated if where(i) else gated for i in range(depth(s))]
    return decoder(s, [(main, index)] * depth(s), deepseek_feeds(s, where), layer=rest)


@family("dots3_note_text")
def dots3_note(s: Settings) -> Model:
    """dots 3: sparse latent attention beside latent attention over a window."""
    d, layers = hidden(s), depth(s)
    rotary = s.size("qk_rope_head_dim")
    heads = s.size("num_attention_heads")
    dsa = s.get("use_dsa", True)
    full_kind = "indexed_attention" if dsa else "full_attention"
    slides = s.flag("use_sliding_window", True)
    kinds = layer_kinds(
        s,
        lambda i: full_kind if not slides or i < 2 or i % 4 == 1 else "sliding_attention",
    )
    extra = vectors(rotary) + linear(d, heads)
    index = indexer(d, s.size("q_lora_rank"), s.size("index_n_heads"), s.size("index_head_dim"))
    main: Mixer | tuple[Mixer, ...] = (
        (latent(s, extra=extra, selected=s.size("index_topk")), index)
        if dsa
        else latent(s, extra=extra)
    )
    local = _dots3_local(s, kinds)
    where = sparse_kinds(s, lambda i: i >= s.count("first_k_dense_replace", 1))
    shared = s.size("shared_experts_intermediate_size") * s.count("n_shared_experts", 1)
    mixers = [local if kind == "sliding_attention" else main for kind in kinds]
    _ = layers
    return decoder(s, mixers, deepseek_feeds(s, where, shared_width=shared))


def _dots3_local(s: Settings, kinds: tuple[str, ...]) -> Mixer:
    usual = {
        "num_attention_heads": 64, "q_lora_rank": 1024, "kv_lora_rank": 1024, "head_dim": 256,
        "qk_nope_head_dim": 192, "v_head_dim": 128,
    }  # fmt: skip
    own = {key: s.size(f"swa_{key}", value) for key, value in usual.items()}
    own["qk_rope_head_dim"] = s.size(
        "swa_qk_rope_head_dim", own["head_dim"] - own["qk_nope_head_dim"]
    )
    table = s.get("per_layer_config")
    if isinstance(table, Mapping):
        at = next((i for i, kind in enumerate(kinds) if kind == "sliding_attention"), None)
        by_layer = {int(key): value for key, value in table.items()}
        found = by_layer.get(at) if at is not None else None
        if isinstance(found, Mapping):
            own.update({key: int(value) for key, value in found.items() if key in own})
    inner = Settings({**s.given, **own}, s.defaults, {})
    extra = vectors(own["qk_rope_head_dim"]) + linear(hidden(s), own["num_attention_heads"])
    window = s.maybe("sliding_window") or s.size("sliding_window_size", 512)
    return latent(inner, extra=extra, window=window)


@family("inkling_text")
def inkling(s: Settings) -> Model:
    """Inkling: short convolutions around attention, learned relative positions."""
    d, layers, kernel = hidden(s), depth(s), s.size("conv_kernel_size")
    ids = s.get("local_layer_ids")
    local_at = set(s.integers("local_layer_ids")) if ids is not None else {
        i for i in range(layers) if (i + 1) % 6
    }  # fmt: skip
    kinds = layer_kinds(s, lambda i: "hybrid_sliding" if i in local_at else "hybrid")
    window, extent, rel = s.size("sliding_window_size"), s.size("rel_extent"), s.size("d_rel")

    def mixer(sliding: bool) -> Mixer:
        prefix = "swa_" if sliding else ""
        heads = s.size(f"{prefix}num_attention_heads")
        kv, width = s.size(f"{prefix}num_key_value_heads"), s.size(f"{prefix}head_dim")
        extra = linear(d, heads * rel) + vectors(2 * width)
        extra += vectors(2 * kv * width * kernel + rel * (window if sliding else extent))
        made = attention(d, heads, kv, width, extra=extra, window=window if sliding else None)
        return replace(made, state=(2 * kv * width + 2 * d) * kernel, state_heads=kv)

    made = {"hybrid": mixer(False), "hybrid_sliding": mixer(True)}
    swapped = s.has("dense_intermediate_size")
    moe_key = "intermediate_size" if swapped else "moe_intermediate_size"
    plain_key = "dense_intermediate_size" if swapped else "intermediate_size"
    shared = s.count("n_shared_experts")
    moe = routed(s, count="n_routed_experts", width=moe_key, shared=shared * s.size(moe_key))
    # The router scores the shared experts too, and both feeds carry one scale.
    router = moe.router + linear(d, shared, "none") + vectors(1)
    moe = replace(moe, router=router)
    first = s.count("dense_mlp_idx", 0)
    where = sparse_kinds(s, lambda i: i >= first)
    plain = dense(s, key=plain_key) + vectors(1)
    fed: list[Feed] = feeds(s, where, plain, moe)
    return decoder(
        s, [made[kind] for kind in kinds], fed, layer=vectors(2 * d * kernel), body=norm(d)
    )


@family("zaya")
def zaya(s: Settings) -> Model:
    """ZAYA1: attention in a compressed, convolved space, a router with an MLP."""
    d, heads, kv = hidden(s), s.size("num_attention_heads"), s.size("num_key_value_heads")
    width, r = s.size("head_dim"), s.size("router_hidden_size")
    bias = s.flag("attention_bias")
    channels = (heads + kv) * width
    first, second = s.size("cca_time0"), s.size("cca_time1")
    convolutions = channels * (first + 1) + channels * (width * second + 1)
    window = s.maybe("sliding_window")
    made = {
        kind: replace(
            grouped(
                s, window if kind == "hybrid_sliding" else None, qkv_bias=bias,
                extra=vectors(convolutions + kv),
            ),
            state=channels * (first + second),
            state_heads=kv,
        )
        for kind in ("hybrid", "hybrid_sliding")
    }  # fmt: skip
    kinds = layer_kinds(s, lambda _: "hybrid")
    count = s.size("num_experts")
    router = linear(d, r, "none", bias=True) + norm(r)
    router += linear(r, r, "none", bias=True) + linear(r, r, "none", bias=True)
    router += linear(r, count + 1, "none")
    base = routed(s)
    plain = replace(base, router=router)
    later = replace(plain, router=router + vectors(r))
    fed: list[Feed] = [later if i else plain for i in range(depth(s))]
    return decoder(
        s, [made[kind] for kind in kinds], fed, layer=vectors(8 * d), body=vectors(2 * d),
        head_bias=s.flag("lm_head_bias"),
    )  # fmt: skip
