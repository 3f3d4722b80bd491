"""Hugging Face `config.json` to a `Shape` and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suffice.architecture.shape import QkNorm, Shape
from suffice.core.errors import ConfigError, UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a `model_type` implies that its config does not say."""

    architecture: str
    tie_word_embeddings: bool = False
    gated_mlp: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    qk_norm: QkNorm = "none"
    norms_per_layer: int = 2
    norm_bias: bool = False
    bias_key: str | None = None
    bias_covers_output: bool = True
    head_dim: int | None = None
    # Every `sliding_pattern`-th layer attends fully; None: all layers slide if a window is set.
    sliding_pattern: int | None = None
    window_switch: str | None = None


FAMILIES: Mapping[str, Family] = {
    "llama": Family(architecture="LlamaForCausalLM", bias_key="attention_bias"),
    "mistral": Family(architecture="MistralForCausalLM"),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM", qkv_bias=True, window_switch="use_sliding_window"
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        qk_norm="head",
        bias_key="attention_bias",
        head_dim=128,
        window_switch="use_sliding_window",
    ),
    "smollm3": Family(
        architecture="SmolLM3ForCausalLM",
        tie_word_embeddings=True,
        bias_key="attention_bias",
        window_switch="use_sliding_window",
    ),
    "gemma": Family(
        architecture="GemmaForCausalLM",
        tie_word_embeddings=True,
        bias_key="attention_bias",
        head_dim=256,
    ),
    "gemma2": Family(
        architecture="Gemma2ForCausalLM",
        tie_word_embeddings=True,
        bias_key="attention_bias",
        norms_per_layer=4,
        head_dim=256,
        sliding_pattern=2,
    ),
    "gemma3_text": Family(
        architecture="Gemma3ForCausalLM",
        tie_word_embeddings=True,
        bias_key="attention_bias",
        qk_norm="head",
        norms_per_layer=4,
        head_dim=256,
        sliding_pattern=6,
    ),
    "phi": Family(
        architecture="PhiForCausalLM",
        gated_mlp=False,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        lm_head_bias=True,
        norms_per_layer=1,
        norm_bias=True,
    ),
    "phi3": Family(architecture="Phi3ForCausalLM"),
    "olmo2": Family(architecture="Olmo2ForCausalLM", qk_norm="full", bias_key="attention_bias"),
}

_EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size")
_LATENT_KEYS = ("kv_lora_rank", "q_lora_rank")
_RECURRENT_KEYS = (
    "mamba_d_state", "ssm_state_size", "mamba_expand", "attn_layer_period",
    "full_attention_interval", "linear_num_value_heads", "lru_width", "hybrid_override_pattern",
    "block_configs",
)  # fmt: skip
_DIMENSIONS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size",
)  # fmt: skip
# Seen in transformers 5.17 and 5.23: validate_architecture of these families' configs.
_CHECKS_DIVISIBILITY = frozenset({"llama", "gemma2", "gemma3_text"})
_DERIVED = (*_DIMENSIONS, "model_type", "architectures", "tie_word_embeddings")


def shape_from_config(config: Mapping[str, Any], *, name: str | None = None) -> Shape:
    """Shape of a parsed `config.json`; raises ConfigError or UnsupportedModel.

    A multimodal config is read through its `text_config`; its other towers are not modelled.
    """
    if not isinstance(config, Mapping):
        raise ConfigError("a config.json must hold one JSON object")
    _refuse_unsupported(config)
    if isinstance(config.get("text_config"), Mapping):
        outer = config
        config = {**config["text_config"]}
        config.setdefault("tie_word_embeddings", outer.get("tie_word_embeddings", True))
        return shape_from_config(config, name=name)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModel(
            f"model_type {model_type!r} is not modelled; supported: {', '.join(sorted(FAMILIES))}"
        )
    family = FAMILIES[model_type]
    hidden_size = _integer(config, "hidden_size")
    heads = _integer(config, "num_attention_heads")
    layers = _integer(config, "num_hidden_layers")
    window, sliding = _sliding(config, family, layers)
    bias = bool(config.get(family.bias_key, False)) if family.bias_key else False
    return Shape(
        hidden_size=hidden_size,
        intermediate_size=_integer(config, "intermediate_size"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=_integer(config, "num_key_value_heads", default=heads),
        head_dim=_head_dim(config, family, hidden_size, heads),
        vocab_size=_integer(config, "vocab_size"),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", family.tie_word_embeddings)),
        model_type=model_type,
        gated_mlp=family.gated_mlp,
        qkv_bias=family.qkv_bias or bias,
        o_bias=family.o_bias or (bias and family.bias_covers_output),
        mlp_bias=family.mlp_bias or (model_type == "llama" and bool(config.get("mlp_bias"))),
        lm_head_bias=family.lm_head_bias,
        qk_norm=family.qk_norm,
        norms_per_layer=family.norms_per_layer,
        norm_bias=family.norm_bias,
        sliding_window=window,
        num_sliding_layers=sliding,
        name=name or _published_name(config),
        config={key: value for key, value in config.items() if key not in _DERIVED},
    )


def config_from_shape(shape: Shape) -> dict[str, Any]:
    """The `config.json` that transformers and vLLM load as `shape`.

    `head_dim` is always written: without it both would derive `hidden_size / heads`, which is wrong
    for every shape whose attention is wider or narrower than its hidden size. Where transformers
    refuses a family's config because `hidden_size` is no multiple of the heads, an equal family
    without that check is written instead (Llama without biases is Mistral without a window).
    """
    model_type = _loadable_model_type(shape)
    family = FAMILIES[model_type]
    dimensions = {key: getattr(shape, key) for key in _DIMENSIONS}
    config: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": model_type,
        **dimensions,
        "tie_word_embeddings": shape.tie_word_embeddings,
    }
    if model_type != shape.model_type:
        config["sliding_window"] = None
    if family.bias_key and shape.qkv_bias != family.qkv_bias:
        config[family.bias_key] = True
    if shape.mlp_bias != family.mlp_bias:
        config["mlp_bias"] = True
    return {**config, **{k: v for k, v in shape.config.items() if k not in config}}


