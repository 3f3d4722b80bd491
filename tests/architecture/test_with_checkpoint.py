"""Families that came with their checkpoints, against the parameters that the hub tells of them."""

from __future__ import annotations

from typing import Any

import pytest

from suffice.architecture.model_counts import parameters
from suffice.architecture.reading import model_from_config
from suffice.core.errors import ConfigError, UnsupportedModel

# Config and the exact number of its safetensors, or billions as its card rounds them.
PUBLISHED: list[tuple[dict[str, Any], float]] = [
    ({"model_type": "internlm2", "hidden_size": 4096, "intermediate_size": 14336,
      "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
      "vocab_size": 92544, "bias": False}, 7_737_708_544),
    ({"model_type": "baichuan", "hidden_size": 4096, "intermediate_size": 11008,
      "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 125696}, 7_505_973_248),
    ({"model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016,
      "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 151936,
      "kv_channels": 128, "no_bias": True}, 7_721_324_544),
    ({"model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, "num_layers": 40,
      "num_attention_heads": 32, "multi_query_attention": True, "multi_query_group_num": 2,
      "padded_vocab_size": 151552, "vocab_size": 151552, "kv_channels": 128,
      "add_qkv_bias": True}, 9_399_951_360),
    ({"model_type": "deepseek", "hidden_size": 2048, "intermediate_size": 10944,
      "moe_intermediate_size": 1408, "num_hidden_layers": 28, "num_attention_heads": 16,
      "num_key_value_heads": 16, "n_routed_experts": 64, "n_shared_experts": 2,
      "num_experts_per_tok": 6, "first_k_dense_replace": 1, "vocab_size": 102400},
     16_375_728_128),
    ({"model_type": "minicpm", "hidden_size": 2304, "intermediate_size": 5760,
      "num_hidden_layers": 40, "num_attention_heads": 36, "num_key_value_heads": 36,
      "vocab_size": 122753}, 2_724_880_896),
    ({"model_type": "orion"}, 14.5e9),
    ({"model_type": "bailing_moe", "hidden_size": 2048, "intermediate_size": 5632,
      "moe_intermediate_size": 1408, "num_hidden_layers": 28, "num_attention_heads": 16,
      "num_key_value_heads": 4, "num_experts": 64, "num_experts_per_tok": 6,
      "num_shared_experts": 2, "vocab_size": 126464}, 16.8e9),
    ({"model_type": "bailing_moe_v2", "hidden_size": 2048, "intermediate_size": 5120,
      "moe_intermediate_size": 512, "num_hidden_layers": 20, "num_attention_heads": 16,
      "num_key_value_heads": 4, "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8,
      "num_shared_experts": 1, "first_k_dense_replace": 1, "vocab_size": 157184}, 16.26e9),
    # Step 3: 321B with 5B of them for pictures, 38B active.
    ({"model_type": "step3_vl", "text_config": {"model_type": "step3_text"},
      "vision_config": {"a": 1}}, 316e9),
    # GLM-4.1V-9B's text part is GLM-4-9B with biases and four norms.
    ({"model_type": "glm4v", "text_config": {"model_type": "glm4v_text", "hidden_size": 4096,
      "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 32,
      "num_key_value_heads": 2, "vocab_size": 151552}, "vision_config": {"a": 1}}, 9.4e9),
]  # fmt: skip


@pytest.mark.parametrize(("config", "published"), PUBLISHED, ids=lambda c: c["model_type"]
                         if isinstance(c, dict) else "")  # fmt: skip
def test_totals_are_the_published_ones(config: dict[str, Any], published: float) -> None:
    found = parameters(model_from_config(config)).total
    assert found == pytest.approx(published, rel=0.003 if published % 1e7 == 0 else 0)


def test_both_spellings_of_step_35_are_the_same_model() -> None:
    """The checkpoint's own keys and those of transformers."""
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention"] * 11
    kinds.append("full_attention")
    common = {
        "model_type": "step3p5", "hidden_size": 4096, "intermediate_size": 11264,
        "num_hidden_layers": 45, "num_attention_heads": 64, "head_dim": 128,
        "vocab_size": 128896, "moe_intermediate_size": 1280, "share_expert_dim": 1280,
        "sliding_window": 512,
    }  # fmt: skip
    own = {
        **common, "num_attention_groups": 8, "moe_num_experts": 288, "moe_top_k": 8,
        "moe_layers_enum": ",".join(map(str, range(3, 45))),
        "layer_types": [*kinds, *["sliding_attention"] * 3], "num_nextn_predict_layers": 3,
        "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8},
    }  # fmt: skip
    theirs = {
        **common, "num_key_value_heads": 8, "n_routed_experts": 288, "num_experts_per_tok": 8,
        "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 42, "layer_types": kinds,
        "num_sliding_attention_heads": 96,
    }  # fmt: skip
    mine, other = model_from_config(own), model_from_config(theirs)
    assert parameters(mine).total == parameters(other).total
    # 196B-A11B on its card.
    assert parameters(mine).total == pytest.approx(196.5e9, rel=0.003)
    assert parameters(mine).active == pytest.approx(11e9, rel=0.05)
    assert sum(run.layers for run in mine.draft) == 3


def test_experts_for_pictures_are_held_and_not_met() -> None:
    """ERNIE-4.5-VL-28B-A3B: 28B held, 3B met by a token of text."""
    config = {
        "model_type": "ernie4_5_moe_vl", "hidden_size": 2560, "intermediate_size": 12288,
        "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
        "moe_num_experts": [64, 64], "moe_intermediate_size": [1536, 512], "moe_k": 6,
        "moe_layer_start_index": [1, 1], "moe_layer_end_index": [27, 27],
        "moe_num_shared_experts": 2, "vocab_size": 103424, "tie_word_embeddings": True,
    }  # fmt: skip
    found = parameters(model_from_config(config))
    assert found.total == pytest.approx(28.4e9, rel=0.02)
    assert found.active == pytest.approx(3.1e9, rel=0.1)


def test_layers_that_a_search_left() -> None:
    """Nemotron Super's kind: attention or MLP may be missing, or one matrix."""
    blocks = [
        {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 5.25}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 2.625}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
    ]
    config = {
        "model_type": "nemotron-nas", "hidden_size": 8192, "num_attention_heads": 64,
        "num_hidden_layers": 3, "vocab_size": 128256, "block_configs": blocks,
    }  # fmt: skip
    d, model = 8192, model_from_config(config)
    attention = 2 * d * d + 2 * d * 1024
    expected = attention + 3 * d * 28672 + 3 * d * 14336 + d * d + 4 * d
    assert parameters(model).total == expected + 2 * 128256 * d + d
    with pytest.raises(ConfigError, match="one entry per layer"):
        model_from_config({**config, "block_configs": blocks[:2]})


def test_hunyuans_of_one_name_are_told_apart() -> None:
    base = {
        "model_type": "hunyuan", "hidden_size": 1024, "intermediate_size": 2048,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
        "vocab_size": 32000, "moe_topk": 2,
    }  # fmt: skip
    assert not any(run.block.experts for run in model_from_config(base).runs)
    sparse = model_from_config({**base, "num_experts": 16})
    assert all(run.block.experts for run in sparse.runs)
    with pytest.raises(UnsupportedModel, match="'hunyuan' is not modelled"):
        model_from_config({**base, "num_experts": 16, "use_cla": True})


def test_a_list_of_layers_that_is_none() -> None:
    with pytest.raises(ConfigError, match="moe_layers_enum must list layers"):
        model_from_config({"model_type": "step3p5", "moe_layers_enum": "3-44"})
