"""Configs as checkpoints carry them, cut to the keys that matter, with what transformers counts.

`counted_configs.jsonl`: sparse files, wrappers, old and new names of a key, hybrids and their
patterns, drafts, quantised files. `text_parameters` is what transformers builds of the language
model on torch's meta device, and a test that needs torch builds it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suffice.architecture.model_counts import mixers, parameters
from suffice.architecture.reading import model_from_config
from suffice.core.errors import ConfigError

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in Path(__file__).with_name("counted_configs.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_parameters_and_windows_are_what_transformers_builds(row: dict[str, Any]) -> None:
    model = model_from_config(row["config"])
    assert parameters(model).total == row["text_parameters"]
    assert model.tied == row["tied"]
    assert sum(n for mixer, n in mixers(model) if mixer.window) == row["sliding_layers"]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_transformers_still_builds_as_many(row: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers import AutoConfig

    from tests.architecture.transformers_families import counted

    given = {k: v for k, v in row["config"].items() if k != "quantization_config"}
    config = AutoConfig.for_model(given.pop("model_type"), **given)
    assert counted(config.get_text_config(decoder=True), whole=config) == row["text_parameters"]


EXAONE = {
    "model_type": "exaone4", "hidden_size": 5120, "intermediate_size": 27392,
    "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 102400, "sliding_window": 4096,
}  # fmt: skip


def test_a_pattern_of_windows_may_be_spelled_in_letters() -> None:
    model = model_from_config({**EXAONE, "sliding_window_pattern": "LLLG"})
    assert sum(n for mixer, n in mixers(model) if mixer.window) == 48
    assert parameters(model).total == 32_003_216_384  # the hub's figure for EXAONE-4.0-32B
    with pytest.raises(ConfigError, match=r"LLXG.*letters L"):
        model_from_config({**EXAONE, "sliding_window_pattern": "LLXG"})


def test_a_hybrid_says_where_it_attends() -> None:
    config = {
        "model_type": "zamba2", "hidden_size": 2048, "num_hidden_layers": 38, "num_mem_blocks": 1,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
    }  # fmt: skip
    named = model_from_config({**config, "hybrid_layer_ids": [5, 11, 17, 23, 29, 35]})
    assert sum(n for mixer, n in mixers(named) if mixer.cached) == 6
    with pytest.raises(ConfigError, match="38 layers must say which"):
        model_from_config(config)
