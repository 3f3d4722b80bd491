"""What a checkpoint's quantisation settings say of its weights, and what never leaves with it."""

from __future__ import annotations

from typing import Any

import pytest

from suffice.architecture.catalog import load_model, served
from suffice.architecture.hf_config import config_from_shape, shape_from_config
from suffice.architecture.model_counts import weight_bytes
from suffice.architecture.reading import model_from_config
from suffice.core.errors import ConfigError, UnsupportedModel

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
CT = "compressed-tensors"
NVFP4 = {
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "float", "group_size": 16},
    "input_activations": {"num_bits": 4, "type": "float"},
}
QUARK_FP4 = {"dtype": "fp4", "group_size": 32, "scale_format": "e8m0"}
MIXED = {
    f"model.layers.{i}.{name}": {"quant_algo": algorithm}
    for i in range(4)
    for name, algorithm in (("self_attn.q_proj", "FP8"), ("mlp.down_proj", "NVFP4"))
}
INT4 = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 32}}
FP8_GROUP = {
    "targets": ["re:.*self_attn.*"],
    "weights": {"num_bits": 8, "type": "float"},
    "input_activations": {"num_bits": 8, "type": "float"},
}


@pytest.mark.parametrize(
    ("quantised", "dtype", "value_bytes", "widened"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 1.0, False),
        ({"quant_method": "fbgemm_fp8"}, "fp8", 1.0, False),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4", 0.51953125, True),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8", 1.0, True),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "int4", 0.5390625, True),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 128}, "int2", 0.267578125, True),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4", 0.5625, True),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 1.0, False),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4", 0.5625, False),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8"}}, "fp8", 1.0, False),
        ({"quant_method": CT, "config_groups": {"a": NVFP4}}, "fp4", 0.5625, False),
        ({"quant_method": CT, "config_groups": {"a": INT4}}, "int4", 0.5625, True),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "fp8", 1.0, False),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
          "quantized_layers": MIXED}, "fp4", 0.5625, False),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 2,
          "group_size": 64}}}, "int2", 0.28515625, True),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"},
          "input_tensors": {"dtype": "fp8_e4m3"}}}, "fp8", 1.0, False),
        ({"quant_method": "quark", "global_quant_config": {"weight": QUARK_FP4}},
         "mxfp4", 0.53125, True),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only",
          "quant_type_kwargs": {"group_size": 64}}, "int4", 0.5625, True),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type":
          "Float8DynamicActivationFloat8WeightConfig", "_data": {}}}}, "fp8", 1.0, False),
        ({"group_size": 64, "bits": 4}, "int4", 0.5625, True),  # MLX
    ],
)  # fmt: skip
def test_formats_of_quantisers(
    quantised: dict[str, Any], dtype: str, value_bytes: float, widened: bool
) -> None:
    stored = model_from_config({**LLAMA, "quantization_config": quantised}).weights.mlp
    assert (stored.dtype, stored.value_bytes, stored.widened) == (dtype, value_bytes, widened)


def test_each_module_may_have_a_format_of_its_own() -> None:
    config = {"quant_method": "modelopt", "quantized_layers": MIXED}
    stored = model_from_config({**LLAMA, "quantization_config": config}).weights
    assert (stored.attention.dtype, stored.mlp.dtype, stored.experts.dtype) == (
        "fp8", "fp4", "bf16",
    )  # fmt: skip
    half = {name: how for name, how in MIXED.items() if ".0." in name or ".1." in name}
    config = {"quant_method": "modelopt", "quantized_layers": half}
    stored = model_from_config({**LLAMA, "quantization_config": config}).weights
    assert (stored.mlp.dtype, stored.mlp.wide_share) == ("fp4", 0.5)
    quark = {
        "quant_method": "quark", "exclude": ["lm_head"],
        "global_quant_config": {"weight": QUARK_FP4, "input_tensors": QUARK_FP4},
        "layer_quant_config": {"*self_attn*": {"weight": {"dtype": "fp8_e4m3"}}},
    }  # fmt: skip
    stored = model_from_config({**LLAMA, "quantization_config": quark}).weights
    assert (stored.attention.dtype, stored.mlp.dtype) == ("fp8", "mxfp4")


