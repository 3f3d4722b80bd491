"""Dense decoders whose layers are alike: what a `Shape` describes and a search can vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from suffice.architecture.families.decoder import (
    Switch,
    decoder,
    depth,
    head_width,
    hidden,
    layer_kinds,
    sliding_pattern,
    switched,
)
from suffice.architecture.families.parts import NOTHING, attention, linear, mlp, vectors
from suffice.architecture.families.registry import family
from suffice.architecture.model import Model, Part
from suffice.architecture.settings import Settings
from suffice.architecture.shape import QkNorm, Shape
from suffice.core.errors import UnsupportedModel

# The window of sliding layers, and which layers slide.
Sliding = Callable[[Settings], tuple[int | None, int]]


@dataclass(frozen=True, slots=True)
class Uniform:
    """What a `model_type` implies that its config does not say.

    A switch is on, off, or named by a key of the config. `extra` are weights of a layer that no
    field of `Shape` holds: such a family is counted, not searched.
    """

    architecture: str
    gated_mlp: bool = True
    qkv_bias: Switch = False
    o_bias: Switch | None = None
    mlp_bias: Switch = False
    lm_head_bias: Switch = False
    qk_norm: QkNorm = "none"
    norms_per_layer: int = 2
    norm_bias: bool = False
    sliding: Sliding | None = None
    extra: Callable[[Settings], Part] | None = None


def _all_slide(s: Settings) -> tuple[int | None, int]:
    window = s.maybe("sliding_window")
    return window, depth(s) if window else 0


def _named(otherwise: Callable[[Settings], Callable[[int], str]]) -> Sliding:
    """Sliding layers as `layer_types` names them, else as the family has them."""

    def sliding(s: Settings) -> tuple[int | None, int]:
        window = s.maybe("sliding_window")
        kinds = layer_kinds(s, otherwise(s))
        count = sum(kind == "sliding_attention" for kind in kinds) if window else 0
        return (window, count) if count else (None, 0)

    return sliding


def _pattern(period: int, key: str = "sliding_window_pattern") -> Sliding:
    return _named(lambda s: sliding_pattern(s, period, key))


def _qwen(s: Settings) -> Callable[[int], str]:
    first = s.count("max_window_layers", 28)
    slides = s.flag("use_sliding_window")
    return lambda i: "sliding_attention" if slides and i >= first else "full_attention"


def _switched_window(s: Settings) -> tuple[int | None, int]:
    return _named(_qwen)(s) if s.flag("use_sliding_window") else (None, 0)


def _smollm(s: Settings) -> Callable[[int], str]:
    interval = s.count("no_rope_layer_interval", 4)
    rotary = s.integers("no_rope_layers")

    def kind(i: int) -> str:
        turned = rotary[i] if i < len(rotary) else bool(interval and (i + 1) % interval)
        slides = s.flag("use_sliding_window") and not turned
        return "sliding_attention" if slides else "full_attention"

    return kind


def _qk_layernorm(s: Settings) -> Part:
    """Norms of queries and keys with a shift (Phi, when it has them)."""
    return vectors(4 * head_width(s)) if s.flag("qk_layernorm") else NOTHING


UNIFORM: Mapping[str, Uniform] = {
    "llama": Uniform("LlamaForCausalLM", qkv_bias="attention_bias", mlp_bias="mlp_bias"),
    "mistral": Uniform("MistralForCausalLM", sliding=_all_slide),
    "ministral": Uniform(
        "MinistralForCausalLM", sliding=_named(lambda _: lambda __: "sliding_attention")
    ),
    "ministral3": Uniform("Ministral3ForCausalLM", sliding=_all_slide),
    "qwen2": Uniform("Qwen2ForCausalLM", qkv_bias=True, o_bias=False, sliding=_switched_window),
    "qwen3": Uniform(
        "Qwen3ForCausalLM", qk_norm="head", qkv_bias="attention_bias", sliding=_switched_window
    ),
    "smollm3": Uniform(
        "SmolLM3ForCausalLM", qkv_bias="attention_bias", mlp_bias="mlp_bias",
        sliding=_named(_smollm)
    ),
    "gemma": Uniform("GemmaForCausalLM", qkv_bias="attention_bias"),
    "gemma2": Uniform(
        "Gemma2ForCausalLM", qkv_bias="attention_bias", norms_per_layer=4, sliding=_pattern(2)
    ),
    "gemma3_text": Uniform(
        "Gemma3ForCausalLM", qkv_bias="attention_bias", qk_norm="head", norms_per_layer=4,
        sliding=_pattern(6)
    ),
    "vaultgemma": Uniform("VaultGemmaForCausalLM", qkv_bias="attention_bias", sliding=_pattern(2)),
    "phi": Uniform(
        "PhiForCausalLM", gated_mlp=False, qkv_bias=True, mlp_bias=True, lm_head_bias=True,
        norms_per_layer=1, norm_bias=True, extra=_qk_layernorm
    ),
    "phi3": Uniform("Phi3ForCausalLM", sliding=_all_slide),
    "olmo2": Uniform("Olmo2ForCausalLM", qk_norm="full", qkv_bias="attention_bias"),
    "olmo3": Uniform(
        "Olmo3ForCausalLM", qk_norm="full", qkv_bias="attention_bias", sliding=_pattern(4, key="_")
    ),
    "granite": Uniform("GraniteForCausalLM", qkv_bias="attention_bias", mlp_bias="mlp_bias"),
    "helium": Uniform(
        "HeliumForCausalLM", qkv_bias="attention_bias", o_bias=False, mlp_bias="mlp_bias"
    ),
    "arcee": Uniform(
        "ArceeForCausalLM", gated_mlp=False, qkv_bias="attention_bias", mlp_bias="mlp_bias"
    ),
    "starcoder2": Uniform(
        "Starcoder2ForCausalLM", gated_mlp=False, qkv_bias="use_bias", mlp_bias="use_bias",
        norm_bias=True, sliding=_all_slide
    ),
    "ernie4_5": Uniform("Ernie4_5ForCausalLM", qkv_bias="use_bias", mlp_bias="use_bias"),
    "glm": Uniform("GlmForCausalLM", qkv_bias="attention_bias", o_bias=False),
    "glm4": Uniform("Glm4ForCausalLM", qkv_bias="attention_bias", o_bias=False, norms_per_layer=4),
    "seed_oss": Uniform(
        "SeedOssForCausalLM", qkv_bias="attention_bias", o_bias="attention_out_bias",
        mlp_bias="mlp_bias"
    ),
    "cwm": Uniform(
        "CwmForCausalLM", mlp_bias="mlp_bias",
        sliding=_named(lambda _: lambda i: "sliding_attention" if i % 4 else "full_attention")
    ),
    "exaone4": Uniform("Exaone4ForCausalLM", qk_norm="head", sliding=_pattern(4)),
    "hunyuan_v1_dense": Uniform(
        "HunYuanDenseV1ForCausalLM", qk_norm="head", qkv_bias="attention_bias"
    ),
    "cohere2": Uniform(
        "Cohere2ForCausalLM", qkv_bias="attention_bias", norms_per_layer=1, sliding=_pattern(4)
    ),
    "apertus": Uniform(
        "ApertusForCausalLM", gated_mlp=False, qk_norm="head", qkv_bias="attention_bias",
        extra=lambda _: vectors(2)
    ),
    "jais2": Uniform(
        "Jais2ForCausalLM", gated_mlp=False, qkv_bias="attention_bias", mlp_bias="mlp_bias",
        norm_bias=True
    ),
    "nemotron": Uniform(
        "NemotronForCausalLM", gated_mlp=False, qkv_bias="attention_bias", mlp_bias="mlp_bias",
        norm_bias=True
    ),
    "bitnet": Uniform(
        "BitNetForCausalLM", qkv_bias="attention_bias",
        extra=lambda s: vectors(hidden(s) + s.size("intermediate_size"))
    ),
}  # fmt: skip
# The same layers under another name.
SAME_AS: Mapping[str, str] = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen2_5_omni_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "emu3_text_model": "llama",
    "exaone": "llama",
    "internlm3": "llama",
    "iquestcoder": "llama",
    "phi4_multimodal": "phi3",
}


def shape_of(
    s: Settings, model_type: str, *, base: str, name: str | None, config: Mapping[str, Any]
) -> Shape:
    """The shape that a config of a uniform family describes, as one of the family `base`.

    `config` are the keys that go along with it, unread.
    """
    kind = UNIFORM[base]
    if kind.extra is not None and kind.extra(s).values:
        raise UnsupportedModel(
            f"model_type {model_type!r} has weights in its layers that a search does not vary; "
            "`suffice shapes` and `suffice size` take it"
        )
    return replace(_shape(s, base, kind), name=name, config=config)


def _shape(s: Settings, model_type: str, kind: Uniform) -> Shape:
    heads = s.size("num_attention_heads")
    s.names("layer_types", depth(s))  # must have one entry per layer, even where all are alike
    window, sliding = kind.sliding(s) if kind.sliding else (None, 0)
    bias = switched(s, kind.qkv_bias)
    return Shape(
        hidden_size=hidden(s),
        intermediate_size=s.size("intermediate_size"),
        num_hidden_layers=depth(s),
        num_attention_heads=heads,
        num_key_value_heads=s.size("num_key_value_heads", heads),
        head_dim=head_width(s),
        vocab_size=s.size("vocab_size"),
        tie_word_embeddings=s.flag("tie_word_embeddings"),
        model_type=model_type,
        gated_mlp=kind.gated_mlp,
        qkv_bias=bias,
        o_bias=bias if kind.o_bias is None else switched(s, kind.o_bias),
        mlp_bias=switched(s, kind.mlp_bias),
        lm_head_bias=switched(s, kind.lm_head_bias),
        qk_norm=kind.qk_norm,
        norms_per_layer=kind.norms_per_layer,
        norm_bias=kind.norm_bias,
        sliding_window=window,
        num_sliding_layers=sliding,
    )


def model_of_shape(shape: Shape, *, extra: Part = NOTHING, max_context: int | None = None) -> Model:
    """The model that a shape describes; `extra` are further weights of each layer."""
    qk_norm = {
        "none": 0,
        "head": 2 * shape.head_dim,
        "full": (shape.num_attention_heads + shape.num_key_value_heads) * shape.head_dim,
    }[shape.qk_norm]
    full, sliding = (
        attention(
            shape.hidden_size,
            shape.num_attention_heads,
            shape.num_key_value_heads,
            shape.head_dim,
            query_bias=shape.qkv_bias,
            output_bias=shape.o_bias,
            extra=vectors(qk_norm),
            window=window,
        )
        for window in (None, shape.sliding_window)
    )
    few = shape.num_hidden_layers - shape.num_sliding_layers
    settings = Settings(
        {
            "model_type": shape.model_type,
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_hidden_layers,
            "vocab_size": shape.vocab_size,
            "tie_word_embeddings": shape.tie_word_embeddings,
            "max_position_embeddings": max_context,
        },
        {},
        {},
    )
    feed = mlp(
        shape.hidden_size, shape.intermediate_size, gated=shape.gated_mlp, bias=shape.mlp_bias
    )
    return decoder(
        settings,
        [full] * few + [sliding] * shape.num_sliding_layers,
        feed,
        norms=shape.norms_per_layer,
        norm_bias=shape.norm_bias,
        layer=extra,
        head_bias=shape.lm_head_bias,
    ).renamed(shape.name)


@family(*UNIFORM, *SAME_AS)
def uniform(s: Settings) -> Model:
    """A dense decoder whose layers are alike."""
    model_type = str(s.get("model_type"))
    kind = UNIFORM[SAME_AS.get(model_type, model_type)]
    extra = kind.extra(s) if kind.extra else NOTHING
    shape = _shape(s, model_type, kind)
    return model_of_shape(shape, extra=extra, max_context=s.maybe("max_position_embeddings"))


@family("apertus1p5_text")
def apertus_wide(s: Settings) -> Model:
    """Apertus 1.5: the output may know fewer tokens than the input."""
    same = Settings({**s.given, "model_type": "apertus"}, s.defaults, {})
    model = uniform(same)
    written = s.maybe("output_vocab_size")
    head = linear(model.hidden_size, written) if written else model.head
    return replace(model, head=head, model_type="apertus1p5_text")
