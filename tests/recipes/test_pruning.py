"""A whole pruning run in small: files, matched tokens, resumption, errors."""

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

from suffice.recipes.pruning.run import PruneTraining, _kept_at_half, _mean, _spearman
from suffice.training.pruning.problems import problems

pytestmark = pytest.mark.torch
RUNNER = CliRunner()
TINY = """
hidden_size = 32
judged = 4
pruned = 4
tested = 4
per_step = 6
arms = ["raw", "greedy-answer", "random"]
[base]
steps = 2
batch = 4
[gaps]
steps = 1
batch = 4
[student]
steps = 1
batch = 2
"""


def invoke(*arguments: str) -> Any:
    return RUNNER.invoke(app, list(arguments))


def test_a_run_writes_its_tables_and_goes_on(tmp_path: Path) -> None:
    config, out = tmp_path / "tiny.toml", tmp_path / "pruned"
    config.write_text(TINY)
    asked = ("train", "prune", "--config", str(config), "--out", str(out))
    done = invoke(*asked)
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads((out / "pruning.json").read_text())
    assert (out / "pruning.svg").read_text().startswith("<svg")
    curves = {curve["method"]: curve for curve in found["curves"]}
    assert set(curves) == {
        "greedy-answer", "greedy-joint", "greedy-mean", "random", "uniform", "truncation",
        "surprisal", "entropy", "importance", "surrogate",
    }  # fmt: skip
    # Nothing or everything of a trace is the same whatever the order.
    ends = {(c["p_answer"][0][1]["mean"], c["p_answer"][-1][1]["mean"]) for c in
            (curves["random"], curves["greedy-mean"])}  # fmt: skip
    assert len({round(a, 5) for a, _ in ends}) == len({round(b, 5) for _, b in ends}) == 1
    raw, greedy, random = found["students"]
    assert greedy["tokens_learned_from"] == random["tokens_learned_from"]
    assert greedy["tokens_learned_from"] < raw["tokens_learned_from"]
    assert len(raw["right"]) == 4
    # A second call trains nothing anew and finds the same.
    again = invoke(*asked)
    assert "base · step" not in again.output
    assert json.loads((out / "pruning.json").read_text()) == found
    done = invoke(*asked, "--seed", "3")
    assert isinstance(done.exception, ConfigError)
    assert "seed: 0 -> 3" in str(done.exception)


def test_settings_that_no_run_can_use() -> None:
    with pytest.raises(ConfigError, match="arm 'greed' must be one of"):
        PruneTraining(arms=("greed",))
    with pytest.raises(ConfigError, match="keep and drop are shares"):
        PruneTraining(keep=1.0)


def test_kinds_at_half_and_intervals() -> None:
    asked = problems(3, seed=0, part="t")
    symbols_last = [
        sorted(
            range(len(p.trace)),
            key=lambda n, p=p: p.categories[n] in ("result", "operand", "operator"),
        )
        for p in asked
    ]
    kept = _kept_at_half(asked, symbols_last)
    assert (kept["symbolic"] > kept["words"]).all()
    assert _mean([1.0, float("nan"), 1.0]).low == 1.0
    assert _spearman([0.0, 1.0, 2.0], [5.0, 6.0, 7.0]) == pytest.approx(1.0)
    assert _spearman([0.0, 1.0, 2.0], [7.0, 6.0, 5.0]) == pytest.approx(-1.0)
