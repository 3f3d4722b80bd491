"""What a config has to say, and what is told where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from suffice.compose.config import read_compose_config
from suffice.core.errors import SufficeError

GOOD = """
questions = "q.jsonl"
upstreams = ["http://127.0.0.1:1/v1"]

[[arms]]
name = "vote"
role = "baseline"
policy = "self_consistency:samples=8@large"

[[arms]]
name = "small"
role = "lever"
policy = "self_consistency:samples=8@small"

[[arms]]
name = "all"
role = "together"
policy = "single@small"
"""


def test_a_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "compose.toml"
    path.write_text(GOOD, encoding="utf-8")
    found = read_compose_config(path)
    assert [arm.name for arm in found.of_role("lever")] == ["small"]
    assert found.max_drop == 0.02 and not found.models


@pytest.mark.parametrize(
    ("change", "to", "said"),
    [
        ('role = "together"', 'role = "lever"', "0 arms have the role 'together'"),
        ('role = "lever"', 'role = "baseline"', "2 arms have the role 'baseline'"),
        ('role = "lever"', 'role = "reference"', "no arm has the role 'lever'"),
        ('name = "all"', 'name = "vote"', "two arms are called 'vote'"),
        ('upstreams = ["http://127.0.0.1:1/v1"]', "", "give [models]"),
        ("single@small", "single", "names no model"),
        ("single@small", "singel@small", "singel"),
        ('questions = "q.jsonl"', 'questions = "q.jsonl"\nmax_drop = 2', "max_drop"),
        ('questions = "q.jsonl"', 'questions = "q.jsonl"\nspeed = 2', "speed"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path: Path, change: str, to: str, said: str) -> None:
    path = tmp_path / "compose.toml"
    assert change in GOOD
    path.write_text(GOOD.replace(change, to, 1), encoding="utf-8")
    with pytest.raises(SufficeError) as told:
        read_compose_config(path)
    assert said in str(told.value)
