"""`suffice train` and `suffice eval` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.backends.nano.weights import RECORD, WEIGHTS, expected_shapes, read_config
from suffice.cli.main import app
from suffice.core.errors import ConfigError, CorruptData, InputError, UnknownName
from suffice.tasks.puzzles import ALPHABET

RUNNER = CliRunner()
VOCABULARY = Vocabulary.of(ALPHABET)
TINY = """
difficulties = [1, 2]
parameters = 1e5
[warm_up]
steps = 4
pairs = 4
[routing]
method = "gate"
steps = 2
fold_steps = 1
problems = 2
group = 2
"""


def invoke(*arguments: str) -> Any:
    return RUNNER.invoke(app, list(arguments))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random model that no torch has touched."""
    path = tmp_path / "random"
    path.mkdir()
    config = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 8, "vocab_size": len(VOCABULARY), "max_position_embeddings": 96,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(VOCABULARY.to_json())
    rng = np.random.default_rng(0)
    header, body = {}, b""
    for name, shape in expected_shapes(read_config(path)).items():
        raw = rng.normal(size=shape).astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)],
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    (path / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_eval_modes_needs_no_torch_and_writes_its_table(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    done = invoke(
        "eval", "modes", "--model", str(folder), "--difficulties", "1,2", "--problems", "5",
        "--tasks", "chain,logic", "--sampled", "4", "--samples", "3", "--max-tokens", "12", "--out",
        str(out),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "always-think" in done.output
    written = json.loads((out / "modes.json").read_text())
    assert [(c["task"], c["difficulty"]) for c in written["cells"]] == [
        ("chain", 1), ("chain", 2), ("logic", 1), ("logic", 2),
    ]  # fmt: skip
    assert (out / "modes.svg").read_text().startswith("<svg")
    assert (out / "modes.png").read_bytes().startswith(b"\x89PNG")


def test_eval_modes_as_json(folder: Path) -> None:
    done = invoke(
        "eval", "modes", "--model", str(folder), "--difficulties", "1", "--problems", "3",
        "--sampled", "2", "--samples", "3", "--max-tokens", "12", "--json",
    )  # fmt: skip
    assert {r["router"] for r in json.loads(done.output)["routers"]} >= {"learned", "always-short"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--model", "nowhere"), InputError, "model config 'nowhere/config.json' does not exist"),
        (("--difficulties", "one"), InputError, "--difficulties wants whole numbers"),
        (("--tasks", "chess"), UnknownName, "unknown task 'chess'"),
        (("--gamma", "2"), InputError, "γ must lie in"),
    ],
)
def test_eval_errors_say_what_to_do(
    folder: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    done = invoke("eval", "modes", "--model", str(folder), *arguments)
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_corrupt_weights_are_refused(folder: Path) -> None:
    (folder / RECORD).write_text(json.dumps({"weights_sha256": "0" * 64}))
    done = invoke("eval", "modes", "--model", str(folder))
    assert isinstance(done.exception, CorruptData)


@pytest.mark.torch
def test_train_nano_then_modes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, first, second = tmp_path / "tiny.toml", tmp_path / "nano", tmp_path / "routed"
    config.write_text(TINY)
    done = invoke("train", "nano", "--config", str(config), "--out", str(first), "--evaluate", "3")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "warm-up step 4" in done.output
    assert not (first / "work").exists()
    record = json.loads((first / RECORD).read_text())
    assert record["config"]["routing"]["method"] == "gate"
    assert record["evaluation"]["cells"]
    assert "license: apache-2.0" in (first / "README.md").read_text()
    model = transformers.AutoModelForCausalLM.from_pretrained(first)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert sum(w.numel() for w in model.parameters()) == record["parameters"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(first)
    assert tokenizer("<user>3b<assistant>")["input_ids"] == VOCABULARY.prompt("3b")

    again = invoke("train", "nano", "--config", str(config), "--out", str(first), "--evaluate", "3")
    assert again.exit_code == 0
    assert "warm-up" not in again.output  # finished: evaluated, not trained
    other = invoke("train", "nano", "--config", str(config), "--out", str(first), "--seed", "7")
    assert "holds a model of another config (routing.seed: 0 -> 7; seed: 0 -> 7)" in str(
        other.exception
    )

    problems = tmp_path / "mine.jsonl"
    problems.write_text('{"prompt": "3b", "answer": "6", "difficulty": 1}\n')
    modes = ("train", "modes", "--model", str(first), "--method", "degrpo", "--steps", "2")
    asked = (*modes, "--problems", str(problems), "--out", str(second), "--evaluate", "3")
    done = invoke(*asked)
    assert "this model does not solve these problems" in str(done.exception)
    assert not second.exists()
    done = invoke(*asked, "--accept-weak")
    assert done.exit_code == 0, (done.output, done.exception)
    routed = json.loads((second / RECORD).read_text())
    assert routed["from"]["weights_sha256"] == record["weights_sha256"]
    assert routed["config"]["routing"]["steps"] == 2

    done = invoke(*modes, "--out", str(first))
    assert isinstance(done.exception, InputError)
    assert "would be overwritten" in str(done.exception)
    done = invoke(*modes, "--alpha", "-1", "--out", str(tmp_path / "x"))
    assert isinstance(done.exception, ConfigError)
    problems.write_text('{"prompt": "3b"}\n')
    done = invoke(*modes, "--problems", str(problems), "--out", str(tmp_path / "x"))
    assert "no verifiable `answer`" in str(done.exception)


@pytest.mark.torch
def test_train_modes_needs_a_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = invoke("train", "modes", "--out", str(tmp_path / "x"))
    assert "name the model to start from" in str(done.exception)


@pytest.mark.torch
def test_train_nano_on_ones_own_problems(tmp_path: Path) -> None:
    """Other characters than the shipped tasks', spaces included, to a table of one's own."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    problems, config, out = tmp_path / "mine.jsonl", tmp_path / "tiny.toml", tmp_path / "mine"
    rows = [
        {"prompt": f"is {a} > {b}?", "answer": "yes" if a > b else "no", "difficulty": 2,
         "steps": f"{a} - {b} = {a - b}"}
        for a in range(12) for b in range(12)
    ]  # fmt: skip
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config.write_text(TINY)
    asked = ("train", "nano", "--config", str(config), "--problems", str(problems))
    done = invoke(*asked, "--out", str(out), "--evaluate", "3")
    assert done.exit_code == 0, (done.output, done.exception)
    record = json.loads((out / RECORD).read_text())
    assert [cell["task"] for cell in record["evaluation"]["cells"]] == ["mine"]
    assert "the problems of `mine.jsonl`" in (out / "README.md").read_text()
    done = invoke(
        "eval", "modes", "--model", str(out), "--problems-file", str(problems), "--problems", "4",
        "--sampled", "0", "--max-tokens", "20",
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert "mine" in done.output

    rows[70]["steps"] = "x" * 300
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = invoke("train", "modes", "--model", str(out), "--problems", str(problems), "--out", "x")
    assert "mine.jsonl:71: steps: 'x' is outside this model's alphabet" in str(done.exception)
