from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.errors import ConfigError
from suffice.training.pretrain.flops import training_flops
from suffice.training.rung import LadderRung, Recipe, law_coordinates


def test_a_rung_survives_its_plan_file(rung: LadderRung) -> None:
    assert LadderRung.from_json(rung.to_json()) == rung
    with pytest.raises(ConfigError, match="unknown: \\['extra'\\]"):
        LadderRung.from_json({**rung.to_json(), "extra": 1})
    with pytest.raises(ConfigError, match="missing: \\['tokens'\\]"):
        LadderRung.from_json({k: v for k, v in rung.to_json().items() if k != "tokens"})


def test_the_id_names_what_changes_the_result_and_nothing_else(rung: LadderRung) -> None:
    recipe = Recipe()
    name = rung.run_id(recipe, "data")
    assert replace(rung, purpose="repeat").run_id(recipe, "data") == name
    changed: list[dict[str, Any]] = [
        {"tokens": 100_001}, {"seed": 4}, {"learning_rate_factor": 2.0},
        {"shape": replace(rung.shape, num_hidden_layers=4)},
    ]  # fmt: skip
    others = {replace(rung, **change).run_id(recipe, "data") for change in changed}
    others |= {
        rung.run_id(recipe, "other"),
        rung.run_id(replace(recipe, weight_decay=0.2), "data"),
        rung.run_id(replace(recipe, precision="bf16"), "data"),
    }
    assert len(others | {name}) == len(changed) + 4


@given(tokens=st.integers(1, 10**10))
def test_batches_are_powers_of_two_and_runs_cover_their_tokens(tokens: int) -> None:
    recipe = Recipe()
    batch = recipe.batch_sequences(tokens)
    assert batch & (batch - 1) == 0
    assert recipe.min_batch_sequences <= batch <= recipe.max_batch_sequences
    trained = recipe.trained_tokens(tokens)
    assert tokens <= trained < tokens + batch * recipe.sequence_length


def test_training_flops_are_six_times_the_matrices_and_the_causal_half(rung: LadderRung) -> None:
    # By hand: N = 3 (2·64·64 + 2·64·32 + 3·64·160), head 64·257, attention 2·2·(T/2)·d_q per layer.
    n = 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160)
    forward = 2 * n + 2 * 64 * 257 + 3 * 4 * (256 / 2) * 64
    assert rung.parameters == n
    assert training_flops(rung, Recipe()) == 3 * forward * Recipe().trained_tokens(100_000)


def test_coordinates_of_the_laws(rung: LadderRung) -> None:
    found = law_coordinates(rung.shape)
    assert found["kv_share"] == 0.5
    assert found["r"] == pytest.approx(3 * 160 / (2 * (64 + 32)))
    assert found["x"] == pytest.approx(64 / rung.parameters**0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "linear"}, "cosine or wsd"),
        ({"precision": "fp8"}, "fp32 or bf16"),
        ({"aimed_steps": 0}, "aimed_steps must be positive"),
        ({"warmup_share": 1.5}, "warmup_share"),
    ],
)
def test_a_bad_recipe(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**change)


def test_a_bad_rung(rung: LadderRung) -> None:
    with pytest.raises(ConfigError, match="positive number of tokens"):
        replace(rung, tokens=0)
    with pytest.raises(ConfigError, match="seed"):
        replace(rung, seed=-1)


def test_later_fields_of_a_recipe_keep_older_names():
    """The records of results/ladder were made before depth and KV rates existed."""
    first = json.loads(Path("results/ladder/runs.jsonl").read_text().splitlines()[0])
    recipe = Recipe(**json.loads(Path("results/ladder/cpu-plan.json").read_text())["recipe"])
    assert recipe.sha256 == first["recipe"]
    for change in ({"layer_rate_exponent": 0.5}, {"repeated_kv_rate": True},
                   {"decay_evaluations": 3}):  # fmt: skip
        assert replace(recipe, **change).sha256 != recipe.sha256
