"""Write the defaults of model families to src/suffice/architecture/data/families.json.

python scripts/family_defaults.py    needs the torch extra (transformers)

A config.json may leave out what its config class fills in. Only numbers, truth values and lists
are taken, and the second names that keys have; a test holds the file against transformers.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from suffice.architecture.families import BUILDERS

TARGET = Path(__file__).parent.parent / "src/suffice/architecture/data/families.json"
# What no count, size or speed depends on.
_IRRELEVANT = re.compile(
    r"dropout|_token_id|_token_index|eps$|epsilon$|initializer|rope_(theta|scaling|param)|rotary_(dim|emb)|hidden_act|"
    r"activation|use_cache|summary|_pdrop|aux_loss|attn_implementation|output_router|time_step|"
    r"softcap|soft_cap|scaling|_scale$|^scale_|jitter|pretraining_tp|init_std|residual_in|norm_topk"
    r"|n_group|topk_group|theta|multiplier|return_dict|output_(attentions|hidden)|transformers_|"
    r"id2label|label2id|problem_type|chunk_size_feed|is_encoder_decoder|^architectures$|^dtype$|"
    r"layerdrop|mask_(time|feature)|suppress|vision_config|audio_config|_clip|kernel_backend|seed$|"
    r"dt_(min|max)|a_log|init_floor"
)
_WRAPPED = ("text_config", "llm_config", "language_config")


def defaults_of(config_class: Any) -> dict[str, Any]:
    """Defaults of a config class that a count may depend on."""
    found = {}
    for field in dataclasses.fields(config_class):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if value is dataclasses.MISSING or _IRRELEVANT.search(field.name):
            continue
        if isinstance(value, tuple):
            value = list(value)
        if value is None or isinstance(value, bool | int | float | str | list):
            found[field.name] = value
    return found


def table() -> dict[str, Any]:
    """Defaults and second names by model type, and what a wrapper's text part is by default."""
    known = {str(name) for name in CONFIG_MAPPING}
    families, wrappers = {}, {}
    for name in sorted(known & (set(BUILDERS) | set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))):
        if name in BUILDERS:
            config_class = CONFIG_MAPPING[name]
            aliases = {
                key: value
                for key, value in config_class.attribute_map.items()
                if not _IRRELEVANT.search(key)
            }
            families[name] = {"defaults": defaults_of(config_class), "aliases": aliases}
    for name in sorted(known):
        found = _wrapped(CONFIG_MAPPING[name], set(BUILDERS))
        if found is not None and name not in BUILDERS:
            wrappers[name] = found
    return {"families": families, "wrappers": wrappers}


def _wrapped(config_class: Any, known: set[str]) -> dict[str, Any] | None:
    """The text part of a wrapper: its default type and sizes, and whether the wrapper ties."""
    specs = getattr(config_class, "sub_configs_defaults", None) or {}
    for key in _WRAPPED:
        spec = specs.get(key)
        inner = getattr(spec, "model_type", None)
        if spec is None:
            continue
        tie = getattr(_instance(config_class), "tie_word_embeddings", None)
        given = {k: v for k, v in spec.init_kwargs.items() if not _IRRELEVANT.search(k)}
        return {"model_type": inner or None, "tie_word_embeddings": tie, "text": given}
    return None


def _instance(config_class: Any) -> Any:
    """A config as the class fills it in; the class itself where it has no default."""
    try:
        return config_class()
    except Exception:  # noqa: BLE001  whatever a class wants that its default lacks
        return config_class


def main() -> None:
    """Write the file."""
    text = json.dumps(table(), indent=1, sort_keys=True)
    TARGET.write_text(text + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(text)} bytes")


if __name__ == "__main__":
    main()
