"""What a docstring says of options is what `--help` shows."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import as_command
from suffice.cli.main import app


def size(
    model: Annotated[str, typer.Argument()],
    gpus: int = 1,
    most: Annotated[int | None, typer.Option("--max", min=1)] = None,
    as_json: Flag = False,
) -> None:
    """How fast a model is.

    Example: suffice size nano

    Options:
        model: Its name: or
            its folder.
        as_json: For machines.
    Limits:
        most: No more
    """
    typer.echo(f"{model} {gpus} {most} {as_json}")


def parameters() -> dict[str, object]:
    return {each.name: each for each in as_command(size, "size").params}


def test_help_name_panel_and_limits_reach_the_command() -> None:
    found = parameters()
    assert found["model"].help == "Its name: or its folder."
    assert (found["most"].help, found["most"].rich_help_panel) == ("No more", "Limits")
    assert found["most"].opts == ["--max"]
    assert (found["as_json"].opts, found["as_json"].secondary_opts) == (["--as-json"], [])
    assert found["gpus"].help is None
    assert as_command(size, "size").help == "How fast a model is.\n\nExample: suffice size nano"


def test_the_command_runs_with_its_options() -> None:
    own = typer.Typer()
    parameters()
    own.command()(size)
    assert CliRunner().invoke(own, ["nano", "--max", "3", "--as-json"]).output == "nano 1 3 True\n"
    assert CliRunner().invoke(own, ["nano", "--max", "0"]).exit_code == 2


def test_an_option_that_the_verb_has_not_is_refused() -> None:
    def verb(gpus: int = 1) -> None:
        """Nothing.

        Options:
            gpu: How many.
        """

    with pytest.raises(KeyError, match="gpu"):
        as_command(verb, "verb")


def test_every_option_of_every_verb_is_explained() -> None:
    command = typer.main.get_command(app)
    command.load_all()

    def bare(name: str, at: object) -> list[str]:
        own = [
            f"{name} {each.name}"
            for each in getattr(at, "params", ())
            if not each.hidden and not each.help
        ]
        inner = getattr(at, "commands", {})
        return own + [one for sub in inner for one in bare(f"{name} {sub}", inner[sub])]

    assert bare("suffice", command) == []


def test_the_page_of_commands_is_what_help_says() -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "write_commands.py"
    made = runpy.run_path(str(script))
    written = made["PAGE"].read_text(encoding="utf-8")
    assert made["page"]() == written, "run python scripts/write_commands.py"
