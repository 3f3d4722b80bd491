"""Every causal language model of the installed transformers: counted exactly, or refused by name.

A model is built on torch's meta device, which allocates nothing, from its family's default config
and from configs that differ from it in one key.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from suffice.architecture.families import BUILDERS, OWN_DEFAULTS
from suffice.architecture.family_defaults import defaults_of
from suffice.architecture.model_counts import parameters
from suffice.architecture.reading import model_from_config
from suffice.core.errors import ConfigError, UnsupportedModel
from tests.architecture.transformers_families import (
    LEAST,
    REFUSED,
    UNBUILDABLE,
    built,
    causal_types,
)

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers import AutoConfig, AutoModel  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("model_type", [t for t in causal_types() if t not in UNBUILDABLE])
def test_every_family_is_counted_exactly_or_refused_by_name(model_type: str) -> None:
    given = LEAST.get(model_type, {})
    if model_type in REFUSED:
        with pytest.raises(UnsupportedModel, match=f"'{model_type}' is not modelled"):
            model_from_config({"model_type": model_type})
        return
    config, total = built(model_type, **given)
    assert parameters(model_from_config({"model_type": model_type, **given})).total == total
    assert parameters(model_from_config(config.to_dict())).total == total


def test_the_table_of_defaults_agrees_with_transformers() -> None:
    """Sizes that a config leaves out are what transformers fills in."""
    import dataclasses

    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    checked = 0
    for model_type in sorted(set(BUILDERS) - set(OWN_DEFAULTS)):
        if model_type not in CONFIG_MAPPING:
            continue
        defaults, aliases = defaults_of(model_type)
        config_class = CONFIG_MAPPING[model_type]
        theirs = {f.name: f.default for f in dataclasses.fields(config_class)}
        for key, value in defaults.items():
            expected = theirs.get(key, dataclasses.MISSING)
            if expected is not dataclasses.MISSING and not isinstance(expected, tuple):
                assert value == expected, f"{model_type}.{key}"
                checked += 1
        for key, value in aliases.items():
            assert config_class.attribute_map[key] == value
    assert checked > 2000


SMALL = {
    "num_hidden_layers": 4, "n_layer": 4, "n_layers": 4, "num_layers": 4, "decoder_layers": 4,
}  # fmt: skip
# One key at a time, in families that stand for a kind of layer.
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "head_dim": 96, "num_key_value_heads": 4},
    "qwen3_moe": {"mlp_only_layers": [0, 2], "decoder_sparse_step": 2, "num_experts": 24},
    "deepseek_v3": {"q_lora_rank": None, "first_k_dense_replace": 2, "kv_lora_rank": 256,
                    "n_shared_experts": 3, "v_head_dim": 96},
    "deepseek_v32": {"index_n_heads": 16, "index_head_dim": 64},
    "deepseek_v4": {"hc_mult": 2, "o_groups": 4, "index_n_heads": 16},
    "glm4_moe": {"use_qk_norm": True, "head_dim": 96, "attention_bias": True},
    "qwen3_next": {"linear_num_value_heads": 16, "linear_key_head_dim": 64,
                   "linear_conv_kernel_dim": 2, "attention_bias": True},
    "kimi_linear": {"linear_head_dim": 64, "linear_num_heads": 16},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2,
                         "num_local_experts": 0, "mamba_n_groups": 2, "mamba_d_conv": 3},
    "falcon_h1": {"mamba_d_ssm": 512, "mamba_rms_norm": True, "attention_bias": True},
    "jamba": {"mamba_d_state": 8, "attn_layer_offset": 1, "expert_layer_period": 4,
              "num_experts": 1},
    "nemotron_h": {"n_groups": 4, "mamba_head_dim": 32, "moe_latent_size": 512},
    "lfm2": {"block_auto_adjust_ff_dim": False, "full_attn_idxs": [1], "conv_bias": True},
    "gpt_oss": {"num_local_experts": 16, "head_dim": 32},
    "gemma3n_text": {"num_kv_shared_layers": 0, "altup_num_inputs": 2, "laurel_rank": 16},
    "gemma4_text": {"attention_k_eq_v": True, "hidden_size_per_layer_input": 0,
                    "use_double_wide_mlp": True},
    "falcon": {"new_decoder_architecture": True, "parallel_attn": False, "bias": True},
    "gpt2": {"n_inner": 1000, "n_positions": 77},
    "opt": {"word_embed_proj_dim": 512, "enable_bias": False, "do_layer_norm_before": False},
    "stablelm": {"qk_layernorm": True, "use_qkv_bias": True, "use_parallel_residual": True},
    "minimax": {"layer_types": ["linear_attention"] * 4, "num_local_experts": 4},
    "zamba2": {"num_mem_blocks": 2, "adapter_rank": 64, "mamba_ngroups": 2},
}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "key"), [(name, key) for name, keys in CHANGES.items() for key in keys]
)
def test_one_key_at_a_time(model_type: str, key: str) -> None:
    names = {name for name in SMALL if name in defaults_of(model_type)[0]}
    given = {name: SMALL[name] for name in names} if model_type not in ("zamba2",) else {}
    given |= {key: CHANGES[model_type][key]}
    if model_type == "gemma3n_text" and key != "num_kv_shared_layers":
        given["num_kv_shared_layers"] = 0
    _, total = built(model_type, **given)
    assert parameters(model_from_config({"model_type": model_type, **given})).total == total


def test_what_is_refused_is_refused_before_anything_is_counted() -> None:
    for model_type in REFUSED:
        with pytest.raises((UnsupportedModel, ConfigError)):
            model_from_config({"model_type": model_type, "hidden_size": 64})


@pytest.mark.parametrize(
    "wrapper",
    ["ernie4_5_vl_moe", "glm4v", "glm_ocr", "molmo2", "paddleocr_vl",
     "qwen3_vl_moe", "step3p7"],
)  # fmt: skip
def test_text_parts_of_wrappers_without_a_model_of_their_own(wrapper: str) -> None:
    """Their text part by itself, which no output matrix belongs to in transformers."""
    config = AutoConfig.for_model(wrapper)
    with torch.device("meta"):
        whole = AutoModel.from_config(config)
    theirs = sum(p.numel() for p in whole.language_model.parameters())
    text = json.loads(json.dumps(config.get_text_config().to_dict(), default=str))
    model = model_from_config(text)
    head = 0 if model.tied else model.head.values
    assert parameters(model).total - head == theirs
