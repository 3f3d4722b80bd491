from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suffice.architecture.catalog import catalog, load_shape
from suffice.architecture.hf_config import config_from_shape, shape_from_config
from suffice.core.errors import ConfigError, InputError, UnknownName, UnsupportedModel

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


@pytest.mark.parametrize("name", sorted(catalog()))
def test_every_embedded_config_survives_the_round_trip(name: str) -> None:
    shape = load_shape(name)
    config = config_from_shape(shape)
    again = shape_from_config(config)
    dimensions = ("hidden_size", "head_dim", "num_key_value_heads", "sliding_window", "qk_norm")
    assert all(getattr(again, key) == getattr(shape, key) for key in dimensions)
    if config["model_type"] == shape.model_type:
        assert again == shape
        original = catalog()[name]
        assert {key: config[key] for key in original} == original


def test_head_dim_is_always_written() -> None:
    assert config_from_shape(shape_from_config(LLAMA))["head_dim"] == 16


def test_a_llama_that_transformers_refuses_is_written_as_the_equal_mistral() -> None:
    config = config_from_shape(load_shape("bian2025/surefire-1b"))  # 2560 is no multiple of 36
    assert config["model_type"] == "mistral"
    assert config["architectures"] == ["MistralForCausalLM"]
    assert config["sliding_window"] is None  # the family's default would be 4,096


def test_multi_query_default_when_kv_heads_are_absent() -> None:
    config = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert shape_from_config(config).num_key_value_heads == 4


def test_a_multimodal_config_is_read_through_its_text_config() -> None:
    text = dict(catalog()["google/gemma-3-4b-pt"])
    outer = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 1152}}
    assert shape_from_config(outer) == load_shape("google/gemma-3-4b-pt")


def test_sliding_layers_of_gemma() -> None:
    assert load_shape("google/gemma-2-2b").num_sliding_layers == 13
    assert load_shape("google/gemma-3-1b-pt").num_sliding_layers == 22  # 26 layers, every 6th full


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads"),
        ({"hidden_size": 66}, "not a multiple of num_attention_heads"),
        ({"hidden_size": -64}, "between 1 and"),
        ({"hidden_size": 64.0}, "whole number"),
        ({"hidden_size": True}, "whole number"),
        ({"hidden_size": None}, "has no hidden_size"),
        ({"num_hidden_layers": 10**9}, "between 1 and"),
        ({"head_dim": 15}, "must be even"),
        ({"layer_types": ["sliding_attention"], "sliding_window": 4}, "1 entries for 2 layers"),
    ],
)
def test_contradictory_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shape_from_config({**LLAMA, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture of experts"),
        ({"model_type": "qwen3_moe", "num_experts": 128}, "mixture of experts"),
        ({"model_type": "deepseek_v3", "first_k_dense_replace": 1}, "mixture of experts"),
        ({"model_type": "deepseek_v2_dense", "kv_lora_rank": 512}, "latent attention"),
        ({"model_type": "jamba", "mamba_d_state": 16, "num_experts": 16}, "hybrid"),
        ({"model_type": "qwen3_next", "layer_types": ["linear_attention"] * 2}, "hybrid"),
        ({"model_type": "gpt2"}, "`suffice size` take it"),
        ({"intermediate_size": [128, 256]}, "differs from layer to layer"),
    ],
)
def test_recognised_but_unsupported_models(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        shape_from_config({**LLAMA, **changes})


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_shape(tmp_path) == load_shape(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("[]", "one JSON object"), ("", "not valid JSON")],
)
def test_broken_files_name_the_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_shape(path)
    assert "config.json" in str(caught.value)


def test_a_missing_file_is_not_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_shape(tmp_path / "absent.json")


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean meta-llama/Llama-3\.2-1B"):
        load_shape("lama-3.2-1b")


def test_the_owner_and_case_may_be_left_out() -> None:
    assert load_shape("llama-3.2-1b") == load_shape("meta-llama/Llama-3.2-1B")


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("heads", [(5, 1), (3, 3), (4, 2)])
def test_exports_load_in_transformers_and_run(tmp_path: Path, heads: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shape = shape_from_config(LLAMA).resized(
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
    )
    (tmp_path / "config.json").write_text(json.dumps(config_from_shape(shape)))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_config(config)
    q_proj = model.model.layers[0].self_attn.q_proj
    assert q_proj.weight.shape == (heads[0] * 16, 64)
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 100)
