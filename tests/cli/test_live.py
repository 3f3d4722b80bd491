"""`suffice live`: recorded answers as traffic, and a gateway that is asked."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Suffice

TRACES = "data/traces/two-arms.parquet"
WAYS = ("--safe", "single@large-think", "--cheap",
        "agreement:models=small-think+small-think > single@large-think")  # fmt: skip


def test_simulate_says_when_and_at_what_cost(suffice: Suffice) -> None:
    prices = ("--price", "small-think=0/1", "--price", "large-think=0/12")
    usual = ("--target", "20%", "--requests", "300", "--seeds", "10", "--json")
    found = json.loads(suffice("live", "simulate", TRACES, *WAYS, *usual, *prices).stdout)
    assert found["certified"] >= 5 and found["differ"][0] == pytest.approx(0.054, abs=0.02)
    middle, low, _ = found["shadowed_to_certificate"]
    assert 10 < low <= middle < 100
    assert 0.1 < found["cost"][0] < 1.2 and 0.0 < found["shadow_cost"][0] < 0.3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulate", TRACES, *WAYS, "--target", "70%"), "target must lie"),
        (("simulate", TRACES, *WAYS, "--mix", "chain"), "write NAME=PART"),
        (("status", "--url", "http://127.0.0.1:9"), "no gateway answers"),
    ],
)
def test_errors_are_one_line(suffice: Suffice, words: tuple[str, ...], said: str) -> None:
    found = suffice("live", *words)
    assert found.returncode == 2 and said in found.stderr
    assert found.stderr.count("\n") == 1
