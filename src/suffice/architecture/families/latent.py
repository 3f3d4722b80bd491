"""Multi-head latent attention: DeepSeek and its relatives."""

from __future__ import annotations

from collections.abc import Callable

from suffice.architecture.families.decoder import (
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
from suffice.architecture.families.draft import with_draft
from suffice.architecture.families.parts import (
    NOTHING,
    experts,
    indexer,
    latent_attention,
    linear,
    mlp,
    norm,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.families.sparse import after_dense
from suffice.architecture.model import Block, Experts, Mixer, Model, Part
from suffice.architecture.settings import Settings


def latent(
    s: Settings,
    *,
    extra: Part = NOTHING,
    selected: int | None = None,
    window: int | None = None,
    prefix: str = "",
) -> Mixer:
    """Latent attention from DeepSeek's keys, behind `prefix` where layers have their own."""
    value = s.maybe(f"{prefix}v_head_dim")
    return latent_attention(
        hidden(s),
        s.size(f"{prefix}num_attention_heads"),
        query_rank=s.maybe(f"{prefix}q_lora_rank"),
        cache_rank=s.size(f"{prefix}kv_lora_rank"),
        plain_dim=s.size(f"{prefix}qk_nope_head_dim"),
        rotary_dim=s.size(f"{prefix}qk_rope_head_dim"),
        value_dim=value or hidden(s) // s.size("num_attention_heads"),
        bias=s.flag("attention_bias"),
        extra=extra,
        selected=selected,
        window=window,
    )


def deepseek_feeds(
    s: Settings,
    where: Callable[[int], bool],
    *,
    count: str = "n_routed_experts",
    shared_width: int | None = None,
    extra: Part = NOTHING,
    bias: bool = False,
) -> list[Part | Experts]:
    """Routed and shared experts after the first dense layers."""
    width = s.size("moe_intermediate_size")
    if shared_width is None:
        shared_width = s.count("n_shared_experts", 0) * width
    moe = routed(s, count=count, shared=shared_width, shared_bias=bias, extra=extra)
    plain = NOTHING if all(where(i) for i in range(depth(s))) else dense(s, bias=bias)
    return feeds(s, where, plain, moe)


def _with_frequency(s: Settings, first: int) -> Callable[[int], bool]:
    first = s.count("first_k_dense_replace", first)
    every = s.get("moe_layer_freq", 1)
    if isinstance(every, list | tuple):
        return lambda i: i >= first and i < len(every) and bool(every[i])
    return lambda i: i >= first and i % int(every) == 0


@family("deepseek_v2", "deepseek_v3", "kimi_k2", "sarvam_mla")
def deepseek(s: Settings) -> Model:
    """DeepSeek-V2 and V3, R1, Kimi K2."""
    early = s.get("model_type") == "deepseek_v2"
    where = after_dense(s, "first_k_dense_replace", 0 if early else 1)
    if early and s.get("num_experts_per_tok") is None:  # the family's default is null
        s = Settings({**s.given, "num_experts_per_tok": 1}, s.defaults, {})
    bias = early and s.flag("mlp_bias")
    # DeepSeek-OCR and the smallest VL2 say so: plain attention, and null or 0 for latent sizes.
    latent_keys = s.flag("use_mla", True)
    net = latent(s) if latent_keys else grouped(
        s, qkv_bias="attention_bias", head_dim=hidden(s) // s.size("num_attention_heads")
    )  # fmt: skip
    model = decoder(s, net, deepseek_feeds(s, where, bias=bias))
    return with_draft(s, model, "num_nextn_predict_layers")


@family("axk1")
def axk1(s: Settings) -> Model:
    """A.X K1: a norm behind the experts."""
    where = sparse_kinds(s, _with_frequency(s, 1))
    d = hidden(s)
    return decoder(s, latent(s), deepseek_feeds(s, where, extra=vectors(d)))


@family("glm4_moe_lite")
def glm4_moe_lite(s: Settings) -> Model:
    """GLM-4.7-Flash."""
    where = sparse_kinds(s, lambda i: i >= 1)
    model = decoder(s, latent(s), deepseek_feeds(s, where))
    return with_draft(s, model, "num_nextn_predict_layers")


@family("deepseek_v32", "glm_moe_dsa")
def deepseek_sparse(s: Settings) -> Model:
    """DeepSeek-V3.2 and GLM-5: a small attention picks the entries that are read."""
    d, layers = hidden(s), depth(s)
    main = latent(s, selected=s.size("index_topk"))
    query = s.maybe("q_lora_rank") or d
    index = indexer(d, query, s.size("index_n_heads"), s.size("index_head_dim"))
    kinds = layer_kinds(s, lambda _: "indexed_attention")
    own = _own_indexers(s, layers)
    full = latent(s)
    mixers: list[Mixer | tuple[Mixer, ...]] = []
    for kind, has_own in zip(kinds, own, strict=True):
        if kind != "indexed_attention":
            mixers.append(full)
        else:
            mixers.append((main, index) if has_own else main)
    where = sparse_kinds(s, after_dense(s, "first_k_dense_replace", 3))
    model = decoder(s, mixers, deepseek_feeds(s, where))
    return with_draft(s, model, "num_nextn_predict_layers")


def _own_indexers(s: Settings, layers: int) -> tuple[bool, ...]:
    """Which layers pick for themselves; the others read what an earlier one picked."""
    named = s.names("indexer_types", layers)
    if named is not None:
        return tuple(name == "full" for name in named)
    pattern = s.get("index_topk_pattern")
    if pattern is not None:
        return tuple(item in ("F", "full") for item in pattern)
    every = max(s.count("index_topk_freq", 1), 1)
    offset = s.count("index_skip_topk_offset", 2)
    return tuple(max(i - offset + 1, 0) % every == 0 for i in range(layers))


@family("minicpm3", "youtu")
def latent_dense(s: Settings) -> Model:
    """MiniCPM3 and Youtu-LLM: latent attention with a plain MLP."""
    return decoder(s, latent(s), dense(s, bias="mlp_bias"))


@family("longcat_flash")
def longcat(s: Settings) -> Model:
    """LongCat-Flash: two attentions and two MLPs per layer beside experts, some of them empty."""
    d, layers = hidden(s), s.size("num_layers")
    real, empty = s.size("n_routed_experts"), s.count("zero_expert_num", 0)
    router = linear(d, real + empty, "none", bias=s.flag("router_bias"))
    moe = experts(d, s.size("expert_ffn_hidden_size"), real, s.size("moe_topk"), router=router)
    plain = mlp(d, s.size("ffn_hidden_size"))
    block = Block(
        mixers=(latent(s), latent(s)), mlp=plain + plain, experts=(moe,), rest=vectors(4 * d)
    )
    return assembled(s, [block] * layers, body=norm(d))
