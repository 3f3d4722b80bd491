"""Tests of claims are run, replace their result whole or not at all, and grow old."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from suffice.core.errors import InputError, MeasurementError
from suffice.recipes.evidence.freshness import code_hash, freshness, read_record, write_record
from suffice.recipes.evidence.history import adopted
from suffice.recipes.evidence.registry import read_registry
from suffice.recipes.evidence.run import Ran, chosen, run
from tests.recipes.evidence.registries import make


def ran(root: Path) -> list[Ran]:
    registry = read_registry(root)
    ticks = count(step=2.0)
    return list(run(registry, chosen(registry, [], fast=True), clock=lambda: next(ticks)))


def age(root: Path) -> str:
    return freshness(root, "three", read_registry(root).claims["three"]).word


def test_a_test_is_run_and_its_result_kept(tmp_path: Path) -> None:
    root = make(tmp_path)
    (only,) = ran(root)
    assert (only.before.word, only.after.word, only.seconds) == ("not tested", "verified", 2.0)
    assert json.loads((root / "results" / "three.json").read_text())["count"]["n"] == 7
    made = read_record(root, "three")
    assert made is not None
    assert made.seconds == 2.0
    assert age(root) == "current"


def test_results_grow_old_with_code_data_and_command(tmp_path: Path) -> None:
    root = make(tmp_path)
    ran(root)
    code = (root / "count.py").read_text()
    (root / "count.py").write_text('"""Other words."""\n# and a comment\n' + code + "\n\n")
    assert age(root) == "current", "words, comments and blank lines do nothing"
    (root / "count.py").write_text(code.replace("0.5", "0.6"))
    assert age(root) == "stale: count.py"
    (root / "count.py").write_text(code)
    (root / "given.txt").write_text("4")
    assert age(root) == "stale: given.txt"
    (root / "given.txt").write_text("3")
    (root / "results" / "three.json").write_text('{"count": [9, 8, 10]}')
    assert age(root) == "stale: results/three.json"


def test_without_a_record_nothing_is_known(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "results").mkdir()
    (root / "results" / "three.json").write_text('{"count": [3, 2.5, 3.5]}')
    assert age(root) == "no record"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("python -c 'raise SystemExit(\"no luck\")'", "exit code 1: no luck"),
        ("python -c 'print(1, 2)'", "is no JSON"),
        ("no-such-program OUT", "there is no program"),
        ("python -c 'pass' OUT", "wrote no result"),
    ],
)
def test_a_test_that_fails_leaves_the_old_result(tmp_path: Path, command: str, says: str) -> None:
    root = make(tmp_path, command=command.replace('"', '\\"'))
    (root / "results").mkdir()
    (root / "results" / "three.json").write_text('{"count": [3, 2.5, 3.5]}')
    with pytest.raises(MeasurementError, match=says):
        ran(root)
    assert json.loads((root / "results" / "three.json").read_text()) == {"count": [3, 2.5, 3.5]}
    assert read_record(root, "three") is None


def test_a_result_without_the_figures_is_not_kept(tmp_path: Path) -> None:
    root = make(tmp_path, command="python -c 'print(123)'")
    with pytest.raises(InputError, match="nothing at count"):
        ran(root)
    assert not (root / "results" / "three.json").exists()


def test_standard_output_is_a_result_too(tmp_path: Path) -> None:
    root = make(tmp_path, command='python -c \'print(\\"{\\\\\\"count\\\\\\": [1, 0, 1.5]}\\")\'')
    (only,) = ran(root)
    assert only.after.word == "falsified"


def test_what_can_be_chosen(tmp_path: Path) -> None:
    registry = read_registry(make(tmp_path))
    assert chosen(registry, ["three"], fast=False) == ["three"]
    with pytest.raises(InputError, match="not both"):
        chosen(registry, ["three"], fast=True)
    with pytest.raises(InputError, match="not both"):
        chosen(registry, [], fast=False)


def test_slow_tests_are_made_by_hand(tmp_path: Path) -> None:
    root = make(tmp_path)
    path = root / "data" / "evidence" / "claims" / "three.toml"
    path.write_text(path.read_text().replace("fast = true", "fast = false"))
    with pytest.raises(InputError, match=r"by hand: python count\.py OUT"):
        chosen(read_registry(root), ["three"], fast=False)


def test_hashes_see_code_alone() -> None:
    plain = b"def f(x):\n    return x + 1\n"
    words = b'"""A page."""\n\nimport os\n\n\n'
    worded = words + b'def f(x):  # adds\n    """One more."""\n\n    return x + 1\n'
    assert code_hash(plain, "a.py") == code_hash(worded, "a.py")
    assert code_hash(plain, "a.py") != code_hash(plain.replace(b"1", b"2"), "a.py")
    assert code_hash(b"x # 1", "a.txt") != code_hash(b"x # 2", "a.txt")
    text = b'x = "# no comment"\n'
    assert code_hash(text, "a.py") != code_hash(b'x = "# a comment"\n', "a.py")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_records_come_from_the_history_where_there_is_one(tmp_path: Path) -> None:
    root = make(tmp_path)

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=root, check=True, capture_output=True,
        )  # fmt: skip

    (root / "results").mkdir()
    (root / "results" / "three.json").write_text('{"count": [3, 2.5, 3.5]}')
    claim = read_registry(root).claims["three"]
    git("init", "-q")
    with pytest.raises(InputError, match="differs from what is committed"):
        adopted(root, claim)
    (root / "count.py").rename(root / "old_name.py")
    git("add", "-A")
    git("commit", "-qm", "a")
    git("mv", "old_name.py", "count.py")
    git("commit", "-qm", "b")
    write_record(root, "three", adopted(root, claim))
    assert age(root) == "current", "a file that was renamed is the same code"
    (root / "count.py").write_text("changed = 1\n")
    assert age(root) == "stale: count.py"
