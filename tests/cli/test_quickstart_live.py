"""`suffice quickstart --live`: what it finds, proposes and writes, without starting the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.gateway.config_check import checked_config
from suffice.quickstart.live import LiveStart, prepare
from suffice.testing.fake_engine import FakeEngine, Reply, Talents
from tests.cli.conftest import Suffice

SAYS = Reply.saying("it is 4")


def prepared(tmp_path: Path, models: tuple[str, ...], **talents: bool) -> tuple[str, list[str]]:
    told: list[str] = []
    with FakeEngine(SAYS, talents=Talents(models=models, **talents)) as engine:  # type: ignore[arg-type]
        start = LiveStart(upstreams=(engine.url,), out=tmp_path / "q", answer_format="number")
        found = prepare(start, tell=told.append)
    config = checked_config(start.settings)
    assert config.live.safe == found.safe and config.live.cheap == (found.cheap,)
    assert config.live.shadow_only
    return f"{found.safe} <- {found.cheap}", told


def test_two_small_models_before_a_large_one(tmp_path: Path) -> None:
    found, told = prepared(tmp_path, ("small-3B", "large-70B", "small-1B"))
    assert found == ("single@large-70B <- agreement:models=small-3B+small-1B > single@large-70B")
    assert any("nothing changes for your clients" in line for line in told)


def test_a_small_one_before_a_large_one(tmp_path: Path) -> None:
    assert prepared(tmp_path, ("a-7B", "b-70B"))[0] == "single@b-70B <- single@a-7B"


def test_one_that_can_think(tmp_path: Path) -> None:
    found, _ = prepared(tmp_path, ("thinker",), thinking_switch=True)
    assert found == "single:effort=high@thinker <- single:effort=none@thinker"


def test_one_that_cannot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be told not to think"):
        prepared(tmp_path, ("plain",))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "or --live where you have traffic"),
        (("--live",), "--answer-format number"),
        (("--live", "--questions", "x.jsonl"), "leave --questions out"),
    ],
)
def test_what_lacks_is_said(suffice: Suffice, words: tuple[str, ...], said: str) -> None:
    found = suffice("quickstart", *words)
    assert found.returncode == 2 and said in found.stderr
