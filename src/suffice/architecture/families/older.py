"""Decoders from before Llama's layout became the usual one."""

from __future__ import annotations

from dataclasses import replace

from suffice.architecture.families.decoder import (
    assembled,
    decoder,
    dense,
    depth,
    every,
    grouped,
    head_width,
    hidden,
    layer_kinds,
    windows,
)
from suffice.architecture.families.parts import (
    NOTHING,
    attention,
    linear,
    mlp,
    norm,
    plain_mlp,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Mixer, Model, Run
from suffice.architecture.settings import Settings
from suffice.core.errors import UnsupportedModel

# Names that GPT-2's relatives give to the usual sizes.
_OLD_NAMES = {
    "n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings", "d_model": "hidden_size",
    "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads", "num_layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads", "emb_dim": "hidden_size",
    "max_seq_len": "max_position_embeddings", "n_embed": "hidden_size",
}  # fmt: skip


def renamed(s: Settings, **more: object) -> Settings:
    """The same settings under today's names, with `more` put in."""
    given = {_OLD_NAMES.get(key, key): value for key, value in s.given.items()}
    defaults = {_OLD_NAMES.get(key, key): value for key, value in s.defaults.items()}
    return Settings({**given, **more}, defaults, {})


def _positions(s: Settings, offset: int = 0) -> int:
    return (s.size("max_position_embeddings") + offset) * hidden(s)


def _no_cross_attention(s: Settings) -> None:
    if s.flag("add_cross_attention"):
        raise UnsupportedModel(
            f"model_type {s.get('model_type')!r} with add_cross_attention reads an encoder; only "
            "decoders that stand alone are modelled"
        )


@family("gpt2", "gpt-sw3", "gpt_bigcode", "openai-gpt")
def gpt2(s: Settings) -> Model:
    """GPT-2, GPT and StarCoder: biases, learned positions."""
    model_type = s.get("model_type")
    s = renamed(s)
    _no_cross_attention(s)
    d = hidden(s)
    kv = 1 if model_type == "gpt_bigcode" and s.flag("multi_query", True) else None
    mixer = grouped(s, qkv_bias=True, kv_heads=kv or s.size("num_attention_heads"))
    feed = plain_mlp(d, s.size("n_inner", 4 * d), bias=True)
    last = NOTHING if model_type == "openai-gpt" else norm(d, bias=True)
    return decoder(s, mixer, feed, norm_bias=True, final_norm=last, lookup=_positions(s))


@family("gptj", "codegen")
def gptj(s: Settings) -> Model:
    """GPT-J and CodeGen: attention and MLP side by side, biases only in the MLP and the output."""
    s = renamed(s)
    d = hidden(s)
    mixer = grouped(s, kv_heads=s.size("num_attention_heads"))
    feed = plain_mlp(d, s.size("n_inner", 4 * d), bias=True)
    return decoder(s, mixer, feed, norms=1, norm_bias=True, head_bias=True)


@family("gpt_neo")
def gpt_neo(s: Settings) -> Model:
    """GPT-Neo: every other layer attends to a window."""
    s = renamed(s)
    d = hidden(s)
    pattern: list[str] = []
    for names, times in s.get("attention_types") or [[["global", "local"], depth(s) // 2]]:
        pattern += list(names) * int(times)
    local = s.maybe("window_size")
    heads = s.size("num_attention_heads")
    made = {
        "global": grouped(s, None, output_bias=True, kv_heads=heads),
        "local": grouped(s, local, output_bias=True, kv_heads=heads),
    }
    mixers = [made[pattern[i % len(pattern)]] for i in range(depth(s))]
    feed = plain_mlp(d, s.size("intermediate_size", 4 * d), bias=True)
    return decoder(s, mixers, feed, norm_bias=True, lookup=_positions(s))


@family("gpt_neox")
def gpt_neox(s: Settings) -> Model:
    """GPT-NeoX and Pythia."""
    mixer = grouped(s, qkv_bias="attention_bias", kv_heads=s.size("num_attention_heads"))
    return decoder(s, mixer, dense(s, gated=False, bias=True), norm_bias=True)


@family("gpt_neox_japanese")
def gpt_neox_japanese(s: Settings) -> Model:
    """GPT-NeoX Japanese: one bias in all, in the last layer."""
    d = hidden(s)
    mixer = grouped(s, kv_heads=s.size("num_attention_heads"))
    feed = plain_mlp(d, s.size("intermediate_multiple_size") * d)
    return decoder(s, mixer, feed, norm_bias=True, body=vectors(d))


@family("bloom")
def bloom(s: Settings) -> Model:
    """BLOOM: a norm behind the embedding, no positions."""
    s = renamed(s)
    d = hidden(s)
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    feed = plain_mlp(d, 4 * d, bias=True)
    return decoder(s, mixer, feed, norm_bias=True, body=norm(d, bias=True))


@family("mpt")
def mpt(s: Settings) -> Model:
    """MPT: no biases, positions by slopes."""
    s = renamed(s)
    d, nested = hidden(s), s.mapping("attn_config")
    if nested.get("attn_type", "multihead_attention") != "multihead_attention":
        raise UnsupportedModel("an MPT with multi-query attention is not modelled")
    mixer = grouped(s, kv_heads=s.size("num_attention_heads"))
    return decoder(s, mixer, plain_mlp(d, 4 * d))


@family("opt")
def opt(s: Settings) -> Model:
    """OPT: learned positions with an offset of 2, perhaps a narrower embedding."""
    d, bias = hidden(s), s.flag("enable_bias", True)
    affine = s.flag("layer_norm_elementwise_affine", True)
    narrow = s.size("word_embed_proj_dim", d)
    mixer = grouped(s, qkv_bias=bias, kv_heads=s.size("num_attention_heads"))
    feed = plain_mlp(d, s.size("ffn_dim"), bias=bias)
    has_last = s.flag("do_layer_norm_before", True) and not s.flag("_remove_final_layer_norm")
    body = norm(d, bias=True) if has_last and affine else NOTHING
    if narrow != d:
        body += linear(narrow, d, "none") + linear(d, narrow, "none")
    rest = vectors(4 * d if affine else 0)
    block = Block(mixers=(mixer,), mlp=feed, rest=rest)
    return assembled(
        s, [block] * depth(s), body=body, lookup=_positions(s, 2), embedding=narrow,
        head_inputs=narrow,
    )  # fmt: skip


@family("biogpt", "xglm")
def biogpt(s: Settings) -> Model:
    """BioGPT (learned positions) and XGLM (computed ones)."""
    learned = s.get("model_type") == "biogpt"
    s = renamed(s)
    _no_cross_attention(s)
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    feed = dense(s, gated=False, bias=True, key="intermediate_size" if learned else "ffn_dim")
    return decoder(s, mixer, feed, norm_bias=True, lookup=_positions(s, 2) if learned else 0)


@family("falcon")
def falcon(s: Settings) -> Model:
    """Falcon: one KV head, or groups of them in the newer layout."""
    s = renamed(s)
    d, heads, bias = hidden(s), s.size("num_attention_heads"), s.flag("bias")
    newer = s.flag("new_decoder_architecture")
    older_kv = 1 if s.flag("multi_query", True) else heads
    kv = s.size("num_kv_heads", heads) if newer else older_kv
    mixer = grouped(s, qkv_bias=bias, kv_heads=kv)
    parallel = s.flag("parallel_attn", True)
    both = s.count("num_ln_in_parallel_attn", 2 if newer else 1)
    norms = 2 if not parallel or both == 2 else 1
    feed = plain_mlp(d, s.size("ffn_hidden_size", 4 * d), bias=bias)
    return decoder(s, mixer, feed, norms=norms, norm_bias=True)


@family("persimmon", "fuyu_text")
def persimmon(s: Settings) -> Model:
    """Persimmon: norms with a shift on queries and keys."""
    extra = vectors(4 * head_width(s)) if s.flag("qk_layernorm", True) else NOTHING
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"), extra=extra)
    return decoder(s, mixer, dense(s, gated=False, bias=True), norm_bias=True)


@family("stablelm")
def stablelm(s: Settings) -> Model:
    """StableLM 2: LayerNorm, perhaps one norm per head."""
    heads = s.size("num_attention_heads")
    kv = s.size("num_key_value_heads", heads)
    extra = vectors((heads + kv) * head_width(s)) if s.flag("qk_layernorm") else NOTHING
    mixer = grouped(s, qkv_bias="use_qkv_bias", output_bias=False, extra=extra)
    norms = 1 if s.flag("use_parallel_residual") else 2
    return decoder(s, mixer, dense(s), norms=norms, norm_bias=True)


@family("cohere")
def cohere(s: Settings) -> Model:
    """Command R: attention and MLP behind one norm, perhaps one scale per head and channel."""
    normed = "full" if s.flag("use_qk_norm") else "none"
    return decoder(s, grouped(s, qkv_bias="attention_bias", qk_norm=normed), dense(s), norms=1)


@family("olmo")
def olmo(s: Settings) -> Model:
    """OLMo: its norms have no weights."""
    return decoder(s, grouped(s, qkv_bias="attention_bias"), dense(s), norms=0, final_norm=NOTHING)


@family("nanochat")
def nanochat(s: Settings) -> Model:
    """nanochat: norms without weights, two matrices per MLP."""
    return decoder(
        s,
        grouped(s, qkv_bias="attention_bias"),
        dense(s, gated=False),
        norms=0,
        final_norm=NOTHING,
    )


@family("granite_swa")
def granite_swa(s: Settings) -> Model:
    """Granite with sliding layers and sinks."""
    made: dict[int | None, Mixer] = {
        window: grouped(s, window, qkv_bias="attention_bias", sinks=True)
        for window in (None, s.maybe("sliding_window"))
    }
    found = windows(s, lambda i: "sliding_attention" if i % 4 else "full_attention")
    return decoder(s, [made[w] for w in found], dense(s, bias="mlp_bias"))


@family("hyperclovax")
def hyperclovax(s: Settings) -> Model:
    """HyperCLOVA X: Llama, perhaps with norms behind its parts."""
    norms = 4 if s.flag("use_post_norm", True) else 2
    mixer = grouped(s, qkv_bias="attention_bias")
    return decoder(s, mixer, dense(s, bias="mlp_bias"), norms=norms)


@family("diffllama")
def diffllama(s: Settings) -> Model:
    """DiffLlama: four vectors per layer weigh two attention maps."""
    mixer = grouped(s, qkv_bias="attention_bias", extra=vectors(4 * head_width(s)))
    return decoder(s, mixer, dense(s))


@family("doge")
def doge(s: Settings) -> Model:
    """Doge: a mask that is computed from values, residual scales, perhaps tiny experts."""
    d, heads = hidden(s), s.size("num_attention_heads")
    kv = s.size("num_key_value_heads", heads)
    bias = s.flag("attention_bias")
    extra = vectors(kv) + linear(kv * head_width(s), kv, "none", bias=bias)
    mixer = grouped(s, qkv_bias=bias, qk_norm="head", extra=extra)
    feed = dense(s, bias="mlp_bias")
    rest, lookup = vectors(2 * d), 0
    if s.flag("is_moe"):
        count = s.size("num_experts")
        keys = int(count**0.5)
        rest += linear(d, 2 * keys, "none")
        lookup = 2 * count * d * depth(s)
    return decoder(s, mixer, feed, layer=rest, lookup=lookup)


@family("moshi")
def moshi(s: Settings) -> Model:
    """Moshi's language model; its depth decoder and codec are left out."""
    d, width = hidden(s), s.size("ffn_dim")
    mixer = grouped(s, s.maybe("sliding_window"))
    feed = linear(d, width) + linear(width // 2, d, "inputs")
    model = decoder(s, mixer, feed, lookup=d)
    left_out = ("the depth decoder", "the audio codec")
    return replace(model, tied=False, left_out=left_out)


@family("modernbert-decoder")
def modernbert_decoder(s: Settings) -> Model:
    """ModernBERT's decoder: the first layer has no norm before its attention."""
    d, bias = hidden(s), s.flag("norm_bias")
    period = s.size("global_attn_every_n_layers", 3)
    size = s.maybe("local_attention")
    window = size // 2 if size else None
    kinds = layer_kinds(s, lambda i: "sliding_attention" if i % period else "full_attention")
    made = {
        "full_attention": grouped(s, qkv_bias="attention_bias"),
        "sliding_attention": grouped(s, window, qkv_bias="attention_bias"),
    }
    feed = mlp(d, s.size("intermediate_size"))
    if s.flag("mlp_bias"):
        feed += vectors(2 * s.size("intermediate_size") + d)
    one = d * (2 if bias else 1)
    blocks = [
        Block(mixers=(made[kind],), mlp=feed, rest=vectors(2 * one if i else one))
        for i, kind in enumerate(kinds)
    ]
    head = linear(d, d, "none", bias=s.flag("classifier_bias"))
    return assembled(
        s, blocks, body=vectors(3 * one) + head, head_bias=s.flag("decoder_bias", True)
    )


@family("hrm_text")
def hrm(s: Settings) -> Model:
    """HRM-Text: two stacks of layers that take turns; norms have no weights."""
    d = hidden(s)
    stack = s.size("num_layers_per_stack", s.size("num_hidden_layers"))
    high, low = s.size("H_cycles", 2), s.size("L_cycles", 3)
    heads, bias = s.size("num_attention_heads"), s.flag("attention_bias")
    mixer = grouped(
        s, qkv_bias=bias, kv_heads=heads, extra=linear(d, heads * head_width(s), bias=bias)
    )
    block = Block(mixers=(mixer,), mlp=dense(s, bias="mlp_bias"))
    model = assembled(s, [block], body=vectors(d))
    return replace(model, runs=(Run(block, stack * high * (low + 1), 2 * stack),))


@family("dory")
def dory(s: Settings) -> Model:
    """Dory: normalised weights and a middle part of layers that runs several times."""
    d, heads, width = hidden(s), s.size("num_attention_heads"), head_width(s)
    named = s.get("layer_types")
    if isinstance(named, list) and "mlp" in named:  # an older layout names mixers and MLPs apart
        halved: dict[str, object] = {"layer_types": named[::2]}
        for key in ("num_hidden_layers", "n_input_layers", "n_output_layers",
                    "n_recurrent_layers"):  # fmt: skip
            if s.get(key) is not None:
                halved[key] = s.size(key) // 2
        s = Settings({**s.given, **halved}, s.defaults, {})
    layers, kinds = depth(s), layer_kinds(s, every(4, "full_attention", "sliding_attention"))
    gate = linear(d, heads * width) + vectors(2 * heads * width)
    made = {
        "full_attention": grouped(s, qkv_bias="attention_bias", extra=gate),
        "sliding_attention": grouped(
            s, s.maybe("sliding_window"), qkv_bias="attention_bias", extra=gate
        ),
    }
    feed = dense(s, bias="mlp_bias") + vectors(2 * s.size("intermediate_size"))
    first, last = s.count("n_input_layers"), s.count("n_output_layers")
    middle = s.count("n_recurrent_layers", max(layers - first - last, 0))
    loops = s.size("n_recurrent_loops")
    runs: dict[Block, list[int]] = {}
    for i, kind in enumerate(kinds):
        block = Block(mixers=(made[kind],), mlp=feed, rest=vectors(2 * d))
        times = loops if first <= i < first + middle else 1
        counted = runs.setdefault(block, [0, 0])
        counted[0] += times
        counted[1] += 1
    model = assembled(s, [], body=vectors(s.size("vocab_size")))
    return replace(model, runs=tuple(Run(b, used, kept) for b, (used, kept) in runs.items()))


@family("cpmant")
def cpmant(s: Settings) -> Model:
    """CPM-Ant: buckets of relative positions, segments and prompts."""
    d, heads, width = hidden(s), s.size("num_attention_heads"), s.size("dim_head")
    prompts = s.size("prompt_types") * s.size("prompt_length")
    segments = s.size("segment_types")
    buckets = s.size("position_bias_num_buckets") + segments * segments
    mixer = attention(d, heads, heads, width)
    feed = mlp(d, s.size("dim_ff"))
    tables = (prompts + segments) * d + buckets * heads
    return replace(decoder(s, mixer, feed, lookup=tables), tied=False)


@family("ctrl")
def ctrl(s: Settings) -> Model:
    """CTRL: computed positions, a bias in the output."""
    s = renamed(s)
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    feed = plain_mlp(hidden(s), s.size("dff"), bias=True)
    return decoder(s, mixer, feed, norm_bias=True, head_bias=True)


@family("mllama_text_model")
def mllama(s: Settings) -> Model:
    """Llama 3.2 Vision's text part: some layers read the picture instead of the text."""
    d, heads, width = hidden(s), s.size("num_attention_heads"), head_width(s)
    kv = s.size("num_key_value_heads", heads)
    usual = range(3, depth(s), 5)
    cross_at = set(s.integers("cross_attention_layers") or usual)
    own = grouped(s)
    core = attention(d, heads, kv, width, extra=vectors(2 * width + 2), kind="cross attention")
    # What it attends to is the picture: nothing of the text is cached or read.
    cross = replace(core, cached=0, pair_flops=0, prefill_pair_flops=0)
    mixers = [cross if i in cross_at else own for i in range(depth(s))]
    return decoder(s, mixers, dense(s), lookup=8 * d)
