"""Models of every architecture: counts that others published, caches in closed form, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.architecture import counts, model_counts
from suffice.architecture.catalog import catalog, load_model, load_shape, served
from suffice.architecture.families import BUILDERS
from suffice.architecture.families.uniform import model_of_shape
from suffice.architecture.model_counts import parameters
from suffice.architecture.reading import model_from_config
from suffice.architecture.weight_format import uniform_format
from suffice.core.errors import ConfigError, SufficeError, UnsupportedModel

# Total and active parameters as model cards and reports state them (the total counts no
# multi-token prediction layers); counts of transformers on torch's meta device agree.
PUBLISHED_TOTALS = {
    "deepseek-ai/DeepSeek-V3": 671_026_404_352,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "moonshotai/Kimi-K2-Instruct": 1_026_408_209_408,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 480_154_875_392,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 79_674_391_296,
    "openai/gpt-oss-20b": 20_914_757_184,
    "openai/gpt-oss-120b": 116_829_156_672,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112,
    "zai-org/GLM-4.5-Air": 106_852_245_504,
    "MiniMaxAI/MiniMax-M2": 228_689_748_992,
    "ByteDance-Seed/Seed-OSS-36B-Instruct": 36_151_104_512,
}
# Billions of active parameters on the card, to the digits it gives.
PUBLISHED_ACTIVE = {
    "openai/gpt-oss-20b": (3.6, 0.05),
    "openai/gpt-oss-120b": (5.1, 0.05),
    "deepseek-ai/DeepSeek-V3": (37, 0.5),
    "moonshotai/Kimi-K2-Instruct": (32, 0.5),
    "Qwen/Qwen3-235B-A22B": (22, 0.5),
    "Qwen/Qwen3-30B-A3B": (3.3, 0.4),
    "mistralai/Mixtral-8x7B-v0.1": (12.9, 0.2),
    "mistralai/Mixtral-8x22B-v0.1": (39, 0.3),
}
GEMMA_SPARSE = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "sliding_window": 1024,
    },
}  # fmt: skip
VOXTRAL = {
    "model_type": "voxtral",
    "text_config": {
        "model_type": "llama", "vocab_size": 131072, "hidden_size": 3072,
        "intermediate_size": 8192, "num_hidden_layers": 30, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_TOTALS)
def test_totals_of_well_known_models(name: str) -> None:
    assert parameters(load_model(name)).total == PUBLISHED_TOTALS[name]


@pytest.mark.parametrize("name", PUBLISHED_ACTIVE)
def test_active_parameters_of_model_cards(name: str) -> None:
    billions, tolerance = PUBLISHED_ACTIVE[name]
    assert parameters(load_model(name)).active / 1e9 == pytest.approx(billions, abs=tolerance)


@pytest.mark.parametrize("name", sorted(catalog()))
def test_a_shape_and_its_model_are_counted_alike(name: str) -> None:
    shape, model = load_shape(name), load_model(name)
    assert parameters(model).total == counts.parameter_counts(shape).total
    assert parameters(model_of_shape(shape)).total == parameters(model).total
    for context in (1, 1000, 100_000):
        assert model_counts.sequence_bytes(model, context, 2.0) == float(
            counts.kv_cache_bytes(shape, context, "bf16")
        )
        assert model_counts.decode_flops(model, context) == counts.decode_flops(
            shape, context, "matmul", lm_head=True
        )
        assert model_counts.prefill_flops(model, context) == counts.prefill_flops(
            shape, context, "matmul"
        )


def test_a_latent_cache_holds_rank_and_rotary_values_alone() -> None:
    model = load_model("deepseek-ai/DeepSeek-V3")
    assert model_counts.sequence_bytes(model, 1000, 2.0) == 61 * (512 + 64) * 1000 * 2


def test_windows_and_states_bound_what_a_sequence_holds() -> None:
    gemma = load_model("google/gemma-3-27b-pt")
    full = 2 * 16 * 128 * 2  # values of one token in one layer, bytes
    assert model_counts.sequence_bytes(gemma, 131_072, 2.0) == full * (10 * 131_072 + 52 * 1024)
    hybrid = load_model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    channels = 2 * 16 * 128 + 32 * 128
    state = 36 * (32 * 128 * 128 + channels * 4) * 4
    attention = 12 * 2 * 2 * 256 * 2
    assert model_counts.sequence_bytes(hybrid, 5000, 2.0) == state + attention * 5000


def test_sparse_attention_reads_what_it_selects_and_keeps_everything() -> None:
    model = load_model("deepseek-ai/DeepSeek-V3.2")
    near, far = 2048, 131_072
    kept = model_counts.cached_values(model, far)
    assert kept == 61 * (576 + 128) * far
    growth = model_counts.decode_flops(model, far) - model_counts.decode_flops(model, near)
    assert growth == 61 * (2 * 64 * 128) * (far - near)  # only the index grows


def test_chunked_prefill_pairs_match_a_sum_over_tokens() -> None:
    for name in ("openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V3.2", "google/gemma-3-1b-pt"):
        model = load_model(name)
        prompt = 3000
        body = model_counts.token_matrix_values(model) - model.head.matrix_values
        expected = 2 * body * prompt + 2 * model.head.matrix_values
        for mixer, layers in model_counts.mixers(model):
            pairs = sum(mixer.attended(i + 1) for i in range(prompt))
            expected += layers * mixer.prefill_pair_flops * pairs
        assert model_counts.prefill_flops(model, prompt) == expected


def test_a_sparse_wrapper_is_filled_from_its_familys_defaults() -> None:
    model = model_from_config(GEMMA_SPARSE)
    assert parameters(model).total == 3_880_263_168
    assert model.tied
    assert "vocab_size 262208" in model.assumed


def test_a_wrapper_that_does_not_say_is_tied_as_its_text_family_is() -> None:
    model = model_from_config(VOXTRAL)
    assert not model.tied
    assert parameters(model).total == 4_014_136_320
    said = model_from_config({**VOXTRAL, "tie_word_embeddings": True})
    assert parameters(said).total == 4_014_136_320 - 131_072 * 3072


def test_absent_kv_heads_are_the_familys_and_null_ones_are_the_heads() -> None:
    config = {
        "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "tie_word_embeddings": False,
    }  # fmt: skip
    assert parameters(model_from_config(config)).total == 7_241_732_096
    assert load_kv_heads({**config, "num_key_value_heads": None}) == 32
    assert load_kv_heads(config) == 8


def load_kv_heads(config: dict[str, Any]) -> int:
    ((mixer, _),) = model_counts.mixers(model_from_config(config))
    return mixer.cache_heads


def test_flat_multimodal_configs_are_read_as_their_text_part() -> None:
    config = {
        "model_type": "qwen2_5_vl", "vocab_size": 152064, "hidden_size": 3584,
        "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vision_config": {"hidden_size": 1280},
    }  # fmt: skip
    model = model_from_config(config)
    assert parameters(model).total == 7_615_616_512  # Qwen2.5-7B
    assert model.left_out == ("the vision tower",)


@pytest.mark.parametrize("name", sorted(served()))
def test_every_embedded_model_says_what_it_is_to_a_search(name: str) -> None:
    if name == "ByteDance-Seed/Seed-OSS-36B-Instruct":
        assert load_shape(name).num_hidden_layers == 64
        return
    with pytest.raises(UnsupportedModel, match="`suffice size` take it"):
        load_shape(name)


def test_an_unknown_family_is_refused_by_name_with_what_can_be_said() -> None:
    config = {**VOXTRAL["text_config"], "model_type": "brand_new"}  # type: ignore[dict-item]
    with pytest.raises(UnsupportedModel, match=r"'brand_new' is not modelled.*4\.01B parameters"):
        model_from_config(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 200}, "experts per token"),
        ({"moe_intermediate_size": None}, "has no moe_intermediate_size"),
        ({"num_key_value_heads": 5}, "must be a multiple of num_key_value_heads"),
        ({"mlp_only_layers": 3}, "must be a list"),
        ({"hidden_size": "2048"}, "whole number"),
        ({"vocab_size": 1 << 40}, "must lie between"),
        ({"quantization_config": "fp8"}, "quantization_config must be an object"),
    ],
)
def test_contradictory_sparse_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_from_config({**served()["Qwen/Qwen3-30B-A3B"], **changes})


_ODD = st.sampled_from([None, -1, 0, 1, 3, 7.5, "x", [], [1, "a"], {}, True, 10**12])


@settings(max_examples=400, deadline=None)
@given(
    model_type=st.sampled_from(sorted(BUILDERS)),
    changes=st.dictionaries(
        st.sampled_from(
            ["hidden_size", "num_hidden_layers", "layer_types", "num_experts", "q_lora_rank",
             "intermediate_size", "head_dim", "num_key_value_heads", "linear_attn_config",
             "per_layer_config", "quantization_config", "text_config", "sliding_window",
             "moe_layer_freq", "layers_block_type", "attn_config", "compress_ratios"]
        ),
        _ODD,
        max_size=3,
    ),
)  # fmt: skip
def test_nothing_but_its_own_errors_comes_out_of_a_malformed_config(
    model_type: str, changes: dict[str, Any]
) -> None:
    try:
        model = model_from_config({"model_type": model_type, **changes})
    except SufficeError:
        return
    assert parameters(model).total > 0
    assert model_counts.sequence_bytes(model, 4096, 2.0) >= 0
    assert model_counts.weight_bytes(model, model.weights) > 0


def test_weights_in_other_formats_leave_embeddings_wide() -> None:
    shape, model = load_shape("Llama-3.1-8B"), load_model("Llama-3.1-8B")
    for dtype in ("bf16", "fp8", "int4", "fp4"):
        ours = model_counts.weight_bytes(model, uniform_format(dtype))
        norms = 2.0 * counts.parameter_counts(shape).norms
        assert ours == pytest.approx(float(counts.weight_bytes(shape, dtype)) + norms)  # type: ignore[arg-type]


def test_a_folder_with_a_config_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(served()["openai/gpt-oss-20b"]))
    assert load_model(tmp_path) == load_model("gpt-oss-20b")


def test_an_unknown_family_is_told_by_the_index_of_its_files(tmp_path: Path) -> None:
    config = {"model_type": "novel", "hidden_size": 64, "num_experts": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="'novel' is not modelled"):
        load_model(tmp_path)
    index = {"metadata": {"total_size": 2 * 12_345_678_901}, "weight_map": {}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedModel, match=r"its files hold 23\.0 GiB"):
        load_model(tmp_path)
    index["metadata"]["total_parameters"] = 12_345_678_901
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedModel, match=r"its files hold 12\.3B parameters in 23\.0 GiB"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[1]")
    with pytest.raises(UnsupportedModel, match="'novel' is not modelled"):
        load_model(tmp_path)
