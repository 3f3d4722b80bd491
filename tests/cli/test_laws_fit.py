"""`suffice laws`, `predict` and `fit` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.architecture.law_file import law_names, load_law
from suffice.cli.main import app
from suffice.core.errors import InputError
from tests.cli.conftest import Suffice


def test_laws_list_and_show(suffice: Suffice) -> None:
    listed = suffice("laws")
    assert listed.returncode == 0
    for name in law_names():
        assert name in listed.stdout
    assert "…" not in listed.stdout
    assert max(len(line) for line in listed.stdout.splitlines()) <= 80
    shown = suffice("laws", "show", "bian2025-1b").stdout
    for text in ("a0 = 2.319", "x* = 0.0739", "refuses", "does not model", "Errata", "natural"):
        assert text in shown
    assert json.loads(suffice("laws", "--json").stdout)[0]["kind"] == "suffice-law"


def test_predict_against_a_measured_reference(suffice: Suffice) -> None:
    done = suffice(
        "predict", "--like", "bian2025/panda-1b", "--law", "bian2025-1b", "--tokens", "100B",
        "--versus", "meta-llama/Llama-3.2-1B", "--versus-loss", "2.803", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["loss"] == pytest.approx(2.785, abs=5e-4)
    assert answer["versus_high"] < 1


def test_no_interval_is_cut_on_a_narrow_terminal(
    suffice: Suffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = suffice(
        "predict", "--like", "bian2025/panda-1b", "--law", "bian2025-1b", "--tokens", "100B",
        "--versus", "meta-llama/Llama-3.2-1B", "--versus-loss", "2.803",
    )  # fmt: skip
    assert "…" not in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if "2.7852" in line]
    assert "-0.63 %" in row and "-1.14, -0.12" in row


def test_a_refusal_names_the_law_that_holds_the_size(suffice: Suffice) -> None:
    done = suffice(
        "predict", "--like", "meta-llama/Llama-3.2-3B", "--law", "bian2025-80m-297m",
        "--tokens", "100B",
    )  # fmt: skip
    assert done.returncode == 2
    assert "take --law bian2025-1b" in done.stderr
    nobody = suffice(
        "predict", "--like", "meta-llama/Llama-3.1-70B", "--law", "bian2025-1b", "--tokens", "1T"
    )
    assert nobody.returncode == 2
    assert "take --law" not in nobody.stderr


def test_fit_writes_a_law_that_loads(suffice: Suffice, tmp_path: Path) -> None:
    out = tmp_path / "law.json"
    done = suffice(
        "fit", "morph", "--law", "morph", "--holdout", "largest", "--bootstrap", "50",
        "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in ("alpha", "held out", "regret", "90 % interval"):
        assert text in done.stdout
    law = load_law(out)
    assert law.draws is not None
    assert len(law.draws) == 50


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("N,D\n1e8,2e9\n", [], "no column 'loss'"),
        ("N,D,loss\n1e8,2e9,nan\n", [], "is nan"),
        ("N,D,loss\n1e8,2e9,3\n1e8,2e9,3\n", [], "rows 1 and 2 are the same"),
        ("N,D,loss\n1e8,2e9,3\n", [], "too few"),
        ("N,D,loss\n1e8,-2e9,3\n", [], "must be positive"),
        ("N,D,loss\n1e8,2e9,3\n", ["--map", "nonsense"], "--map 'nonsense'"),
        ("N,D,loss\n1e8,2e9,3\n", ["--law", "cubic"], "unknown law family 'cubic'"),
    ],
)
def test_bad_tables_cost_one_line_and_write_nothing(
    suffice: Suffice, tmp_path: Path, table: str, options: list[str], message: str
) -> None:
    runs, out = tmp_path / "runs.csv", tmp_path / "law.json"
    runs.write_text(table)
    done = suffice("fit", str(runs), "--out", str(out), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_choices_of_a_fit_from_the_command_line(tmp_path: Path) -> None:
    rows = ["N,D,loss,right,seed"]
    for n in (1e8, 2e8, 4e8, 8e8):
        for ratio in (10, 40):
            for seed in range(2):
                loss = 1.8 + 480 * n**-0.35 + 2000 * (n * ratio) ** -0.36 + 0.001 * seed
                right = 0.25 + 0.75 / (1 + np.exp(3 * (loss - 3)))
                rows.append(f"{n},{n * ratio},{loss},{right},{seed}")
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(rows) + "\n")
    call = ["fit", str(table), "--law", "chinchilla", "--fix", "E=1.8", "--tie", "beta=alpha",
            "--above", "2", "--seed-weights", "--bootstrap", "10", "--roll-out",
            "--accuracy", "right", "--chance", "0.25",
            "--plot", str(tmp_path / "fit.svg")]  # fmt: skip
    shown = CliRunner().invoke(app, call, catch_exceptions=False)
    assert shown.exit_code == 0
    for text in ("held", "= alpha", "weighed by the scatter", "smaller runs to N 8e+08",
                 "right = 0.25 + 0.75 / (1 + exp(3 (loss - 3)))"):  # fmt: skip
        assert text in shown.output, text
    assert (tmp_path / "fit.svg").read_text(encoding="utf-8").startswith("<svg")
    record = json.loads(CliRunner().invoke(app, [*call, "--json"]).output)
    assert record["coefficients"]["E"] == 1.8
    assert record["coefficients"]["alpha"] == record["coefficients"]["beta"]
    assert record["accuracy"]["half"] == pytest.approx(3.0, rel=1e-4)
    assert record["roll_out"][0]["N"] == 8e8
    with pytest.raises(InputError, match="is not a number"):
        CliRunner().invoke(app, [*call[:4], "--fix", "E=much"], catch_exceptions=False)


def test_warnings_stand_above_the_tables_and_scales_are_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["N,D,loss,x,r"]
    for n in (1e8, 2e8, 4e8):
        for x, r in rng.uniform((0.05, 0.5), (0.2, 4.0), size=(8, 2)):
            loss = 3 - 0.1 * np.log(n / 1e8) + 0.3 * rng.normal()  # nothing to explain
            rows.append(f"{n},{20 * n},{loss},{x},{r}")
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(rows) + "\n")
    call = ["fit", str(table), "--law", "conditional-multiplicative", "--bootstrap", "10"]
    shown = CliRunner().invoke(app, call, catch_exceptions=False).output
    asked = CliRunner().invoke(app, [*call, "--scales"], catch_exceptions=False).output
    assert shown.index("Warnings") < shown.index("coefficient")
    # A line per scale, with its N, only with --scales.
    assert all(text in asked for text in ("100M", "200M", "400M"))
    assert len(asked.splitlines()) >= len(shown.splitlines()) + 3
