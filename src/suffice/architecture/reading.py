"""A `config.json` of any architecture to a `Model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from suffice.architecture.families import BUILDERS
from suffice.architecture.family_defaults import defaults_of, wrapper
from suffice.architecture.model import Model
from suffice.architecture.model_counts import parameters
from suffice.architecture.quantisation import weight_format
from suffice.architecture.settings import Settings
from suffice.core.errors import ConfigError, SufficeError, UnsupportedModel
from suffice.core.quantities import format_count

# Where wrappers keep their text part, most usual first.
_TEXT_KEYS = ("text_config", "llm_config", "language_config", "language_model", "thinker_config",
              "llm", "text_model_config", "decoder")  # fmt: skip
_TOWERS = (
    ("vision_config", "the vision tower"), ("visual", "the vision tower"),
    ("vision_tower_config", "the vision tower"), ("img_processor", "the vision tower"),
    ("audio_config", "the audio tower"), ("audio_encoder_config", "the audio codec"),
    ("audio_processor", "the audio tower"), ("speech_config", "the audio tower"),
    ("encoder_config", "the audio tower"), ("talker_config", "the speech model"),
    ("vq_config", "the picture tokeniser"), ("projector_config", "the projector"),
    ("depth_decoder_config", "the depth decoder"), ("sam_config", "the vision tower"),
    ("embd_layer", "the vision tower"), ("vision_lora", "the adapters"),
    ("speech_lora", "the adapters"),
)  # fmt: skip
# What other objects beside a text part are, by a word in their names.
_TOWER_WORDS = (
    ("gen_vision", "the picture tokeniser"), ("vision", "the vision tower"),
    ("visual", "the vision tower"), ("image", "the vision tower"), ("audio", "the audio tower"),
    ("speech", "the audio tower"), ("wav", "the vocoder"), ("aligner", "the projector"),
)  # fmt: skip
# Wrappers of which a config on the hub holds the text part's keys at its top level.
_FLAT = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "phi4_multimodal": "phi4_multimodal",
    "phi4mm": "phi4_multimodal",
    "phi3_v": "phi3",
    "minicpmv": "qwen2",
    "minicpmo": "qwen2",
    "fuyu": "persimmon",
    "ernie4_5_moe_vl": "ernie4_5_vl_moe_text",
    "paddleocr_vl": "ernie4_5",
    "llava_qwen2": "qwen2",
    "llava_llama": "llama",
    "llava_qwen": "qwen2",
    "llava_mistral": "mistral",
}
# Model types of checkpoints that came before transformers took the family in.
_RENAMED = {
    "kimi_k2": "kimi_k2",
    "qwen3_moe_vl": "qwen3_vl_moe_text",
    "phi-msft": "phi",
    "ernie4_5_vl": "ernie4_5_vl_moe_text",
    "hunyuan": "hunyuan_v1_dense",
    "mixformer-sequential": "phi",
}
_REFUSED = {
    "gemma4_assistant": "it drafts for a Gemma 4 and has no cache of its own: size the Gemma 4",
    "gemma4_unified_assistant": "it drafts for a Gemma 4: size the Gemma 4",
}


@dataclass(frozen=True, slots=True)
class TextPart:
    """The language model inside a config: its own keys, its type, and what stands around it."""

    config: Mapping[str, Any]
    model_type: str
    left_out: tuple[str, ...] = ()
    quantization: Mapping[str, Any] | None = None


def text_part(config: Mapping[str, Any]) -> TextPart:
    """Find the language model of a config, through any number of wrappers."""
    if not isinstance(config, Mapping):
        raise ConfigError("a config.json must hold one JSON object")
    outer_type = config.get("model_type")
    if outer_type in _REFUSED:
        raise UnsupportedModel(f"model_type {outer_type!r} is not modelled: {_REFUSED[outer_type]}")
    quantised = _quantisation_of(config)
    key = next((k for k in _TEXT_KEYS if isinstance(config.get(k), Mapping)), None)
    known = wrapper(outer_type) if isinstance(outer_type, str) else None
    if key is not None and not (outer_type in BUILDERS and key not in ("text_config",)):
        inner = {**(known["text"] if known and not config[key] else {}), **config[key]}
        if "model_type" not in inner or inner["model_type"] == outer_type:
            guessed = known["model_type"] if known else _text_name(outer_type)
            if guessed:
                inner["model_type"] = guessed
        if "tie_word_embeddings" in config:
            inner["tie_word_embeddings"] = config["tie_word_embeddings"]
        elif known and known["tie_word_embeddings"] is False:
            # A wrapper that unties by default; most leave it to their text part.
            inner.setdefault("tie_word_embeddings", False)
        found = text_part(inner)
        return TextPart(
            found.config,
            found.model_type,
            tuple(dict.fromkeys(_left_out(config) + found.left_out)) or ("its other towers",),
            found.quantization or quantised,
        )
    if isinstance(outer_type, str) and outer_type in _FLAT:
        inner = {**config, "model_type": _FLAT[outer_type]}
        return TextPart(
            inner, _FLAT[outer_type], _left_out(config) or ("its other towers",), quantised
        )
    if known is not None and known["model_type"] in BUILDERS:
        inner = {**known["text"], **config, "model_type": known["model_type"]}
        if known["tie_word_embeddings"] is not None:
            inner.setdefault("tie_word_embeddings", known["tie_word_embeddings"])
        return TextPart(inner, known["model_type"], ("its other towers",), quantised)
    if not isinstance(outer_type, str):
        raise ConfigError(
            f"the config's model_type is {outer_type!r}; it is needed to know the model's layers"
        )
    name = _RENAMED.get(outer_type, outer_type)
    if outer_type == "hunyuan" and config.get("num_experts", 1) not in (None, 0, 1):
        # Caches that layers share are in the large one alone.
        name = "hunyuan" if config.get("use_cla") else "hunyuan_v1_moe"
    return TextPart({**config, "model_type": name}, name, _left_out(config), quantised)


def _text_name(outer: object) -> str | None:
    for candidate in (f"{outer}_text", str(outer)):
        if candidate in BUILDERS:
            return candidate
    return None


def _left_out(config: Mapping[str, Any]) -> tuple[str, ...]:
    named = [name for key, name in _TOWERS if config.get(key)]
    known = {key for key, _ in _TOWERS}
    for key, value in config.items():
        if isinstance(value, Mapping) and value and key not in known:
            named += [name for word, name in _TOWER_WORDS if word in key][:1]
    return tuple(dict.fromkeys(named))


def _quantisation_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = next(
        (config[k] for k in ("quantization_config", "compression_config", "quantization")
         if config.get(k)),
        None,
    )  # fmt: skip
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise ConfigError(f"quantization_config must be an object, got {found!r}")
    return found


def settings_of(part: TextPart) -> Settings:
    """Typed access to a text part, its family's defaults behind it; refuses unknown families."""
    if part.model_type not in BUILDERS:
        raise UnsupportedModel(refusal(part))
    defaults, aliases = defaults_of(part.model_type)
    return Settings(part.config, defaults, aliases)


