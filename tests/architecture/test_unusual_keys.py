"""Published configs whose keys mean something else than they do in most files."""

from __future__ import annotations

from typing import Any

import pytest

from suffice.architecture.model_counts import mixers, parameters
from suffice.architecture.reading import model_from_config
from suffice.core.errors import ConfigError

FALCON_MAMBA: dict[str, Any] = {
    "model_type": "falcon_mamba", "conv_kernel": 4, "expand": 16, "hidden_size": 4096,
    "intermediate_size": 8192, "num_hidden_layers": 64, "state_size": 16, "time_step_rank": 256,
    "tie_word_embeddings": False, "use_bias": False, "use_conv_bias": True, "vocab_size": 65024,
}  # fmt: skip
# The language model of DeepSeek-OCR.
NO_LATENT: dict[str, Any] = {
    "model_type": "deepseek_v2", "use_mla": False, "kv_lora_rank": None, "q_lora_rank": None,
    "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "first_k_dense_replace": 1,
    "hidden_size": 1280, "intermediate_size": 6848, "moe_intermediate_size": 896,
    "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
    "num_attention_heads": 10, "num_key_value_heads": 10, "num_hidden_layers": 12,
    "vocab_size": 129280,
}  # fmt: skip
NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "attention_head_dim": 128, "hidden_size": 4480,
    "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
    "intermediate_size": 15680, "mamba_head_dim": 80, "mamba_num_heads": 128, "n_groups": 8,
    "num_attention_heads": 40, "num_hidden_layers": 56, "num_key_value_heads": 8,
    "ssm_state_size": 128, "vocab_size": 131072, "tie_word_embeddings": False,
}  # fmt: skip
DENSE: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
}  # fmt: skip


def test_a_width_that_is_stated_wins_over_a_factor() -> None:
    # transformers' count of Falcon Mamba 7B; its `expand` of 16 is read by nothing.
    assert parameters(model_from_config(FALCON_MAMBA)).total == 7_272_665_088
    half = {key: value for key, value in FALCON_MAMBA.items() if key != "intermediate_size"}
    assert parameters(model_from_config({**half, "expand": 2})).total == 7_272_665_088


def test_deepseek_without_latent_attention() -> None:
    model = model_from_config({"model_type": "deepseek_vl_v2", "language_config": NO_LATENT})
    # transformers' DeepseekOcr2TextModel of these keys, and an output matrix.
    assert parameters(model).total == 2_934_734_080
    assert {mixer.kind for mixer, _ in mixers(model)} == {"full attention"}
    with pytest.raises(ConfigError, match="no kv_lora_rank"):
        model_from_config({**NO_LATENT, "use_mla": True})


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_transformers_builds_as_many_without_latent_attention() -> None:
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers.models.deepseek_ocr2.modeling_deepseek_ocr2")
    given = {key: value for key, value in NO_LATENT.items() if key != "model_type"}
    config = module.DeepseekOcr2TextConfig(
        **given, mlp_layer_types=["dense"] + ["sparse"] * (NO_LATENT["num_hidden_layers"] - 1)
    )
    with torch.device("meta"):
        built = module.DeepseekOcr2TextModel(config)
    total = sum(p.numel() for p in built.parameters()) + config.hidden_size * config.vocab_size
    assert parameters(model_from_config(NO_LATENT)).total == total


def test_sizes_of_layers_that_do_not_occur_are_not_named_as_assumed() -> None:
    model = model_from_config(NEMOTRON)
    assert parameters(model).total == 8_888_227_328  # the hub's figure for Nemotron Nano 9B v2
    assert model.assumed == ()


def test_a_head_size_under_its_older_name() -> None:
    attending = sum(
        layers * mixer.cached
        for mixer, layers in mixers(model_from_config({**NEMOTRON, "attention_head_dim": 64}))
    )
    assert attending == 4 * 2 * 8 * 64


@pytest.mark.parametrize(
    ("around", "named"),
    [
        ({"model_type": "ovis", "visual_tokenizer_config": {"x": 1}}, "the vision tower"),
        ({"model_type": "multi_modality", "aligner_config": {"x": 1}}, "the projector"),
        ({"model_type": "multi_modality", "gen_vision_config": {"x": 1}}, "the picture tokeniser"),
        ({"model_type": "some_omni", "token2wav_config": {"x": 1}}, "the vocoder"),
        ({"model_type": "some_wrapper"}, "its other towers"),
    ],
)
def test_what_stands_beside_a_text_part_is_always_said(around: dict[str, Any], named: str) -> None:
    assert model_from_config({**around, "text_config": DENSE}).left_out == (named,)


def test_phi4_multimodal_says_that_adapters_and_both_towers_are_left_out() -> None:
    model = model_from_config(
        {"model_type": "phi4mm", "hidden_size": 3072, "intermediate_size": 8192,
         "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8,
         "vocab_size": 200064, "tie_word_embeddings": True, "audio_processor": {"name": "cascades"},
         "embd_layer": {"embedding_cls": "image_audio"}, "vision_lora": {"r": 256},
         "speech_lora": {"r": 320}}
    )  # fmt: skip
    assert set(model.left_out) == {"the audio tower", "the vision tower", "the adapters"}
    assert parameters(model).total == 3_836_021_760  # Phi-4-mini's figure


def test_mlx_names_a_mode_and_modules_of_their_own() -> None:
    mode = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    stored = model_from_config({**DENSE, "quantization": mode}).weights
    assert stored.mlp.dtype == stored.attention.dtype == "mxfp4"

    own = {f"model.layers.{i}.self_attn.q_proj": {"group_size": 64, "bits": 8} for i in range(24)}
    left = {f"model.layers.{i}.mlp.down_proj": False for i in range(24)}
    stored = model_from_config({**DENSE, "quantization": {**mode, **own, **left}}).weights
    assert (stored.attention.dtype, stored.mlp.dtype) == ("int8", "bf16")
    assert stored.attention.group == 64
