"""Decoder halves of translation models, and encoders that can be run as decoders."""

from __future__ import annotations

from dataclasses import dataclass, replace

from suffice.architecture.families.decoder import (
    assembled,
    decoder,
    dense,
    depth,
    grouped,
    head_width,
    hidden,
)
from suffice.architecture.families.older import renamed
from suffice.architecture.families.parts import (
    NOTHING,
    attention,
    linear,
    norm,
    plain_mlp,
    vectors,
)
from suffice.architecture.families.registry import family
from suffice.architecture.model import Block, Model, Part
from suffice.architecture.settings import Settings
from suffice.core.errors import UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    offset: int | None = 0  # positions beyond max_position_embeddings; None: computed, no weights
    embedding_norm: bool = False
    final_norm: bool = False
    bias: bool | str = True


_HALVES = {
    "bart": _Half(offset=2, embedding_norm=True),
    "plbart": _Half(offset=2, embedding_norm=True),
    "mvp": _Half(offset=2, embedding_norm=True),
    "mbart": _Half(offset=2, embedding_norm=True, final_norm=True),
    "pegasus": _Half(final_norm=True),
    "blenderbot": _Half(final_norm=True),
    "blenderbot-small": _Half(embedding_norm=True),
    "marian": _Half(),
    "bigbird_pegasus": _Half(embedding_norm=True, bias="use_bias"),
    "trocr": _Half(offset=2, embedding_norm=True),
    "whisper": _Half(final_norm=True),
}


@family(*_HALVES)
def decoder_half(s: Settings) -> Model:
    """The decoder of an encoder-decoder model: every layer also reads the encoder."""
    model_type = str(s.get("model_type"))
    half = _HALVES[model_type]
    s = renamed(
        s,
        num_hidden_layers=s.get("decoder_layers"),
        num_attention_heads=s.get("decoder_attention_heads"),
    )
    d, heads, width = hidden(s), s.size("num_attention_heads"), head_width(s)
    bias = s.flag(half.bias) if isinstance(half.bias, str) else half.bias
    whisper = model_type == "whisper"
    own = attention(
        d, heads, heads, width, query_bias=bias, output_bias=bias,
        key_bias=False if whisper else None, value_bias=True if whisper else None,
    )  # fmt: skip
    inputs = s.size("cross_attention_hidden_size", d)
    crossing = attention(
        d, heads, heads, width, query_bias=bias, output_bias=bias, inputs=inputs,
        key_bias=False if whisper else None, value_bias=True if whisper else None,
        kind="cross attention",
    )  # fmt: skip
    if inputs != d:  # queries still come from this side
        crossing = replace(crossing, part=crossing.part + vectors((d - inputs) * heads * width))
    cross = replace(crossing, cached=0, pair_flops=0, prefill_pair_flops=0)
    feed = plain_mlp(d, s.size("decoder_ffn_dim"), bias=True)
    both = norm(d, bias=True)
    body = (both if half.embedding_norm and s.flag("layernorm_embedding", True) else NOTHING) + (
        both if half.final_norm else NOTHING
    )
    block = Block(mixers=(own, cross), mlp=feed, rest=vectors(6 * d))
    most = "max_target_positions" if whisper else "max_position_embeddings"
    learned = half.offset is not None and s.flag("use_learned_position_embeddings", True)
    lookup = (s.size(most) + (half.offset or 0)) * d if learned else 0
    tied = False if model_type == "bigbird_pegasus" else None  # transformers never ties it
    return assembled(s, [block] * depth(s), body=body, lookup=lookup, tied=tied)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bert:
    """Where one relative of BERT differs from it."""

    types: bool = True
    positions: bool = True
    transform: bool = True  # a dense layer and a norm before the output
    pooler: bool = False
    embedding_norm: bool = True
    norms_before: bool = False  # norms before the parts: one more at the end