def test_rules_and_lists_of_exceptions_leave_modules_wide() -> None:
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128,
            "dynamic": {"-:.*self_attn.*": {}}}  # fmt: skip
    stored = model_from_config({**LLAMA, "quantization_config": gptq}).weights
    assert (stored.attention.dtype, stored.mlp.dtype) == ("bf16", "int4")
    listed = {f"model.layers.{i}.mlp.down_proj": {"bits": 16} for i in range(2)}
    auto = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": listed}
    stored = model_from_config({**LLAMA, "quantization_config": auto}).weights
    assert stored.mlp.wide_share == 0.5


def test_experts_alone_are_quantised_in_gpt_oss() -> None:
    stored = load_model("gpt-oss-20b").weights
    assert (stored.experts.dtype, stored.attention.dtype, stored.mlp.dtype) == (
        "mxfp4", "bf16", "bf16",
    )  # fmt: skip
    # openai/gpt-oss-20b: 12.8 GiB of checkpoint (13.8 GB on the hub).
    assert weight_bytes(load_model("gpt-oss-20b"), stored) / 1e9 == pytest.approx(13.76, abs=0.1)


def test_kimi_keeps_attention_and_shared_experts_wide() -> None:
    stored = load_model("Kimi-K2.5").weights
    assert (stored.attention.dtype, stored.mlp.dtype, stored.experts.dtype) == (
        "bf16", "bf16", "int4",
    )  # fmt: skip


def test_an_fp8_70b_is_as_large_as_vllm_says() -> None:
    """vLLM loads 67.72 GiB of Llama-3.1-70B-Instruct-FP8 (llm-d/llm-d-benchmark, issue 345)."""
    from suffice.architecture.catalog import catalog

    config = {
        **catalog()["meta-llama/Llama-3.1-70B"],
        "quantization_config": {
            "quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"],
            "kv_cache_quant_algo": "FP8",
        },
    }  # fmt: skip
    model = model_from_config(config)
    assert weight_bytes(model, model.weights) / 2**30 == pytest.approx(67.72, rel=0.005)
    assert model.weights.kv == "fp8"


@pytest.mark.parametrize(
    ("skipped", "share"),
    [
        (["model.layers.0.mlp"], 0.25),
        (["re:.*mlp.*"], 1.0),
        (["*mlp*"], 1.0),
        (["mlp.down_proj"], 1.0),
        (["lm_head"], 0.0),
        (["gate"], 0.0),  # a module of this name, not every name with these letters
    ],
)
def test_what_a_quantiser_leaves_out(skipped: list[str], share: float) -> None:
    config = {"quant_method": "fp8", "modules_to_not_convert": skipped}
    stored = model_from_config({**LLAMA, "quantization_config": config}).weights.mlp
    assert stored.value_bytes == pytest.approx(1.0 + share)


def test_groups_choose_formats_by_target() -> None:
    groups = {"attention": FP8_GROUP, "rest": {**NVFP4, "targets": ["re:.*mlp.*"]}}
    config = {"quant_method": "compressed-tensors", "config_groups": groups}
    stored = model_from_config({**LLAMA, "quantization_config": config}).weights
    assert (stored.attention.dtype, stored.mlp.dtype) == ("fp8", "fp4")


def test_unknown_quantisers_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match=r"quant_method 'mystery'.*known: fp8"):
        model_from_config({**LLAMA, "quantization_config": {"quant_method": "mystery"}})
    with pytest.raises(ConfigError, match="bits 5"):
        model_from_config({**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 5}})


def test_nothing_of_the_checkpoint_passes_into_an_exported_config() -> None:
    config = {
        **LLAMA,
        "quantization_config": {"quant_method": "fp8"},
        "auto_map": {"AutoModel": "modeling_x.X"},
        "_name_or_path": "/home/someone/secret/run7",
        "rms_norm_eps": 1e-5,
    }
    shape = shape_from_config(config)
    assert shape.name is None
    written = config_from_shape(shape)
    assert written["rms_norm_eps"] == 1e-5
    assert not {"quantization_config", "auto_map", "_name_or_path"} & set(written)


def test_embedded_quantised_models_are_the_size_of_their_checkpoints() -> None:
    # GB on the hub: DeepSeek-V3 without its multi-token prediction, Kimi-K2.5.
    v3 = load_model("DeepSeek-V3")
    assert weight_bytes(v3, v3.weights) / 1e9 == pytest.approx(674, rel=0.02)
    k25 = load_model("Kimi-K2.5")
    assert weight_bytes(k25, k25.weights) / 1e9 == pytest.approx(595, rel=0.01)
    assert "quantization_config" in served()["moonshotai/Kimi-K2.5"]
