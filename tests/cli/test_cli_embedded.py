"""`suffice ask` and `serve` without an upstream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.backends.nano.backend import shipped_folder
from suffice.cli.main import app
from suffice.core.errors import CorruptData, InputError, SufficeError

RUN = CliRunner()


def asked(*words: str) -> dict[str, object]:
    result = RUN.invoke(app, ["ask", "3f", "--json", "--temperature", "0", *words])
    assert result.exception is None, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_the_model_in_the_package_answers() -> None:
    assert asked()["answer"] == "7"
    assert asked("--embedded", str(shipped_folder()))["answer"] == "7"


def test_it_says_what_it_is() -> None:
    result = RUN.invoke(app, ["ask", "3f"])
    assert result.output.startswith("no upstream: suffice-nano (230,800 weights, NumPy) answers")


@pytest.mark.parametrize("verb", [["ask", "3f"], ["serve"]])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--embedded", "nano", "--upstream", "http://127.0.0.1:1"], "one or the other"),
        (["--embedded", "no-such"], "no folder: write nano, smollm2"),
    ],
)
def test_mistakes_are_told(verb: list[str], options: list[str], said: str) -> None:
    result = RUN.invoke(app, [*verb, *options])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    for path in shipped_folder().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    result = RUN.invoke(app, ["ask", "3f", "--embedded", str(tmp_path)])
    assert isinstance(result.exception, SufficeError)
    assert isinstance(result.exception, CorruptData)
    assert "differ from the hash" in str(result.exception)
