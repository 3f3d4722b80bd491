"""A ladder whose law can be held to its word, verb by verb; runs are made up, nothing trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError, OutsideValidity
from suffice.recipes.ladder.data import DataConfig, make_data
from suffice.recipes.ladder.plan import Plan
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import dimensions, law_coordinates

SPACE = ["--tokens-per-param", "10", "--head-dim", "16", "--multiple", "8", "--x", "0.065:0.35",
         "--layers", "2:8", "--kv-shares", "1,0.5", "--counted", "head", "--size-tolerance", "0.02",
         "--hardware", "2e10", "--no-tune", "--no-check", "--repeat", "0"]  # fmt: skip


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["ladder", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def record(rung, seed: int, noise: float) -> RunRecord:
    shape, at = rung.shape, law_coordinates(rung.shape)
    size = rung.parameters + 257 * shape.hidden_size
    bend = 0.05 * (np.log(at["x"] / 0.15) + 0.15 / at["x"] - 1) + 0.01 * np.log(at["r"]) ** 2
    loss = float(3 * (size / 1e5) ** -0.08 * (1 + bend) * np.exp(noise))
    return RunRecord(
        run_id=f"{seed} {rung.purpose} {tuple(dimensions(shape).values())}", status="finished",
        purpose=rung.purpose, **dimensions(shape), non_embedding_parameters=rung.parameters,
        total_parameters=size + 257 * shape.hidden_size, **at, tokens=rung.tokens, steps=1,
        batch_tokens=1, epochs=0.1, seed=rung.seed, learning_rate_factor=1.0,
        peak_learning_rate=1e-3, precision="fp32", recipe="r", data="d", loss=loss,
        loss_per_byte=loss, train_loss=loss,
    )  # fmt: skip


def test_from_a_plan_with_its_power_to_a_judgement(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"document {i} " * 40}) + "\n" for i in range(60)))
    data = tmp_path / "data"
    make_data(DataConfig(sources=(str(text),), tokenizer="bytes", validation_share=0.2), data)
    plan, store, law = (tmp_path / name for name in ("plan.json", "runs.jsonl", "law.json"))
    where = ["--data", str(data), "--out", str(plan)]
    said = call("plan", "--sizes", "50K,100K", "--counts", "16,10", "--seeds-each", "2", *where,
                *SPACE, "--layer-rate-exponent", "0.5", "--decay-evaluations", "3")  # fmt: skip
    assert said.count("these runs locate a lowest point") == 3
    assert "and where there is none in 0.0 %" in said
    made = Plan.load(plan)
    assert made.recipe.layer_rate_exponent == 0.5 and made.recipe.decay_evaluations == 3
    assert len(made.rungs) == 52

    rng = np.random.default_rng(0)
    runs = RunStore(store)
    for number, rung in enumerate(made.rungs):
        runs.append(record(rung, number, 0.001 * rng.standard_normal()))
    fitted = call("fit", "--store", str(store), "--counted", "head", "--bootstrap", "30", "--forms",
                  "conditional-multiplicative", "--out", str(law))  # fmt: skip
    assert "located" in fitted and "one depends on the other" in fitted

    criteria = "results/ladder/second/criteria.json"
    before = call("judge", "--criteria", criteria, "--law", str(law), "--store", str(store))
    assert before.count("not yet") == 4
    sizes = ["--sizes", "100K,200K"]
    call("plan", *sizes, "--add", "4", "--far-apart", str(law), "--seeds-each", "2", *where, *SPACE)
    call("plan", *sizes, "--pick-by", str(law), "--seeds-each", "4", "--equal-references", *where,
         *SPACE)  # fmt: skip
    new = Plan.load(plan).rungs[52:]
    assert [r.purpose for r in new[:16]] == ["held-out"] * 8 + ["pick", "reference"] * 4
    assert {r.purpose for r in new[16:]} == {"equal-reference"}
    pick = next(r for r in new if r.purpose == "pick")
    assert pick.shape in {r.shape for r in new[:8]}  # the best held-out shape is the pick
    made_runs = set()
    for number, rung in enumerate(new, start=100):
        # As `ladder run` does: a run is made once, whatever it is for.
        if (rung.shape, rung.seed) not in made_runs:
            runs.append(record(rung, number, 0.0005 * rng.standard_normal()))
        made_runs.add((rung.shape, rung.seed))
    after = call("judge", "--criteria", criteria, "--law", str(law), "--store", str(store))
    assert after.count("met ") == 4, after
    listed = json.loads(
        call("judge", "--criteria", criteria, "--law", str(law), "--store", str(store), "--json")
    )
    assert [each["outcome"] for each in listed[:4]] == ["met"] * 4
    reported = [each for each in listed if each["outcome"] == "reported"]
    power = {each["criterion"]: each for each in listed if each["outcome"] == "power"}
    assert len(listed) == 4 + len(reported) + len(power) and len(power) == 4
    # A tenth of a per cent of noise: a right law is told from shapes that are all alike.
    assert min(each["if_right"] for each in power.values()) > 0.9
    assert power["order of held-out shapes"]["if_flat"] < 0.3
    assert 0.3 < power["sign of pick less reference"]["if_flat"] < 0.7
    assert all(each["seeds"] == [4, 4] for each in reported)
    assert min(abs(each["parameters_percent"]) for each in reported) <= 0.5
    assert min(abs(each["total_percent"]) for each in reported) <= 0.5


def test_what_a_newcomer_gets_wrong(tmp_path: Path) -> None:
    second = "results/ladder/second"
    planned = ["plan", "--sizes", "50K", "--data", "data", "--out", str(tmp_path / "plan.json")]
    judged = ["judge", "--criteria", f"{second}/criteria.json", "--store"]
    for arguments, message in (
        ([*judged, str(tmp_path / "none.jsonl"), "--law", f"{second}/law.json"], "does not exist"),
        ([*judged, f"{second}/runs.jsonl", "--law", "bian2025-1b"], "is outside"),
        ([*judged, f"{second}/runs.jsonl", "--law", "besiroglu2024"], "nothing about shape"),
        ([*planned, "--equal-references"], "--pick-by"),
        ([*planned, "--far-apart", "law.json"], "--add N"),
    ):  # fmt: skip
        with pytest.raises((InputError, OutsideValidity), match=message):
            call(*arguments)


def test_what_is_counted_is_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose matrices or head"):
        call("fit", "--store", str(tmp_path / "runs.jsonl"), "--counted", "all")
    with pytest.raises(InputError, match="choose of"):
        call("fit", "--store", str(tmp_path / "runs.jsonl"), "--purposes", "tune")
