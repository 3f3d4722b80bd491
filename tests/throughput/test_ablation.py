"""Ablations: what is held while one thing varies, and the verbs that measure and predict them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import mlp_to_attention_ratio, non_embedding_parameters
from suffice.cli.main import app
from suffice.core.errors import InputError, UnknownName
from suffice.recipes.ablation.plan import FAMILIES, family_shapes, settings
from suffice.recipes.ablation.scaling import shrunk


@pytest.mark.parametrize("name", FAMILIES["1b"])
@pytest.mark.parametrize("divisor", [2, 4])
def test_shrunk_shapes_keep_r_x_and_gqa_exactly(name: str, divisor: int) -> None:
    full, small = load_shape(name), shrunk(load_shape(name), divisor)
    assert mlp_to_attention_ratio(small) == mlp_to_attention_ratio(full)
    assert small.gqa == full.gqa
    assert small.num_hidden_layers == full.num_hidden_layers
    assert non_embedding_parameters(small) * divisor**2 == non_embedding_parameters(full)
    x_full = full.hidden_size / math.sqrt(non_embedding_parameters(full))
    assert small.hidden_size / math.sqrt(non_embedding_parameters(small)) == pytest.approx(x_full)
    assert small.head_dim == 32


def test_a_shape_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="num_attention_heads"):
        shrunk(load_shape("HuggingFaceTB/SmolLM2-135M"), 4)
    with pytest.raises(InputError, match="positive"):
        shrunk(load_shape("llama-3.2-1b"), 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("axis", ["d", "r", "gqa"])
def test_only_the_axis_varies(axis: str, family: str) -> None:
    reference = family_shapes(family)[0]
    found = settings(axis, family, batches=(1,), contexts=(64,), output_tokens=8)
    assert 3 <= len(found) <= 5
    assert [s.value for s in found] == sorted(s.value for s in found)
    assert any(s.shape == reference for s in found)
    n = non_embedding_parameters(reference)
    r = float(mlp_to_attention_ratio(reference))
    for setting in found:
        shape = setting.shape
        assert non_embedding_parameters(shape) == pytest.approx(n, rel=0.015)
        assert shape.num_hidden_layers == reference.num_hidden_layers
        if axis != "d":
            assert shape.hidden_size == reference.hidden_size
        if axis != "gqa":
            assert shape.gqa == reference.gqa
        if axis != "r":
            assert float(mlp_to_attention_ratio(shape)) == pytest.approx(r, rel=0.15)


def test_sweeps_take_every_model_of_the_family() -> None:
    found = settings("context", "1b", batches=(4,), contexts=(64, 128), output_tokens=8)
    assert [(s.series.rsplit("/")[-1], s.value) for s in found] == [
        (name.rsplit("/")[-1], tokens) for name in FAMILIES["1b"] for tokens in (64.0, 128.0)
    ]
    with pytest.raises(UnknownName, match="3b"):
        settings("d", "2b", batches=(1,), contexts=(64,), output_tokens=8)
    with pytest.raises(InputError, match="gqa"):
        settings("depth", "1b", batches=(1,), contexts=(64,), output_tokens=8)


def test_predicted_ablations_have_the_published_directions(tmp_path: Path) -> None:
    """arXiv:2510.18245, Figure 3: larger d, larger r and larger GQA are faster."""
    for axis in ("d", "r", "gqa"):
        done = CliRunner().invoke(
            app, ["ablate", axis, "--predict-only", "--batch", "64", "--json"],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        speeds = [row["predicted_tokens_per_s"] for row in json.loads(done.stdout)]
        assert all(speeds)
        assert speeds == sorted(speeds), axis


def test_predict_only_writes_table_and_plot(tmp_path: Path) -> None:
    arguments = ["ablate", "batch", "--predict-only", "--hardware", "h100", "--batch", "1,16,64"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "ablate-batch.csv").read_text().splitlines()))
    assert len(rows) == 9
    assert rows[0]["measured_tokens_per_s"] == ""
    assert (tmp_path / "ablate-batch.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.torch
def test_measured_and_predicted_stand_together_and_a_second_call_measures_nothing(
    tmp_path: Path,
) -> None:
    pytest.importorskip("torch")
    arguments = [
        "ablate", "gqa", "--shrink", "4", "--batch", "1", "--input-tokens", "8",
        "--output-tokens", "4", "--points", "3", "--repeat", "1", "--threads", "1", "--device",
        "cpu", "--hardware", "cpu", "--out", str(tmp_path),
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "ablate-gqa.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert all(
        float(row["measured_tokens_per_s"]) > 0 and float(row["predicted_tokens_per_s"]) > 0
        for row in rows
    )
    again = CliRunner().invoke(app, arguments)
    assert "repeat 1/1" in done.output
    assert "repeat 1/1" not in again.output


@pytest.mark.torch
def test_measure_prints_what_its_file_holds(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "r.jsonl"
    arguments = [
        "measure", "--like", "llama-3.2-1b", "--like", "surefire-1b", "--shrink", "4", "--batch",
        "1,2", "--input-tokens", "8", "--output-tokens", "4", "--repeat", "2", "--threads", "1",
        "--device", "cpu", "--clock", "cpu", "--out", str(out), "--tag", "study=test",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "surefire-1b / 4" in done.output
    samples = [json.loads(line) for line in out.read_text().splitlines()][1:]
    assert len(samples) == 8
    assert {sample["clock"] for sample in samples} == {"cpu"}
    assert {sample["tags"]["study"] for sample in samples} == {"test"}
    resumed = CliRunner().invoke(app, [*arguments, "--json"])
    assert resumed.exit_code == 0
    assert "repeat" not in resumed.output.split("[\n", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one shape"),
        (["--like", "nothing-9b"], "unknown model"),
        (["--like", "llama-3.2-1b", "--engine", "tgi"], "known: vllm, torch, openai"),
        (["--like", "llama-3.2-1b", "--batch", "0"], "positive whole numbers"),
        (["--like", "llama-3.2-1b", "--output-tokens", "1"], "2 output tokens"),
        (["--like", "llama-3.2-1b", "--tag", "x"], "NAME=VALUE"),
        (["--like", "llama-3.2-1b", "--threads", "0"], "--threads"),
        (["--like", "llama-3.2-1b", "--like", "llama-3.2-1b"], "twice"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["measure", *arguments])
    assert done.exit_code != 0
    assert message in str(done.exception)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--like", "llama-3.2-1b", "--device", "cuda"], "no GPU is visible to torch"),
        (["--like", "llama-3.2-1b", "--kernels", "cuda"], "auto, torch, triton"),
        (["--like", "llama-3.2-1b", "--clock", "cpu", "--device", "cpu"], "--threads 1"),
        (["--like", "gemma-2-2b", "--device", "cpu"], "does not run gemma2"),
        (
            ["--like", "llama-3.2-1b", "--device", "cpu", "--batch", "999999", "--shrink", "4"],
            "nothing could be measured",
        ),
    ],
)
def test_what_the_torch_engine_refuses(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    from suffice.throughput.engines import torch_engine
    from suffice.throughput.engines.protocol import Ceilings

    quick = Ceilings(copy_bytes_per_s=1e10, matmul_flops_per_s=1e12, dtype="bf16")
    monkeypatch.setattr(torch_engine, "measure_ceilings", lambda *_, **__: quick)
    done = CliRunner().invoke(app, ["measure", *arguments, "--out", str(tmp_path / "r.jsonl")])
    assert done.exit_code != 0
    assert message in str(done.exception) + done.output
    if "999999" in arguments:
        assert "too much; batch" in done.output
