"""Mixtures of experts whose attention is of the usual kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from suffice.architecture.families.decoder import (
    Switch,
    decoder,
    dense,
    depth,
    every,
    feeds,
    grouped,
    head_width,
    hidden,
    routed,
    sparse_kinds,
    windows,
)
from suffice.architecture.families.draft import with_draft
from suffice.architecture.families.parts import NOTHING, experts, linear, norm, vectors
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Experts, Mixer, Model, Part, runs_of
from suffice.architecture.settings import Settings


def attentions(
    s: Settings,
    otherwise: Callable[[int], str] | None = None,
    *,
    qkv_bias: Switch = "attention_bias",
    output_bias: Switch | None = None,
    qk_norm: str = "none",
    gate: int = 0,
    sinks: bool = False,
    extra: Part = NOTHING,
    chunked: bool = False,
    key: str = "sliding_window",
) -> list[Mixer]:
    """The attention of each layer, windows where the layer slides."""
    made: dict[int | None, Mixer] = {}
    for window in windows(s, otherwise, key=key):
        if window not in made:
            made[window] = grouped(
                s, window, qkv_bias=qkv_bias, output_bias=output_bias, qk_norm=qk_norm,
                gate=gate, sinks=sinks, extra=extra, chunked=chunked,
            )  # fmt: skip
    return [made[window] for window in windows(s, otherwise, key=key)]


def _step(s: Settings) -> Callable[[int], bool]:
    """Qwen's rule: every `decoder_sparse_step`-th layer but those of `mlp_only_layers`."""
    step, plain = s.size("decoder_sparse_step", 1), set(s.integers("mlp_only_layers"))
    has = s.count("num_experts") > 0
    return lambda i: has and i not in plain and (i + 1) % step == 0


def after_dense(s: Settings, key: str, default: int = 0) -> Callable[[int], bool]:
    """Experts in all layers but the first ones."""
    first = s.count(key, default)
    return lambda i: i >= first


def _always(_: int) -> bool:
    return True


@family("mixtral", "minimax_m2")
def mixtral(s: Settings) -> Model:
    """All layers with experts as wide as `intermediate_size`."""
    m2 = s.get("model_type") == "minimax_m2"
    window = s.maybe("sliding_window")
    mixer = grouped(s, window, qk_norm="full" if m2 else "none")
    model = decoder(s, mixer, routed(s, count="num_local_experts", width="intermediate_size"))
    return with_draft(s, model, "num_mtp_modules") if m2 and s.flag("use_mtp") else model


@family("phimoe")
def phimoe(s: Settings) -> Model:
    """Phi-3.5-MoE: Mixtral with LayerNorm and biases where the config asks for them."""
    mixer = grouped(s, s.maybe("sliding_window"), qkv_bias="attention_bias")
    moe = routed(s, count="num_local_experts", width="intermediate_size")
    return decoder(s, mixer, moe, norm_bias=True, head_bias=s.flag("lm_head_bias"))


@family("gpt_oss")
def gpt_oss(s: Settings) -> Model:
    """gpt-oss: biases everywhere, attention sinks, every other layer slides."""
    mixers = attentions(s, every(2, "full_attention", "sliding_attention"), sinks=True)
    moe = routed(
        s, count="num_local_experts", width="intermediate_size", bias=True, router_bias=True
    )
    return decoder(s, mixers, moe)


@family("qwen2_moe")
def qwen2_moe(s: Settings) -> Model:
    """Qwen1.5-MoE and Qwen2-MoE: one shared expert behind a gate."""
    slides, first = s.flag("use_sliding_window"), s.count("max_window_layers", 28)
    mixers = attentions(
        s,
        lambda i: "sliding_attention" if slides and i % 2 == 0 and i < first else "full_attention",
        qkv_bias=s.flag("qkv_bias", True),
        output_bias=False,
    )
    moe = routed(s, shared=s.size("shared_expert_intermediate_size"), shared_gate=True)
    return decoder(s, mixers, feeds(s, _step(s), dense(s), moe))


@family("qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text")
def qwen3_moe(s: Settings) -> Model:
    """Qwen3-MoE: no shared expert."""
    window = s.maybe("sliding_window") if s.flag("use_sliding_window") else None
    mixer = grouped(s, window, qkv_bias="attention_bias", qk_norm="head")
    return decoder(s, mixer, feeds(s, _step(s), dense(s), routed(s)))


@family("olmoe", "flex_olmo")
def olmoe(s: Settings) -> Model:
    """OLMoE and FlexOlmo: norms over whole queries and keys."""
    mixer = grouped(s, qkv_bias="attention_bias", qk_norm="full")
    return decoder(s, mixer, routed(s, width="intermediate_size"))