def model_from_config(config: Mapping[str, Any], *, name: str | None = None) -> Model:
    """The model that a parsed `config.json` describes; raises ConfigError or UnsupportedModel.

    Of a multimodal config the language model is counted; `left_out` says what stands beside it.
    What the config leaves out is what the family's config class in transformers fills in; sizes
    that were filled in so are named in `assumed`.
    """
    part = text_part(config)
    s = settings_of(part)
    if part.config.get("per_layer_config") and not part.model_type.startswith(("gemma4", "dots3")):
        raise UnsupportedModel(
            f"model_type {part.model_type!r} with per_layer_config: layers that differ one by one "
            "are not modelled for this family"
        )
    try:
        model = BUILDERS[part.model_type](s)
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        # Nested objects and lists of a foreign file are read as they come; whatever is wrong with
        # one of them is wrong with the file.
        if isinstance(error, SufficeError):
            raise
        raise ConfigError(
            f"the {part.model_type} config cannot be read: {type(error).__name__}: {error}"
        ) from None
    stored = weight_format(part.quantization, part.config)
    return replace(
        model,
        name=name,
        weights=stored,
        left_out=tuple(dict.fromkeys(part.left_out + model.left_out)),
        assumed=tuple(f"{key} {value}" for key, value in s.filled.items() if _is_size(key)),
    )


_SIZES = frozenset(
    {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
     "num_key_value_heads", "head_dim", "vocab_size", "moe_intermediate_size", "num_experts",
     "num_local_experts", "n_routed_experts", "num_experts_per_tok", "kv_lora_rank"}
)  # fmt: skip


def _is_size(key: str) -> bool:
    return key in _SIZES


# What keys of an unknown family tell about it.
_SIGNS = (
    ("experts", ("expert", "moe_")),
    ("latent attention", ("lora_rank",)),
    ("a state space or linear attention", ("mamba", "ssm_", "linear_", "conv_L", "recurrent")),
)


def refusal(part: TextPart) -> str:
    """One line on a family that is not known: what can be said of it, and what to do."""
    said = f"model_type {part.model_type!r} is not modelled"
    seen = [
        name for name, keys in _SIGNS if any(key in found for found in part.config for key in keys)
    ]
    if seen:
        said += f" (its keys speak of {', '.join(seen)})"
    near = _as_llama(part.config)
    if near:
        said += f"; with layers like Llama's it would have about {near}"
    return (
        f"{said}. {len(BUILDERS)} families are: `suffice shapes --families` lists them; if its "
        "layers are those of one of them, put that model_type into a copy of the config"
    )


def _as_llama(config: Mapping[str, Any]) -> str | None:
    """Parameters if the layers were Llama's, or None where the config does not say enough."""
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "vocab_size")  # fmt: skip
    sparse = any("expert" in key or "lora_rank" in key or "mamba" in key for key in config)
    if sparse or any(not isinstance(config.get(key), int) for key in needed):
        return None
    plain = {key: config[key] for key in (*needed, "num_key_value_heads", "head_dim",
             "tie_word_embeddings") if config.get(key) is not None}  # fmt: skip
    try:
        model = BUILDERS["llama"](Settings({**plain, "model_type": "llama"}, {}, {}))
    except ConfigError:
        return None
    return f"{format_count(parameters(model).total)} parameters"
