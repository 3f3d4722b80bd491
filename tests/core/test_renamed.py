"""Who imports by an old name is told the new one, and CHANGELOG lists the same names."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RENAMED = dict(line.split() for line in (ROOT / "src/suffice/renamed.txt").read_text().splitlines())
# Imports that README, docs and examples showed before modules got today's names.
SHOWN_BEFORE = {
    "suffice.evals.trace_files": "suffice.evals.traces.files",
    "suffice.evals.routing": "suffice.evals.router_metrics",
    "suffice.policies.pool": "suffice.policies.sampling_state",
    "suffice.training.modes.tasks": "suffice.tasks.puzzles",
}


@pytest.mark.parametrize("old", SHOWN_BEFORE)
def test_an_old_import_fails_with_the_new_name(old: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"{old} is {SHOWN_BEFORE[old]} now"):
        import_module(old)


def test_a_module_inside_an_old_package_too() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"is suffice\.recipes\.tradeoff now"):
        import_module("suffice.recipes.exchange.run")


def test_what_never_was_is_not_found_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named .suffice\.nothing"):
        import_module("suffice.nothing")


@pytest.mark.parametrize("name", ["Question", "Trace", "messages_json"])
def test_names_of_a_module_that_became_a_package_still_import(name: str) -> None:
    assert getattr(import_module("suffice.evals.traces"), name) is getattr(
        import_module("suffice.evals.traces.trace_set"), name
    )


@pytest.mark.parametrize("old", RENAMED)
def test_every_new_name_is_there(old: str) -> None:
    now = RENAMED[old]
    if now.startswith("suffice."):
        assert find_spec(now) is not None
    else:
        assert (ROOT / now).exists()
    inside = ROOT / "src" / old.replace(".", "/")
    assert not inside.with_suffix(".py").exists()


def test_changelog_lists_the_same_names() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| `([a-z_.]+)` \|$", _changelog(), re.M)
    modules = {
        f"suffice.{old}": f"suffice.{new}"
        for old, new in rows
        if (ROOT / "src/suffice" / (new.replace(".", "/") + ".py")).exists() and "." in old
    }
    missing = {old for old in modules if RENAMED.get(old) != modules[old]}
    assert missing <= {"suffice.evals.traces"}  # a package now, whose names still import
    assert len(modules) > 50


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
