"""A whole run of tool calls in small: files, equal compute, resumption, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import ConfigError

pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.recipes.tool_calls.run import (
    ARMS,
    ToolCallTraining,
    scores,
    train_tool_calls,
)
from suffice.training.stretch import Stretch
from suffice.training.tool_calls.questions import questions

pytestmark = pytest.mark.torch
RUNNER = CliRunner()
TINY = """
hidden_size = 32
taught = 40
mined = 6
samples = 2
made = 12
tested = 12
[sft]
steps = 4
batch = 8
learning_rate = 3e-3
checkpoint_every = 2
[after]
steps = 2
batch = 2
learning_rate = 1e-3
"""


def test_a_run_writes_its_table_and_an_interrupted_one_the_same(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    asked = ["train", "tool-calls", "--config", str(config), "--out"]
    done = RUNNER.invoke(app, [*asked, str(whole)])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads((whole / "tool-calls.json").read_text())
    assert [outcome["arm"] for outcome in found["arms"]] == list(ARMS)
    spent = {outcome["computed_tokens"] for outcome in found["arms"]}
    assert len(spent) == 1  # all arms have the same budget
    assert all((whole / arm / "model.safetensors").exists() for arm in ("sft", *ARMS))

    class Stop(Exception):
        pass

    def stop_at(phase: str) -> Any:
        def tell(line: dict[str, Any]) -> None:
            if line["phase"] == phase:
                raise Stop

        return tell

    from suffice.training.settings import from_toml

    settings = from_toml(ToolCallTraining, config)
    for phase in ("sft", "mined", "dpo"):
        with pytest.raises(Stop):
            train_tool_calls(settings, cut, tell=stop_at(phase))
    train_tool_calls(settings, cut)
    assert json.loads((cut / "tool-calls.json").read_text()) == found


def test_a_folder_of_another_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tool-calls.json").write_text('{"config": {"seed": 4}}')
    with pytest.raises(ConfigError, match="holds a run of another config"):
        train_tool_calls(ToolCallTraining(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arms": ("ppo",)}, "arm 'ppo' must be one of more-sft"),
        ({"rates": {"ppo": 1.0}}, "arm 'ppo'"),
        ({"samples": 1}, "samples must be 2 or more"),
        ({"hidden_size": 40}, "multiple of 32"),
        ({"beta": 0.0}, "beta must be positive"),
        ({"after": {"steps": 0, "batch": 1, "learning_rate": 1.0}}, "must be positive"),
    ],
)
def test_settings_that_no_run_can_use(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        if "after" in settings:
            settings = {"after": Stretch(**settings["after"])}
        ToolCallTraining(**settings)


def test_scores_share_out_the_faults() -> None:
    asked = questions(200, seed=0, part="scores")
    faults: Any = ["wrong arguments" if q.calls else "right" for q in asked]
    found = scores(asked, faults, 0.0)
    assert (found.wrong_arguments.mean, found.right.mean, found.refuses.mean) == (1.0, 0.0, 1.0)
    preferred = [q for q in asked if q.by_preference]
    share = sum(bool(q.calls) for q in preferred) / len(preferred)
    assert found.preference_errors.mean == pytest.approx(share)
