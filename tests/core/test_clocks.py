"""No test asserts how long something takes: machines are shared. Steps are counted instead.

A wait may have an end (`assert time.monotonic() < until`): that is no claim about speed.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}


def reads_a_clock(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr=name)):
            return name in CLOCKS
    return False


def differences(tree: ast.AST) -> list[int]:
    """Lines that subtract a time from a clock: the beginning of every stopwatch."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and (reads_a_clock(node.left) or reads_a_clock(node.right))
    ]


def test_no_test_has_a_stopwatch() -> None:
    found = {
        f"{path.relative_to(TESTS)}:{line}"
        for path in TESTS.rglob("*.py")
        for line in differences(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("assert time.monotonic() - began < 3", True),
        ("took = time.perf_counter() - began", True),
        ("left = until - time.process_time()", True),
        ("assert time.monotonic() < until", False),
        ("until = time.monotonic() + 5", False),
    ],
)
def test_the_check_knows_a_stopwatch(text: str, has: bool) -> None:
    assert bool(differences(ast.parse(text))) == has