@family("granitemoe", "granitemoeshared", "granitemoe_swa")
def granite_moe(s: Settings) -> Model:
    """Granite MoE, with or without a shared MLP."""
    swa = s.get("model_type") == "granitemoe_swa"
    mixers = attentions(
        s, lambda i: "sliding_attention" if swa and i % 4 else "full_attention", sinks=swa
    )
    moe = routed(
        s,
        count="num_local_experts",
        width="intermediate_size",
        shared=s.count("shared_intermediate_size"),
    )
    return decoder(s, mixers, moe)


@family("dots1")
def dots1(s: Settings) -> Model:
    """dots.llm1: DeepSeek's experts with the usual attention."""
    window, first = s.maybe("sliding_window"), s.count("max_window_layers", 0)
    mixers = attentions(
        s,
        lambda i: "sliding_attention" if window and i >= first else "full_attention",
        qk_norm="head",
    )
    return decoder(s, mixers, shared_feeds(s, after_dense(s, "first_k_dense_replace")))


@family("glm4_moe", "glm4v_moe_text", "sarvam_moe", "hy_v3", "solar_open", "glm4_moe_text")
def glm4_moe(s: Settings) -> Model:
    """GLM-4.5 and 4.6, Hunyuan 3, Solar Open: experts after the first dense layers."""
    model_type = str(s.get("model_type"))
    normed = {"hy_v3": True, "solar_open": False}.get(model_type, s.flag("use_qk_norm"))
    where = after_dense(s, "first_k_dense_replace", 1)
    if model_type == "hy_v3":
        where = sparse_kinds(s, after_dense(s, "_", 1))
    elif model_type == "solar_open":
        where = _always
    mixer = grouped(
        s,
        qkv_bias="attention_bias",
        output_bias="attention_bias" if model_type == "hy_v3" else False,
        qk_norm="head" if normed else "none",
        head_dim=head_width(s, exact=False),
    )
    shared = "num_shared_experts" if model_type == "hy_v3" else "n_shared_experts"
    count = "num_experts" if model_type == "hy_v3" else "n_routed_experts"
    bias = model_type == "hy_v3" and s.flag("mlp_bias")
    model = decoder(s, mixer, shared_feeds(s, where, count=count, shared=shared, bias=bias))
    return with_draft(s, model, "num_nextn_predict_layers")


def shared_feeds(
    s: Settings,
    where: Callable[[int], bool],
    *,
    count: str = "n_routed_experts",
    shared: str = "n_shared_experts",
    bias: bool = False,
) -> list[Part | Experts]:
    """Experts, with shared ones that are as wide as several of them, or an MLP."""
    width = s.size("moe_intermediate_size")
    moe = routed(s, count=count, shared=s.count(shared, 0) * width, shared_bias=bias)
    plain = NOTHING if all(where(i) for i in range(depth(s))) else dense(s, bias=bias)
    return feeds(s, where, plain, moe)


@family("ernie4_5_moe", "ernie4_5_vl_moe_text")
def ernie4_5_moe(s: Settings) -> Model:
    """ERNIE 4.5: a trained correction per expert is a parameter."""
    layers = depth(s)
    s, seen = _text_experts(s)
    first, step = s.count("moe_layer_start_index", 1), s.size("moe_layer_interval", 1)
    last = s.get("moe_layer_end_index", -1)
    last = layers - 1 if last == -1 else int(last)
    width, count = s.size("moe_intermediate_size"), s.size("moe_num_experts")
    moe = routed(
        s,
        count="moe_num_experts",
        per_token="moe_k",
        shared=s.count("moe_num_shared_experts") * width,
        shared_bias=s.flag("use_bias"),
        extra=vectors(count),
    )
    mixer = grouped(s, qkv_bias="use_bias")

    def sparse(i: int) -> bool:
        return first <= i <= last and (i + 1) % step == 0

    model = decoder(s, mixer, feeds(s, sparse, dense(s, bias="use_bias"), moe))
    if seen is None:
        return model
    return replace(
        model,
        runs=tuple(
            run._replace(block=replace(run.block, experts=(*run.block.experts, seen)))
            if run.block.experts
            else run
            for run in model.runs
        ),
    )


def _text_experts(s: Settings) -> tuple[Settings, Experts | None]:
    """The text's experts where pictures have their own, and those: held, not met by text."""
    widths, counts = s.get("moe_intermediate_size"), s.get("moe_num_experts")
    if not isinstance(widths, list | tuple) or len(widths) != 2:
        return s, None
    both = counts if isinstance(counts, list | tuple) else (counts, counts)
    starts = {
        key: value[0] if key.endswith("start_index") else max(value)
        for key in ("moe_layer_start_index", "moe_layer_end_index")
        if isinstance(value := s.get(key), list | tuple) and value
    }
    text = {"moe_intermediate_size": widths[0], "moe_num_experts": both[0], **starts}
    d, count = hidden(s), int(both[1])
    one = experts(d, int(widths[1]), count, 1, shared=vectors(count))
    return Settings({**s.given, **text}, s.defaults, {}), replace(one, per_token=0)


