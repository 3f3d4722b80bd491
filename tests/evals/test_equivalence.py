from __future__ import annotations

import time

import pytest

from suffice.core.errors import InputError
from suffice.evals.equivalence import MathVerifier, exact


def test_exact():
    assert exact("a", "a")
    assert not exact("a", "b")
    assert not exact(None, None)


def test_a_limit_is_positive():
    with pytest.raises(InputError, match="positive"):
        MathVerifier(limit_s=0.0)


@pytest.fixture(scope="module")
def verifier():
    pytest.importorskip("math_verify")
    with MathVerifier(limit_s=5.0) as running:
        yield running


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\frac{1}{2}", "0.5", True),
        ("x+1", "1+x", True),
        (r"\sqrt{4}", "2", True),
        ("(1,2)", "(1, 2)", True),
        ("3", "4", False),
        ("3", None, False),
        ("x" * 1000, "y", False),
        ("{{{", "}}}", False),
    ],
)
def test_equal_in_value(verifier, a, b, same):
    assert verifier.equal(a, b) is same


def test_keys_gather_equal_answers(verifier):
    assert verifier.key("0.5", [r"\frac{1}{2}", "3"]) == r"\frac{1}{2}"
    assert verifier.key("7", ["3"]) == "7"
    assert verifier.key(None, ["3"]) is None


@pytest.mark.slow
def test_a_hostile_expression_is_killed_at_the_limit():
    pytest.importorskip("math_verify")
    with MathVerifier(limit_s=0.5) as verifier:
        assert verifier.equal("1", "1.0") in (True, False)  # the worker has started
        began = time.perf_counter()
        assert not verifier.equal("9^{9^{9^9}}", "3")
        assert time.perf_counter() - began < 5.0
        assert verifier.timeouts >= 1
        verifier.limit_s = 20.0
        assert verifier.equal("2", "2.0")  # a fresh worker
