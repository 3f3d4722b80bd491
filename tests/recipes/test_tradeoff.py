"""The exchange of training for inference FLOPs: the paper's special case, bins, verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError
from suffice.evals.traces.files import write_traces
from suffice.recipes.tradeoff.output import rows_of, verdict
from suffice.recipes.tradeoff.run import TrainedModel, affordable_samples, tradeoff
from tests.recipes.known_traces import make


@pytest.mark.parametrize("ratio", [0.16, 0.79, 22.0])  # those of the paper's figure 9
@pytest.mark.parametrize("multiplier", [2.0, 14.0])
def test_equal_data_and_lengths_give_the_papers_factor(ratio, multiplier):
    small = TrainedModel(model="s", parameters=1e9, training_tokens=1e12)
    large = TrainedModel(model="l", parameters=multiplier * 1e9, training_tokens=1e12)
    k = affordable_samples(small, large, ratio)
    assert k == pytest.approx(multiplier + 3 / ratio * (multiplier - 1))


def test_total_flops_are_equal_at_k():
    small = TrainedModel(model="s", parameters=1e9, training_tokens=9e12)
    large = TrainedModel(model="l", parameters=8e9, training_tokens=15e12)
    ratio, longer = 2.0, 0.7
    k = affordable_samples(small, large, ratio, longer)
    drawn = ratio * large.training_tokens
    spent_large = 6 * 8e9 * 15e12 + 2 * 8e9 * drawn
    spent_small = 6 * 1e9 * 9e12 + 2 * 1e9 * k * longer * drawn
    assert spent_small == pytest.approx(spent_large)
    # Training the small model may cost more than everything that the large one ever does.
    dear = TrainedModel(model="s", parameters=1e9, training_tokens=1e15)
    assert affordable_samples(dear, large, ratio) < 1


def test_samples_beat_the_large_model_where_the_small_one_is_often_right():
    traces = make(100, samples=16, small=(0.75, 0.02), large=(0.8, 0.8))
    small = TrainedModel(model="small", parameters=1e9, training_tokens=1e12)
    large = TrainedModel(model="large", parameters=8e9, training_tokens=1e12)
    found = tradeoff(traces, small, large, [1.0, 1000.0], bins=2)
    easy, hard = found.cells[:2]
    assert found.held_out
    assert found.recorded == 8
    assert (easy.bin, hard.bin) == (1, 2)
    assert verdict(easy) == "small, vote"
    assert verdict(hard) == "large"
    assert easy.covered >= easy.vote
    assert found.cells[2].affordable == pytest.approx(8, rel=0.02)  # inference is everything: M = 8
    assert len(rows_of(found)) == 4


def test_refusals():
    traces = make(20)
    small = TrainedModel(model="small", parameters=1e9, training_tokens=1e12)
    other = TrainedModel(model="huge", parameters=1e9, training_tokens=1e12)
    with pytest.raises(InputError, match="'huge' is not in the traces"):
        tradeoff(traces, small, other, [1.0])
    with pytest.raises(InputError, match="must be positive"):
        TrainedModel(model="m", parameters=0, training_tokens=1)
    with pytest.raises(InputError, match="ratio"):
        affordable_samples(small, small, 0.0)


@pytest.mark.parametrize(("columns", "tables"), [(80, 2), (160, 1)])
def test_no_number_is_broken_on_a_narrow_terminal(tmp_path, monkeypatch, columns, tables):
    path = tmp_path / "traces.parquet"
    write_traces(path, make(60, samples=8))
    monkeypatch.setenv("COLUMNS", str(columns))
    words = ["--small", "small=1B/1T", "--large", "large=8B/1T", "--ratio", "0.1,10", "--bins", "3"]
    found = CliRunner().invoke(app, ["tradeoff", str(path), *words])
    assert found.exit_code == 0, found.output
    shown = [line for line in found.output.splitlines() if line.startswith(("R  ", "0.1 ", "10 "))]
    assert sum(line.startswith("R  ") for line in shown) == tables
    assert len(shown) == tables * 7  # heading and 2 x 3 rows: none runs on in a second line
    assert all(line.count("[") == line.count("]") for line in shown)
    assert max(map(len, shown)) <= columns


def test_the_old_name_of_the_verb_still_works(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["exchange", "--help"])
    assert done.exit_code == 0 and "--small" in done.output
    gone = tmp_path / "gone.parquet"
    done = CliRunner().invoke(
        app, ["exchange", str(gone), "--small", "a=1B/1T", "--large", "b=2B/1T"]
    )
    assert "suffice exchange is called suffice tradeoff now" in done.output
    assert done.exit_code != 0
