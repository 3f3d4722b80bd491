"""A whole run of soft thoughts in small: arms, frozen weights, resumption, errors."""

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

from suffice.recipes.soft_thoughts.run import SoftThoughtTraining, train_soft_thoughts
from suffice.training.settings import from_toml
from suffice.training.soft_thoughts.arms import ARMS

pytestmark = pytest.mark.torch
RUNNER = CliRunner()
TINY = """
slots = 2
tested = 6
[backbone]
steps = 3
batch = 10
learning_rate = 4e-3
[after]
steps = 2
batch = 4
learning_rate = 1e-2
"""


def test_a_run_writes_its_table_and_an_interrupted_one_the_same(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = RUNNER.invoke(
        app, ["train", "soft-thoughts", "--config", str(config), "--out", str(whole)]
    )
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads((whole / "soft-thoughts.json").read_text())
    assert [arm["arm"] for arm in found["arms"]] == list(ARMS)
    # Frozen to the last digit; LoRA is not.
    assert found["backbone_moved"] == 0.0
    assert found["lora_moved"] > 0.0
    kept = {tuple(arm["held_out_right"]) for arm in found["arms"] if arm["arm"] != "lora"}
    assert len(kept) == 1
    assert (whole / "backbone" / "model.safetensors").exists()
    assert (whole / "projector-learned.pt").exists()

    class Stop(Exception):
        pass

    def stop_at(phase: str) -> Any:
        def tell(line: dict[str, Any]) -> None:
            if line["phase"] == phase:
                raise Stop

        return tell

    settings = from_toml(SoftThoughtTraining, config)
    for phase in ("backbone", "learned", "arm swapped"):
        with pytest.raises(Stop):
            train_soft_thoughts(settings, cut, tell=stop_at(phase))
    train_soft_thoughts(settings, cut)
    assert json.loads((cut / "soft-thoughts.json").read_text()) == found


def test_the_contrast_is_an_arm_by_name(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY.replace("tested = 6", 'tested = 6\narms = ["zero", "contrast"]'))
    result = train_soft_thoughts(from_toml(SoftThoughtTraining, config), tmp_path / "out")
    zero, several = result.arms
    assert (zero.arm, several.arm) == ("zero", "contrast")
    assert several.parameters > 0
    assert len(several.right) == len(zero.right) == 12
    assert result.backbone_moved == 0.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arms": ("coconut",)}, "arm 'coconut' must be one of none"),
        ({"arms": ("swapped",)}, "swapped takes the projector of arm learned"),
        ({"arms": ("fitted-swapped",)}, "takes the projector of arm fitted: name both"),
        ({"thoughts": 1}, "thoughts must be 2 or more"),
        ({"slots": 5}, "slots must be 1 to 4"),
        ({"hinted": 0.8, "noisy": 0.4}, "shares"),
    ],
)
def test_settings_that_no_run_can_use(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SoftThoughtTraining(**settings)
