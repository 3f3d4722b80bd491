"""The command line as a user meets it: exit codes, one-line errors, what it prints and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from suffice.cli.main import app
from tests.cli.conftest import Suffice

DESIGN = ["design", "--like", "meta-llama/Llama-3.2-1B", "--tokens", "100B"]


def test_a_process_of_its_own_answers_and_fails_as_one_in_here() -> None:
    """The only test of this folder's verbs that starts Python: the module is the entry point."""
    command = [sys.executable, "-m", "suffice", *DESIGN, "--hardware", "abacus"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown hardware 'abacus'")
    assert done.stderr.count("\n") == 1


def test_version_and_help(suffice: Suffice) -> None:
    assert suffice("--version").stdout.startswith("suffice 0.")
    verbs = suffice("--help").stdout
    for verb in ("design", "shapes", "size", "doctor", "laws", "predict", "fit", "hardware"):
        assert verb in verbs


def test_design_writes_a_run_and_prints_json(suffice: Suffice, tmp_path: Path) -> None:
    done = suffice(*DESIGN, "--out", str(tmp_path / "run"), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    chosen = next(p for p in answer["picks"] if p["role"] == "recommended")
    assert chosen["config"] == json.loads((tmp_path / "run" / "config.json").read_text())


def test_design_prints_tables_that_fit_100_columns(suffice: Suffice) -> None:
    done = suffice(*DESIGN)
    assert done.returncode == 0
    assert "…" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert "given" in done.stdout
    assert "recommended 90 %" in done.stdout
    assert "width and MLP give 1.00x" in " ".join(done.stdout.split())


def test_a_size_in_thousands_of_millions_is_not_cut(suffice: Suffice, tmp_path: Path) -> None:
    file = tmp_path / "my.json"
    file.write_text(
        json.dumps(
            {
                "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 28,
                "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 6144,
                "vocab_size": 151936, "head_dim": 128, "tie_word_embeddings": True,
            }
        )
    )  # fmt: skip
    done = suffice("design", "--like", str(file), "--tokens", "300B", "--gqa", "2:2")
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert "1.409B" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["design", "--like", "llama-9", "--tokens", "100B"], "unknown model 'llama-9'"),
        ([*DESIGN, "--hardware", "abacus"], "unknown hardware 'abacus'"),
        ([*DESIGN, "--confidence", "2"], "confidence"),
        (["design", "--like", "llama-3.2-1b", "--tokens", "-1"], "--tokens '-1'"),
        ([*DESIGN, "--gqa", "many"], "--gqa 'many' is not a range"),
        ([*DESIGN, "--depth", "a,b"], "--depth"),
        ([*DESIGN, "--law", "absent.json"], "absent.json"),
        ([*DESIGN, "--workload", "absent.toml"], "absent.toml"),
        (["shapes", "absent.json"], "does not exist"),
        (
            ["design", "--like", "meta-llama/Llama-3.1-405B", "--tokens", "15T", "--extrapolate"],
            "GiB",
        ),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    suffice: Suffice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    extra = ["--out", str(tmp_path / "run")] if arguments[0] == "design" else []
    done = suffice(*arguments, *extra)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_broken_configs_exit_with_2(suffice: Suffice, tmp_path: Path) -> None:
    base = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 3, "vocab_size": 100,
    }  # fmt: skip
    for number, changes in enumerate(
        ({}, {"num_local_experts": 8}, {"num_key_value_heads": 2, "hidden_size": 66})
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({**base, **changes}))
        done = suffice("design", "--like", str(path), "--tokens", "1B")
        assert done.returncode == 2
        assert path.name in done.stderr
        assert done.stderr.count("\n") == 1


def test_design_into_a_file_is_refused(suffice: Suffice, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    done = suffice(*DESIGN, "--out", str(tmp_path / "taken"))
    assert done.returncode == 2
    assert (tmp_path / "taken").read_text() == "mine"


def test_doctor_and_shapes(suffice: Suffice) -> None:
    facts = json.loads(suffice("doctor", "--json").stdout)
    assert set(facts["extras"]) >= {"torch", "vllm", "parquet", "ray"}
    shown = suffice("doctor").stdout
    for name, extra in facts["extras"].items():
        assert extra["installed"] or f"{name}: {extra['install']}" in shown
    counted = json.loads(suffice("shapes", "Llama-3.2-1B", "--json").stdout)
    assert counted["parameters_total"] == 1_235_814_400
    config = json.loads(suffice("shapes", "surefire-1b", "--config").stdout)
    assert config["head_dim"] == 64


def test_import_is_light() -> None:
    heavy = "[m for m in ('torch', 'pydantic', 'numpy') if m in sys.modules]"
    code = f"import sys, suffice; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_verb_has_a_help_page() -> None:
    """Square brackets in a help text are markup unless escaped."""
    command = get_command(app)
    command.load_all()

    def pages(at: object, words: list[str]) -> list[list[str]]:
        inner = getattr(at, "commands", {})
        return [words] + [page for name in inner for page in pages(inner[name], [*words, name])]

    for words in pages(command, []):
        with pytest.raises(SystemExit) as left:
            command.main([*words, "--help"], prog_name="suffice")
        assert left.value.code == 0, words