@family("llama4_text")
def llama4(s: Settings) -> Model:
    """Llama 4: chunked attention but for every fourth layer; one shared expert."""
    layers = depth(s)
    interval = s.size("no_rope_layer_interval", 4)
    rotary = s.integers("no_rope_layers") or tuple(
        int((i + 1) % interval != 0) for i in range(layers)
    )
    mixers = attentions(
        s,
        lambda i: "chunked_attention" if rotary[i] else "full_attention",
        chunked=True,
        key="attention_chunk_size",
    )
    step = s.size("interleave_moe_layer_step", 1)
    named = s.integers("moe_layers") if s.has("moe_layers") else None
    chosen = set(range(step - 1, layers, step)) if named is None else set(named)
    moe = routed(
        s,
        count="num_local_experts",
        width="intermediate_size",
        shared=s.size("intermediate_size"),
    )
    plain = dense(s, key="intermediate_size_mlp")
    return decoder(s, mixers, feeds(s, lambda i: i in chosen, plain, moe))


@family("hunyuan_v1_moe")
def hunyuan_moe(s: Settings) -> Model:
    """Hunyuan-A13B: one shared MLP beside the experts; per-layer lists must hold equal values."""
    counts, chosen = s.get("num_experts"), s.get("moe_topk")
    same = Settings(
        {
            **s.given,
            "num_experts": _same(counts),
            "moe_topk": _same(chosen),
            "moe_intermediate_size": _same(s.get("intermediate_size")),
        },
        s.defaults,
        {},
    )
    mixer = grouped(s, qkv_bias="attention_bias", qk_norm="head")
    moe = routed(same, per_token="moe_topk", shared=s.size("intermediate_size"))
    return decoder(s, mixer, moe)


def _same(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(item == value[0] for item in value):
        return value[0]
    return value


@family("cohere2_moe")
def cohere2_moe(s: Settings) -> Model:
    """Cohere's mixture: one norm per layer, attention beside the experts."""
    first = s.count("first_k_dense_replace", 0)
    early = s.size("prefix_dense_sliding_window_pattern", 1)
    later = s.size("sliding_window_pattern", 4)

    def kind(i: int) -> str:
        place, period = (i, early) if i < first else (i - first, later)
        return "full_attention" if (place + 1) % period == 0 else "sliding_attention"

    width = s.size("intermediate_size")
    moe = routed(s, width="intermediate_size", shared=s.count("num_shared_experts") * width)
    where = sparse_kinds(s, lambda i: i >= first)
    key = "prefix_dense_intermediate_size" if s.get("prefix_dense_intermediate_size") else None
    mixers = attentions(s, kind)
    return decoder(s, mixers, feeds(s, where, dense(s, key=key), moe), norms=1)


@family("dbrx")
def dbrx(s: Settings) -> Model:
    """DBRX: its attention and experts are nested objects."""
    attn, ffn = s.mapping("attn_config"), s.mapping("ffn_config")
    flat = Settings(
        {
            **s.given,
            "num_key_value_heads": attn.get("kv_n_heads", 1),
            "moe_intermediate_size": ffn.get("ffn_hidden_size", 3584),
            "num_experts": ffn.get("moe_num_experts", 4),
            "num_experts_per_tok": ffn.get("moe_top_k", 1),
        },
        s.defaults,
        {"n_heads": "num_attention_heads", "d_model": "hidden_size",
         "n_layers": "num_hidden_layers", "max_seq_len": "max_position_embeddings"},
    )  # fmt: skip
    return decoder(flat, grouped(flat), routed(flat), final_norm=norm(hidden(flat)))


@family("aria_text")
def aria(s: Settings) -> Model:
    """Aria: shared experts as wide as several routed ones."""
    width = s.size("intermediate_size")
    moe = routed(
        s,
        count="moe_num_experts",
        per_token="moe_topk",
        width="intermediate_size",
        shared=s.count("moe_num_shared_experts") * width,
        shared_bias=s.flag("mlp_bias"),
    )
    return decoder(s, grouped(s, qkv_bias="attention_bias"), moe)


@family("jetmoe")
def jetmoe(s: Settings) -> Model:
    """JetMoE: attention heads are experts too; keys and values are shared by them."""
    d, count, chosen = hidden(s), s.size("num_local_experts"), s.size("num_experts_per_tok")
    kv, width = s.size("num_key_value_heads"), s.size("kv_channels")
    mixer = Mixer(
        kind="full attention",
        part=linear(d, 2 * kv * width, "kv"),
        cached=2 * kv * width,
        cache_heads=kv,
        pair_flops=4 * kv * chosen * width,
        prefill_pair_flops=4 * kv * chosen * width,
    )
    heads = experts(d, kv * width, count, chosen, gated=False, shared=vectors(d))
    moe = experts(d, s.size("intermediate_size"), count, chosen, shared=vectors(d))
    block = Block(mixers=(mixer,), experts=(heads, moe), rest=Part((), 2 * d))
    model = decoder(s, mixer, moe)
    return replace(model, runs=runs_of([block] * depth(s)))
