from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from suffice.backends.fake import FakeBackend, Script
from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request
from suffice.evals.equivalence import (
    MOST_TIMEOUTS,
    MathExtractor,
    MathVerifier,
    answer_extractor,
    exact,
    in_thread,
)
from suffice.executors.live import run
from suffice.policies.fixed import SelfConsistency


def completion(text):
    return Completion(text=text, finish_reason="stop", usage=Usage())


def test_exact():
    assert exact("a", "a")
    assert not exact("a", "b")
    assert not exact(None, None)


def test_only_math_compares_by_value():
    pytest.importorskip("math_verify")
    one, other = answer_extractor("math"), answer_extractor("math")
    assert isinstance(one, MathExtractor)
    assert one is not other  # keys belong to one request
    assert not isinstance(answer_extractor("number"), MathExtractor)
    assert answer_extractor(None) is None


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


def test_votes_gather_under_one_key_live(verifier):
    words = ("so \\boxed{0.5}", "so \\boxed{\\frac{1}{2}}", "so \\boxed{3}", "none")
    backend = FakeBackend([Script.of(text) for text in words])
    request = Request(
        messages=(Message(role="user", content="1/2?"),), model="fake", answer_format="math"
    )
    policy = SelfConsistency(samples=4)
    outcome = asyncio.run(run(policy, request, backend, extract=MathExtractor(in_thread(verifier))))
    assert sorted(votes for _, votes in outcome.votes) == [1, 2]
    assert outcome.confidence == pytest.approx(2 / 3)


@pytest.mark.slow
def test_a_hostile_expression_is_killed_at_the_limit():
    pytest.importorskip("math_verify")
    with MathVerifier(limit_s=0.5) as verifier:
        assert not verifier.equal("9^{9^{9^9}}", "3")
        assert verifier.timeouts >= 1
        verifier.limit_s = 60.0
        assert verifier.equal("2", "2.0")  # a fresh worker


@pytest.mark.slow
def test_a_hostile_request_holds_the_worker_up_for_two_limits_at_most():
    pytest.importorskip("math_verify")

    async def keys(extract):
        # Each is a number that no time suffices for, and none equals another as text.
        towers = ("9^{9^{9^%d}}" % n for n in range(3, 15))  # noqa: UP031 - braces
        return [await extract(completion(f"\\boxed{{{tower}}}")) for tower in towers]

    with MathVerifier(limit_s=0.5) as verifier:
        found = asyncio.run(keys(MathExtractor(in_thread(verifier))))
        assert verifier.timeouts == MOST_TIMEOUTS
        assert len(set(found)) == 12
        assert asyncio.run(
            keys(MathExtractor(in_thread(verifier)))
        )  # the next request has its own two
        assert verifier.timeouts == 2 * MOST_TIMEOUTS


def test_a_script_needs_no_main_guard(tmp_path):
    pytest.importorskip("math_verify")
    script = tmp_path / "script.py"
    script.write_text(
        "from suffice.evals.equivalence import MathVerifier\n"
        "print(MathVerifier().equal('x+1', '1+x'))\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert said.stdout == "True\n", said.stderr
