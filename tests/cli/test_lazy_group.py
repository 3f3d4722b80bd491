"""Verbs are imported when they are called: the table names what is there, and help stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from suffice.cli.lazy_group import only_help
from suffice.cli.main import app
from suffice.core.errors import MissingExtra, needs

OPTIONS_OF_ALL = """
import sys
sys.argv = ["suffice", "design", "--help"]
import typer
from suffice.cli.main import app
group = typer.main.get_command(app)
group.load_all()
named = [(name, command.name) for name, command in group.commands.items()]
assert all(name == own for name, own in named) and len(named) >= 28, named
heavy = {"numpy", "scipy", "matplotlib", "torch", "starlette"} & set(sys.modules)
assert not heavy, heavy
"""


def test_options_of_every_verb_import_nothing_that_only_a_run_needs() -> None:
    subprocess.run([sys.executable, "-c", OPTIONS_OF_ALL], check=True)


def test_listing_verbs_imports_none_of_them() -> None:
    code = (
        "import sys; from suffice.cli.main import app; from typer.testing import CliRunner; "
        "done = CliRunner().invoke(app, ['--help']); assert 'calibrate-hardware' in done.output; "
        "verbs = [m for m in sys.modules if m.startswith('suffice.cli.')]; "
        "assert {m.split('.')[2] for m in verbs} == {'documented', 'lazy_group', 'main'}, verbs"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("design --help", True),
        ("design -h", True),
        ("ladder run --help", True),
        ("design --like -h", False),  # may be the value of --like
        ("ask -- -h", False),
        ("ask --help me", False),
        ("", False),
    ],
)
def test_only_help_is_sure(words: str, expected: bool) -> None:
    assert only_help(["suffice", *words.split()], {}) is expected


def test_completion_needs_options_alone() -> None:
    assert only_help(["suffice"], {"_SUFFICE_COMPLETE": "complete_bash"})
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['suffice']; import suffice.__main__"],
        env={"_SUFFICE_COMPLETE": "complete_bash", "_TYPER_COMPLETE_ARGS": "suffice cal",
             "COMP_WORDS": "suffice cal", "COMP_CWORD": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["calibrate", "calibrate-hardware"], done


def test_a_near_name_is_proposed() -> None:
    done = CliRunner().invoke(app, ["desing"])
    assert done.exit_code == 2
    assert "Did you mean 'design'?" in done.output


def test_a_missing_package_names_its_extra() -> None:
    expected = r"this verb needs nothing_such: .* \(the extra serve\)"
    with pytest.raises(MissingExtra, match=expected), needs("serve", "this verb"):
        raise ModuleNotFoundError("No module named 'nothing_such.x'", name="nothing_such.x")
    with pytest.raises(ModuleNotFoundError) as caught, needs("serve", "this verb"):
        raise ModuleNotFoundError("No module named 'suffice.typo'", name="suffice.typo")
    assert not isinstance(caught.value, MissingExtra)