_BERTS = {
    **dict.fromkeys(
        ("bert", "ernie", "camembert", "roberta", "xlm-roberta", "data2vec-text", "xmod"), _Bert()
    ),
    "big_bird": _Bert(pooler=True),
    "bert-generation": _Bert(types=False, transform=False),
    "megatron-bert": _Bert(embedding_norm=False, norms_before=True),
    "roberta-prelayernorm": _Bert(norms_before=True),
    "xlm-roberta-xl": _Bert(embedding_norm=False, norms_before=True),
}


@family(*_BERTS)
def bert(s: Settings) -> Model:
    """BERT run as a decoder, and its relatives."""
    kind = _BERTS[str(s.get("model_type"))]
    _stands_alone(s)
    d = hidden(s)
    biased = s.flag("use_bias", True)
    mixer = grouped(s, qkv_bias=biased, output_bias=True, kv_heads=s.size("num_attention_heads"))
    both = norm(d, bias=True)
    body = (both if kind.embedding_norm else NOTHING) + _untied_bias(s)
    if s.get("model_type") == "xmod" and s.flag("pre_norm"):
        body += both
    if kind.norms_before:
        body += both
    if kind.pooler:
        body += linear(d, d, "none", bias=True)
    if kind.transform:
        body += linear(d, d, "none", bias=True) + both
    tables = (s.size("type_vocab_size") * d if kind.types else 0) + (
        s.size("max_position_embeddings") * d if kind.positions else 0
    )
    if s.get("model_type") == "ernie" and s.flag("use_task_id"):
        tables += s.size("task_type_vocab_size") * d
    return decoder(
        s, mixer, dense(s, gated=False, bias=True), norm_bias=True, final_norm=body,
        layer=_adapters(s), lookup=tables, head_bias=True,
    )  # fmt: skip


def _untied_bias(s: Settings) -> Part:
    """The second copy of the output's bias that an untied model keeps."""
    return NOTHING if s.flag("tie_word_embeddings") else vectors(s.size("vocab_size"))


def _adapters(s: Settings) -> Part:
    """X-MOD's adapters, one per language."""
    if s.get("model_type") != "xmod":
        return NOTHING
    d = hidden(s)
    narrow = d // s.size("adapter_reduction_factor")
    one = linear(d, narrow, "none", bias=True) + linear(narrow, d, "none", bias=True)
    languages = s.get("languages") or ("en_XX",)
    many = NOTHING
    for _ in languages:
        many += one
    return many + (norm(d, bias=True) if s.flag("adapter_layer_norm") else NOTHING)


def _stands_alone(s: Settings) -> None:
    if s.flag("add_cross_attention"):
        raise UnsupportedModel(
            f"model_type {s.get('model_type')!r} with add_cross_attention reads an encoder; only "
            "decoders that stand alone are modelled"
        )


@family("electra")
def electra(s: Settings) -> Model:
    """ELECTRA's generator: an embedding of its own width."""
    _stands_alone(s)
    d, e = hidden(s), s.size("embedding_size")
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    body = norm(e, bias=True) + linear(d, e, "none", bias=True) + norm(e, bias=True)
    if e != d:
        body += linear(e, d, "none", bias=True)
    tables = (s.size("type_vocab_size") + s.size("max_position_embeddings")) * e
    block = Block(mixers=(mixer,), mlp=dense(s, gated=False, bias=True), rest=vectors(4 * d))
    return assembled(
        s, [block] * depth(s), body=body, lookup=tables, embedding=e, head_inputs=e,
        head_bias=True,
    )  # fmt: skip


@family("rembert")
def rembert(s: Settings) -> Model:
    """RemBERT: embedding and output of different widths."""
    _stands_alone(s)
    d, e, out = hidden(s), s.size("input_embedding_size"), s.size("output_embedding_size")
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    body = norm(e, bias=True) + linear(e, d, "none", bias=True)
    body += linear(d, out, "none", bias=True) + norm(out, bias=True)
    tables = (s.size("type_vocab_size") + s.size("max_position_embeddings")) * e
    block = Block(mixers=(mixer,), mlp=dense(s, gated=False, bias=True), rest=vectors(4 * d))
    return assembled(
        s, [block] * depth(s), body=body, lookup=tables, embedding=e, head_inputs=out,
        head_bias=True, tied=False,
    )  # fmt: skip


