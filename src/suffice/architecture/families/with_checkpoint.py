"""Families whose config class comes with the checkpoint, and text parts of wrappers.

Each is held against a published number of parameters in tests/architecture/test_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from suffice.architecture.families.decoder import (
    assembled,
    decoder,
    dense,
    depth,
    feeds,
    grouped,
    head_width,
    hidden,
    layer_kinds,
    routed,
)
from suffice.architecture.families.draft import with_draft
from suffice.architecture.families.parts import NOTHING, attention, linear, mlp, norm, vectors
from suffice.architecture.families.registry import BUILDERS, Builder, family
from suffice.architecture.families.sparse import after_dense, shared_feeds
from suffice.architecture.model import Block, Mixer, Model, Part
from suffice.architecture.settings import Settings
from suffice.core.errors import ConfigError

_LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32,
}  # fmt: skip


def _under(base: str, names: Mapping[str, str] | None = None, **values: Any) -> Builder:
    """A builder that reads its keys under other names, or with other defaults, as `base` does."""

    def build(s: Settings) -> Model:
        given = {**values, **s.given, "model_type": base}
        model = BUILDERS[base](Settings(given, s.defaults, names or {}))
        return replace(model, model_type=str(s.get("model_type")))

    return build


# Text parts that are known families under another name.
for _own in ("glm4v_text", "glm_image_text"):
    family(_own)(_under("glm4", attention_bias=True))
for _own, _known in (
    ("glm_ocr_text", "qwen2_vl_text"),
    ("paddleocr_vl_text", "ernie4_5"),
    ("granite_docling_text", "granite"),
    ("hunyuan_vl_text", "hunyuan_v1_dense"),
    ("hy_v4_vl_text", "hy_v4"),
):
    family(_own)(_under(_known))

family("internlm2", defaults={**_LLAMA_7B, "vocab_size": 103168, "bias": True})(
    _under("llama", {"bias": "attention_bias"})
)
family("baichuan", defaults={**_LLAMA_7B, "vocab_size": 125696})(_under("llama"))
family("xverse", defaults={**_LLAMA_7B, "vocab_size": 100278})(_under("llama"))
family("minicpm", defaults={**_LLAMA_7B, "vocab_size": 32000, "tie_word_embeddings": True})(
    _under("llama")
)


@family("orion", defaults={"num_hidden_layers": 40, "hidden_size": 5120, "vocab_size": 84608,
                           "intermediate_size": 15360, "num_attention_heads": 40})  # fmt: skip
def orion(s: Settings) -> Model:
    """Orion: Llama with shifting norms."""
    return decoder(s, grouped(s), dense(s), norm_bias=True)


@family("qwen", defaults={**_LLAMA_7B, "intermediate_size": 22016, "vocab_size": 151936})
def qwen(s: Settings) -> Model:
    """The first Qwen: `intermediate_size` counts gate and up together."""
    width = s.maybe("kv_channels")
    mixer = grouped(s, qkv_bias=True, output_bias=False, head_dim=width)
    return decoder(s, mixer, mlp(hidden(s), s.size("intermediate_size") // 2))


@family("chatglm", defaults={"multi_query_attention": False, "add_qkv_bias": False})
def chatglm(s: Settings) -> Model:
    """ChatGLM and GLM-4 as their own classes name things."""
    names = {
        "num_layers": "num_hidden_layers",
        "ffn_hidden_size": "intermediate_size",
        "multi_query_group_num": "num_key_value_heads",
        "padded_vocab_size": "vocab_size",
        "kv_channels": "head_dim",
        "add_qkv_bias": "attention_bias",
        "seq_length": "max_position_embeddings",
    }
    given = dict(s.given)
    if not s.flag("multi_query_attention"):
        given.pop("multi_query_group_num", None)
    # The unpadded size stands beside the padded one.
    given.pop("vocab_size", None)
    model = BUILDERS["glm"](Settings({**given, "model_type": "glm"}, s.defaults, names))
    return replace(model, model_type="chatglm")


@family("deepseek", defaults={"first_k_dense_replace": 0, "n_shared_experts": 0})
def deepseek(s: Settings) -> Model:
    """DeepSeekMoE, before latent attention."""
    step = s.size("moe_layer_freq", 1)
    first = s.count("first_k_dense_replace")
    mixer = grouped(s, qkv_bias="attention_bias")
    return decoder(s, mixer, shared_feeds(s, lambda i: i >= first and i % step == 0))


@family("mimo", defaults={"attention_bias": True})
def mimo(s: Settings) -> Model:
    """MiMo-7B: Qwen2 with layers that predict further tokens."""
    mixer = grouped(s, qkv_bias="attention_bias", output_bias=False)
    return with_draft(s, decoder(s, mixer, dense(s)), "num_nextn_predict_layers")


@family("bailing_moe", "bailing_moe_v2", defaults={"num_shared_experts": 0})
def bailing_moe(s: Settings) -> Model:
    """Ling and Ring: shared experts as wide as several routed ones."""
    second = s.get("model_type") == "bailing_moe_v2"
    normed = s.flag("use_qk_norm", second)
    mixer = grouped(
        s, qkv_bias="use_qkv_bias", output_bias="use_bias", qk_norm="head" if normed else "none"
    )
    shared = s.count("num_shared_experts")
    width = s.maybe("moe_shared_expert_intermediate_size") or s.size("moe_intermediate_size")
    where = after_dense(s, "first_k_dense_replace")
    plain = dense(s) if s.count("first_k_dense_replace") else NOTHING
    model = decoder(s, mixer, feeds(s, where, plain, routed(s, shared=shared * width)))
    return with_draft(s, model, "num_nextn_predict_layers")


def _listed(s: Settings, key: str) -> set[int] | None:
    """Layers named in a text such as "3,4,5" or in a list; None where there is none."""
    value = s.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return {int(part) for part in value.split(",") if part.strip()}
        except ValueError:
            raise ConfigError(f"{key} must list layers, such as '3,4,5', got {value!r}") from None
    return set(s.integers(key))


@family(
    "step3p5",
    defaults={
        "hidden_size": 4096, "intermediate_size": 11264, "num_hidden_layers": 45,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 128815, "n_routed_experts": 288, "num_experts_per_tok": 8,
        "moe_intermediate_size": 1280, "share_expert_dim": 1280,
        "max_position_embeddings": 128000,
    },
)  # fmt: skip
def step3p5(s: Settings) -> Model:
    """Step 3.5: sliding layers have heads of their own number, every head has a gate.

    Both the names of the checkpoint's own class and those of transformers are read.
    """
    layers, d, width = depth(s), hidden(s), head_width(s)
    other = s.mapping("attention_other_setting")
    sliding_heads = other.get("num_attention_heads") or s.get("num_sliding_attention_heads")
    kv = s.maybe("num_attention_groups") or s.size("num_key_value_heads")
    named = s.get("layer_types")
    if isinstance(named, list | tuple) and len(named) > layers:
        # The layers that predict further tokens are in the list.
        s = Settings({**s.given, "layer_types": list(named[:layers])}, s.defaults, {})
    window = s.maybe("sliding_window")
    gated = s.flag("use_head_wise_attn_gate", True)
    mixers: list[Mixer] = []
    for kind in layer_kinds(s):
        slides = kind == "sliding_attention"
        heads = int(sliding_heads) if slides and sliding_heads else s.size("num_attention_heads")
        gate = linear(d, heads) if gated else NOTHING
        mixers.append(
            attention(
                d, heads, kv, width, extra=vectors(2 * width) + gate,
                window=window if slides else None,
            )
        )  # fmt: skip
    sparse = _listed(s, "moe_layers_enum")
    if sparse is None:
        kinds = s.names("mlp_layer_types", layers)
        sparse = {i for i in range(layers) if (kinds[i] == "sparse" if kinds else i >= 3)}
    count = "moe_num_experts" if s.has("moe_num_experts") else "n_routed_experts"
    chosen = "moe_top_k" if s.has("moe_top_k") else "num_experts_per_tok"
    moe = routed(s, count=count, per_token=chosen, shared=s.count("share_expert_dim"))
    model = decoder(s, mixers, feeds(s, lambda i: i in sparse, dense(s), moe))
    return with_draft(s, model, "num_nextn_predict_layers")


@family("step3_text", defaults={
    "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 64,
    "num_attention_groups": 1, "num_hidden_layers": 61, "vocab_size": 128815,
    "moe_num_experts": 48, "moe_top_k": 3, "moe_intermediate_size": 5120,
    "share_expert_dim": 5120, "share_q_dim": 2048, "head_dim": 256,
    "moe_layers_enum": ",".join(map(str, range(4, 60))), "max_position_embeddings": 65536,
})  # fmt: skip
def step3(s: Settings) -> Model:
    """Step 3: queries come from a shared low rank, keys and values have one head."""
    d, heads, width = hidden(s), s.size("num_attention_heads"), head_width(s)
    kv, rank = s.size("num_attention_groups", 1), s.size("share_q_dim")
    part = linear(d, rank, "none") + norm(rank) + linear(rank, heads * width)
    plain = attention(d, heads, kv, width)
    # All but the queries of the usual attention.
    rest = Part(plain.part.matrices[1:], plain.part.vectors)
    mixer = Mixer(
        kind="full attention",
        part=part + rest,
        cached=plain.cached,
        cache_heads=kv,
        pair_flops=plain.pair_flops,
        prefill_pair_flops=plain.prefill_pair_flops,
    )
    sparse = _listed(s, "moe_layers_enum") or set()
    moe = routed(
        s, count="moe_num_experts", per_token="moe_top_k", shared=s.count("share_expert_dim")
    )
    return decoder(s, mixer, feeds(s, lambda i: i in sparse, dense(s), moe))


@family("molmo2_text", defaults={
    "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "additional_vocab_size": 128, "num_hidden_layers": 36,
    "intermediate_size": 12288, "max_position_embeddings": 36864,
})  # fmt: skip
def molmo2(s: Settings) -> Model:
    """Molmo 2: Qwen3 or OLMo layers; further tokens are in the embedding alone."""
    normed = "head" if s.get("qk_norm_type", "qwen3") == "qwen3" else "full"
    mixer = grouped(s, qkv_bias="qkv_bias", output_bias=False, qk_norm=normed)
    lookup = s.count("additional_vocab_size") * hidden(s)
    return decoder(s, mixer, dense(s), lookup=lookup)


@family("nemotron-nas")
def nemotron_nas(s: Settings) -> Model:
    """Nemotron Super and Ultra: a search left every layer its own attention and MLP, or none."""
    d, heads, width = hidden(s), s.size("num_attention_heads"), head_width(s)
    found = s.get("block_configs")
    if not isinstance(found, list) or len(found) != depth(s):
        raise ConfigError("block_configs must hold one entry per layer")
    blocks = []
    for one in found:
        attn, ffn = one["attention"], one["ffn"]
        mixers: tuple[Mixer, ...] = ()
        fed, rest = NOTHING, NOTHING
        if attn.get("replace_with_linear"):
            rest += linear(d, d) + norm(d)
        elif not attn.get("no_op"):
            mixers = (attention(d, heads, heads // int(attn["n_heads_in_group"]), width),)
            rest += norm(d)
        if ffn.get("replace_with_linear"):
            fed, rest = linear(d, d), rest + norm(d)
        elif not ffn.get("no_op"):
            fed, rest = mlp(d, _nas_width(ffn, d)), rest + norm(d)
        blocks.append(Block(mixers=mixers, mlp=fed, rest=rest))
    return assembled(s, blocks, body=norm(d))


def _nas_width(ffn: Mapping[str, Any], d: int) -> int:
    """Two thirds of `ffn_mult` widths, up to a multiple of 256."""
    if ffn.get("intermediate_size"):
        return int(ffn["intermediate_size"])
    return -(-int(2 * float(ffn["ffn_mult"]) * d / 3) // 256) * 256
