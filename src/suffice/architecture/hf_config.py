"""Hugging Face `config.json` to a `Shape` and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suffice.architecture.families.uniform import SAME_AS, UNIFORM, shape_of
from suffice.architecture.family_defaults import defaults_of
from suffice.architecture.model import describe_layers
from suffice.architecture.model_counts import parameters
from suffice.architecture.reading import TextPart, model_from_config, settings_of, text_part
from suffice.architecture.shape import Shape
from suffice.core.errors import ConfigError, UnsupportedModel
from suffice.core.quantities import format_count

_DIMENSIONS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size",
)  # fmt: skip
# validate_architecture of these families' configs (transformers 5.17, 5.23, 5.24).
_CHECKS_DIVISIBILITY = frozenset(
    {"llama", "gemma2", "gemma3_text", "vaultgemma", "arcee", "jais2", "cwm"}
)
_DERIVED = (*_DIMENSIONS, "model_type", "architectures", "tie_word_embeddings")
# What belongs to one checkpoint and must not pass to another model: how its weights were
# quantised, the code it was shipped with, and where it lay on somebody's disk.
_CHECKPOINTS_OWN = (
    "quantization_config", "compression_config", "quantization", "auto_map", "_name_or_path",
    "name_or_path", "_commit_hash", "adapter_config", "expert_dtype",
)  # fmt: skip
_BIASES = {"qkv_bias": "qkv_bias", "o_bias": "o_bias", "mlp_bias": "mlp_bias",
           "lm_head_bias": "lm_head_bias"}  # fmt: skip


def shape_from_config(config: Mapping[str, Any], *, name: str | None = None) -> Shape:
    """Shape of a parsed `config.json` of a uniform dense decoder.

    Raises ConfigError, or UnsupportedModel for a model whose layers are not alike or not dense:
    those are read by `suffice.architecture.reading.model_from_config`. A multimodal config is read
    through its text part; its other towers are left out.
    """
    part = text_part(config)
    base = SAME_AS.get(part.model_type, part.model_type)
    if base not in UNIFORM:
        raise UnsupportedModel(_why_not(part, config))
    own = {k: v for k, v in part.config.items() if k not in _DERIVED + _CHECKPOINTS_OWN}
    return shape_of(settings_of(part), part.model_type, base=base, name=name, config=own)


def _why_not(part: TextPart, config: Mapping[str, Any]) -> str:
    """What the model is, with its size, and which command takes it."""
    model = model_from_config(config)
    counted = parameters(model)
    size = f"{format_count(counted.total)} parameters"
    if counted.experts:
        size += f", {format_count(counted.active)} of them active per token"
    return (
        f"model_type {part.model_type!r} is {_kind_of(describe_layers(model))} ({size}): a search "
        "varies dense decoders with equal layers only; `suffice shapes` and `suffice size` take it"
    )


def _kind_of(layers: str) -> str:
    if any(word in layers for word in ("linear", "state space", "recurrent", "convolution")):
        kind = "a hybrid"
    elif "with experts" in layers:
        kind = "a mixture of experts"
    elif "latent" in layers or "sparse" in layers:
        kind = "a model with latent attention"
    else:
        kind = "a dense model whose layers are of another kind"
    return kind


def config_from_shape(shape: Shape) -> dict[str, Any]:
    """The `config.json` that transformers and vLLM load as `shape`.

    `head_dim` is always written: without it both would derive `hidden_size / heads`, which is wrong
    for every shape whose attention is wider or narrower than its hidden size. Where transformers
    refuses a family's config because `hidden_size` is no multiple of the heads, an equal family
    without that check is written instead (Llama without biases is Mistral without a window).
    Nothing that belongs to the checkpoint the shape was read from is written.
    """
    model_type = _loadable_model_type(shape)
    family = UNIFORM[model_type]
    dimensions = {key: getattr(shape, key) for key in _DIMENSIONS}
    config: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": model_type,
        **dimensions,
        "tie_word_embeddings": shape.tie_word_embeddings,
    }
    if model_type != shape.model_type:
        config["sliding_window"] = None
    defaults, _ = defaults_of(model_type)
    for field in _BIASES:
        key = getattr(family, field)
        if isinstance(key, str) and getattr(shape, field) != bool(defaults.get(key, False)):
            config[key] = getattr(shape, field)
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