@family("roformer")
def roformer(s: Settings) -> Model:
    """RoFormer: rotary positions in a table without training."""
    _stands_alone(s)
    d, e = hidden(s), s.size("embedding_size", hidden(s))
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    body = norm(e, bias=True) + linear(d, e, "none", bias=True) + norm(e, bias=True)
    if e != d:
        body += linear(e, d, "none", bias=True)
    body += _untied_bias(s)
    tables = s.size("type_vocab_size") * e + s.size("max_position_embeddings") * head_width(s)
    block = Block(mixers=(mixer,), mlp=dense(s, gated=False, bias=True), rest=vectors(4 * d))
    return assembled(
        s, [block] * depth(s), body=body, lookup=tables, embedding=e, head_inputs=e,
        head_bias=True,
    )  # fmt: skip


@family("roc_bert")
def roc_bert(s: Settings) -> Model:
    """RoCBert: embeddings of sound and shape beside those of the character."""
    d = hidden(s)
    sound, shape = s.size("pronunciation_embed_dim"), s.size("shape_embed_dim")
    plain = Settings({**s.given, "model_type": "bert"}, s.defaults, {})
    model = bert(plain)
    lookup, body, width = model.lookup, model.body, d
    lookup += s.size("pronunciation_vocab_size") * sound + s.size("shape_vocab_size") * shape
    width += sound if s.flag("enable_pronunciation", True) else 0
    width += shape if s.flag("enable_shape", True) else 0
    if s.flag("concat_input", True):
        body += linear(width, d, "none", bias=True)
    return replace(model, lookup=lookup, body=body, model_type="roc_bert")


@family("xlm")
def xlm(s: Settings) -> Model:
    """XLM: learned positions, perhaps embeddings of languages."""
    languages = s.count("n_langs", 1)
    s = renamed(s)
    d = hidden(s)
    mixer = grouped(s, qkv_bias=True, kv_heads=s.size("num_attention_heads"))
    tables = s.size("max_position_embeddings") * d
    if languages > 1 and s.flag("use_lang_emb", True):
        tables += languages * d
    feed = plain_mlp(d, 4 * d, bias=True)
    return decoder(s, mixer, feed, norm_bias=True, lookup=tables, head_bias=True)


@family("xlnet")
def xlnet(s: Settings) -> Model:
    """XLNet: a second projection of relative positions."""
    s = renamed(s)
    d, heads = hidden(s), s.size("num_attention_heads")
    width = s.size("d_head", d // heads)
    extra = linear(d, heads * width) + vectors(5 * heads * width)
    mixer = attention(d, heads, heads, width, extra=extra)
    feed = plain_mlp(d, s.size("d_inner"), bias=True)
    return decoder(s, mixer, feed, norm_bias=True, final_norm=vectors(d), head_bias=True)


@family("prophetnet")
def prophetnet(s: Settings) -> Model:
    """ProphetNet's decoder: predicts several tokens at once."""
    s = Settings(
        {**s.given, "num_hidden_layers": s.get("num_decoder_layers"),
         "num_attention_heads": s.get("num_decoder_attention_heads")},
        s.defaults,
        {},
    )  # fmt: skip
    d, heads = hidden(s), s.size("num_attention_heads")
    buckets = s.size("num_buckets")
    own = grouped(
        s, qkv_bias=True, kv_heads=heads,
        extra=linear(d, buckets * heads, bias=True),
    )  # fmt: skip
    cross = replace(
        grouped(s, qkv_bias=True, kv_heads=heads), kind="cross attention", cached=0,
        pair_flops=0, prefill_pair_flops=0,
    )  # fmt: skip
    reads = s.flag("add_cross_attention", True)
    block = Block(
        mixers=(own, cross) if reads else (own,),
        mlp=plain_mlp(d, s.size("decoder_ffn_dim"), bias=True),
        rest=vectors(6 * d if reads else 4 * d),
    )
    tables = (s.size("max_position_embeddings") + s.size("ngram")) * d
    return assembled(s, [block] * depth(s), body=norm(d, bias=True), lookup=tables)
