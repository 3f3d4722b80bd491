"""`suffice ladder fit`, `report` and `train-pick` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.architecture.counts import non_embedding_parameters, parameter_counts
from suffice.architecture.ladder_design import DesignSpace, candidates
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import CONDITIONAL_DEPTH
from suffice.cli.main import app
from suffice.core.errors import InputError, SufficeError
from suffice.recipes.ladder.pick import PickResult
from suffice.recipes.ladder.plan import Plan
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import LadderRung, Recipe, dimensions, ladder_shape, law_coordinates

RECIPE = Recipe(sequence_length=32, aimed_steps=4, evaluation_sequences=4)
FORMS = "conditional-multiplicative,conditional-depth"
SHALLOW_IS_BEST = (0.7, 0.06, 0.009, 0.03, 0.045, 0.06, 0.12)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty made-up runs at 20K parameters."""
    space = DesignSpace(
        sizes=(2e4,), tokens_per_parameter=(5,), head_dim=16, multiple=8, layers=(2, 6),
        x=(0.1, 0.5), r=(0.5, 5.0),
    )  # fmt: skip
    pool = candidates(space, lambda **d: ladder_shape(**d, vocab_size=257))
    rng = np.random.default_rng(0)
    runs = RunStore(tmp_path_factory.mktemp("store") / "runs.jsonl")
    for row in rng.choice(len(pool), size=50, replace=False):
        shape = pool[int(row)].shape
        at = law_coordinates(shape)
        ratio = CONDITIONAL_DEPTH.evaluate(
            SHALLOW_IS_BEST, {**at, "layers": float(shape.num_hidden_layers)}
        )
        loss = float(5 * ratio * np.exp(1e-3 * rng.standard_normal()))
        runs.append(RunRecord(
            run_id=f"{row}", status="finished", purpose="design", **dimensions(shape),
            non_embedding_parameters=int(non_embedding_parameters(shape)),
            total_parameters=parameter_counts(shape).total, **at, tokens=100_000, steps=100,
            batch_tokens=1000, epochs=1.0, seed=0, learning_rate_factor=1.0,
            peak_learning_rate=4e-3, precision="fp32", recipe="made up", data="made up",
            loss=loss, loss_per_byte=loss, train_loss=loss, tokens_per_s=1.0,
        ))  # fmt: skip
    return runs.path


@pytest.fixture(scope="module")
def law(store: Path) -> Path:
    out = store.with_name("law.json")
    done = CliRunner().invoke(
        app,
        ["ladder", "fit", "--store", str(store), "--family", "conditional-depth", "--bootstrap",
         "30", "--forms", FORMS, "--name", "tiny", "--out", str(out)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0
    for text in ("layers", "90 % interval", "Spearman", "law file"):
        assert text in done.stdout
    return out


def test_fit_writes_a_law_that_loads(law: Path) -> None:
    found = load_law(law)
    assert found.name == "tiny" and found.draws is not None
    assert found.domain.interval("layers") is not None


def test_report_names_its_files(store: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["ladder", "report", "--store", str(store), "--bootstrap", "20", "--family",
         "conditional-depth", "--forms", FORMS, "--out", str(tmp_path)],
        catch_exceptions=False,
    )  # fmt: skip
    assert [Path(line).name for line in done.stdout.split()] == ["report.html", "ladder.png"]
    assert all(Path(line).exists() for line in done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--store", "absent.jsonl"], "does not exist"),
        (["report", "--store", "absent.jsonl", "--out", "x", "--pick", "no.json"], "no.json"),
        (["train-pick", "--law", "besiroglu2024", "--data", ".", "--store", "s", "--size", "1K",
          "--tokens", "1K", "--out", "o"], "says nothing about shape"),
    ],
)  # fmt: skip
def test_bad_requests(arguments: list[str], message: str) -> None:
    with pytest.raises(SufficeError, match=message):
        CliRunner().invoke(app, ["ladder", *arguments], catch_exceptions=False)


@pytest.mark.torch
@pytest.mark.slow
def test_train_pick_trains_both_once_and_judges_them(law: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from suffice.recipes.ladder.data import DataConfig, make_data

    text = tmp_path / "text"
    text.mkdir()
    for i in range(40):
        (text / f"{i}.txt").write_text(f"pick {i} and train the picked shape. " * 12)
    make_data(
        DataConfig(sources=(str(text),), tokenizer="bytes", validation_share=0.2), tmp_path / "data"
    )
    shape = ladder_shape(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, vocab_size=257,
    )  # fmt: skip
    plan = Plan(recipe=RECIPE, rungs=(LadderRung(shape=shape, tokens=100),), flops_per_s=1e9)
    plan.save(tmp_path / "plan.json")
    out = tmp_path / "pick"
    arguments = [
        "ladder", "train-pick", "--law", str(law), "--data", str(tmp_path / "data"), "--store",
        str(tmp_path / "runs.jsonl"), "--plan", str(tmp_path / "plan.json"), "--size", "20K",
        "--tokens", "500", "--seeds", "2", "--head-dim", "16", "--multiple", "8", "--tolerance",
        "0.04", "--input-tokens", "16", "--output-tokens", "4", "--batch", "1", "--repeat", "2",
        "--device", "cpu", "--clock", "cpu", "--out", str(out),
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "Welch" in done.stdout and "Decode at batch 1" in done.stdout
    result = PickResult.load(out / "train-pick.json")
    assert len(result.pick_losses) == len(result.reference_losses) == 2
    assert result.pick != result.reference
    assert abs(result.pick_parameters / result.reference_parameters - 1) < 0.08
    assert result.timed[0].repeats == 2
    for name in ("pick.json", "reference.json"):
        assert json.loads((out / name).read_text())["num_hidden_layers"] >= 2
    before = (tmp_path / "runs.jsonl").read_bytes()
    again = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["difference"] == result.difference
    assert (tmp_path / "runs.jsonl").read_bytes() == before
    with pytest.raises(InputError, match="the reference itself"):
        CliRunner().invoke(
            app, [*arguments, "--pick", str(out / "reference.json")], catch_exceptions=False
        )


@pytest.mark.torch
def test_a_corrupt_shard_stops_a_run_with_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from suffice.recipes.ladder.data import DataConfig, make_data

    (tmp_path / "text").mkdir()
    for i in range(20):
        (tmp_path / "text" / f"{i}.txt").write_text(f"{i} shards do not change by themselves. " * 9)
    make_data(
        DataConfig(sources=(str(tmp_path / "text"),), tokenizer="bytes", validation_share=0.3),
        tmp_path / "data",
    )
    shard = next((tmp_path / "data").glob("train-*.bin"))
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)
    shape = ladder_shape(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, vocab_size=257,
    )  # fmt: skip
    plan = Plan(recipe=RECIPE, rungs=(LadderRung(shape=shape, tokens=100),), flops_per_s=1e9)
    plan.save(tmp_path / "plan.json")
    with pytest.raises(SufficeError, match=shard.name):
        CliRunner().invoke(
            app,
            ["ladder", "run", "--plan", str(tmp_path / "plan.json"), "--data",
             str(tmp_path / "data"), "--store", str(tmp_path / "runs.jsonl"), "--device", "cpu"],
            catch_exceptions=False,
        )  # fmt: skip
    assert not (tmp_path / "runs.jsonl").exists()