def _loadable_model_type(shape: Shape) -> str:
    if shape.hidden_size % shape.num_attention_heads == 0:
        return shape.model_type
    if shape.model_type == "llama" and not (shape.qkv_bias or shape.mlp_bias):
        return "mistral"
    if shape.model_type in _CHECKS_DIVISIBILITY:
        raise ConfigError(
            f"transformers loads a {shape.model_type} model only if hidden_size "
            f"({shape.hidden_size}) is a multiple of num_attention_heads "
            f"({shape.num_attention_heads}): choose such a shape"
        )
    return shape.model_type


def _published_name(config: Mapping[str, Any]) -> str | None:
    name = config.get("_name_or_path")
    return name if isinstance(name, str) and name else None


def _integer(config: Mapping[str, Any], key: str, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        if default is None:
            raise ConfigError(f"the config has no {key}; it is needed to know the model's shape")
        return default
    if isinstance(value, list):
        raise UnsupportedModel(
            f"{key} differs from layer to layer; only uniform layers are modelled"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} must be a whole number, got {value!r}")
    return value


def _head_dim(config: Mapping[str, Any], family: Family, hidden_size: int, heads: int) -> int:
    if config.get("head_dim") is not None:
        return _integer(config, "head_dim")
    if family.head_dim is not None:
        return family.head_dim
    if heads < 1 or hidden_size % heads:
        raise ConfigError(
            f"hidden_size ({hidden_size}) is not a multiple of num_attention_heads ({heads}) and "
            "the config gives no head_dim: add head_dim, or correct one of the two"
        )
    return hidden_size // heads


def _sliding(config: Mapping[str, Any], family: Family, layers: int) -> tuple[int | None, int]:
    """Window in tokens and the number of layers that use it."""
    window = config.get("sliding_window")
    if not window or (family.window_switch and not config.get(family.window_switch, False)):
        return None, 0
    window = _integer(config, "sliding_window")
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        if len(kinds) != layers:
            raise ConfigError(f"layer_types has {len(kinds)} entries for {layers} layers")
        return window, sum(kind == "sliding_attention" for kind in kinds)
    pattern = config.get("sliding_window_pattern", family.sliding_pattern)
    if pattern:
        return window, layers - layers // int(pattern)
    return window, layers - min(layers, int(config.get("max_window_layers", 0)))


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    kind = f"model_type {config.get('model_type')!r}"
    inner = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else {}
    keys = {k for source in (config, inner or {}) for k, v in source.items() if v}
    kinds = config.get("layer_types") or []
    # Order matters: several hybrids also have experts, and "hybrid" says more about them.
    if keys & set(_RECURRENT_KEYS) or any(
        "attention" not in str(k) or "linear" in str(k) for k in kinds
    ):
        raise UnsupportedModel(
            f"{kind} is a hybrid (recurrent, linear-attention or per-layer blocks); only uniform "
            "dense attention decoders are modelled so far"
        )
    if keys & set(_EXPERT_KEYS) or "moe" in str(config.get("model_type")):
        raise UnsupportedModel(
            f"{kind} is a mixture of experts; only dense models are modelled so far: the published "
            "laws say nothing about experts"
        )
    if keys & set(_LATENT_KEYS):
        raise UnsupportedModel(
            f"{kind} uses multi-head latent attention, whose KV cache is not modelled so far"
        )
