"""Short answers sampled against one thought: votes, verifier and costs by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from suffice.recipes.modes.shape import nano_shape

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "benchmarks" / "modes" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


catch_up, seeds = load("catch_up"), load("seeds")


def answers(*shares: float, answer: int = 0) -> object:
    return catch_up.Read(
        answers=np.array(shares), answer=answer, ends=1.0, think_right=True, think_tokens=7,
        prompt_tokens=4,
    )  # fmt: skip


def test_a_vote_of_three_is_the_binomial() -> None:
    rng = np.random.default_rng(0)
    # right with .6: two or three of three; 200 draws a call, so a call is uncertain by .034
    found = np.mean([catch_up.vote_right(answers(0.6, 0.4), 3, rng) for _ in range(200)])
    assert found == pytest.approx(0.6**3 + 3 * 0.6**2 * 0.4, abs=0.01)


def test_ties_are_broken_by_lot() -> None:
    rng = np.random.default_rng(0)
    found = np.mean([catch_up.vote_right(answers(0.5, 0.5), 2, rng) for _ in range(200)])
    assert found == pytest.approx(0.5, abs=0.01)


def test_a_vote_amplifies_the_likeliest_answer_and_a_verifier_any() -> None:
    rng = np.random.default_rng(0)
    wrong = answers(0.3, 0.7)
    assert catch_up.vote_right(wrong, 256, rng) < 0.01
    assert catch_up.verifier_right(wrong, 4) == pytest.approx(1 - 0.7**4)


def test_the_prompt_is_paid_once_and_the_last_token_never_fed() -> None:
    shape = nano_shape(32, parameters=2.2e5, layers=2).shape
    one, two, three = (catch_up.response_flops(shape, 6, 3, k) for k in (1, 2, 3))
    assert three - two == pytest.approx(two - one)
    assert one > two - one > 0
    # two tokens of three are fed back, each at least two FLOPs a weight
    assert two - one > 2 * 2 * 2.2e5


def test_equal_cost_is_the_most_samples_that_cost_no_more() -> None:
    shape = nano_shape(32, parameters=2.2e5, layers=2).shape
    found = catch_up.cell(
        shape, [answers(0.1, 0.9)] * 3, [answers(0.1, 0.9)] * 3, np.random.default_rng(0)
    )
    assert found["at_equal_cost"]["tokens"]["samples"] == 2  # 2 x 3 <= 7 < 3 x 3
    by_flops = found["at_equal_cost"]["flops"]["samples"]
    think = found["think"]["flops"]
    assert catch_up.response_flops(shape, 4, 3, by_flops) <= think
    assert catch_up.response_flops(shape, 4, 3, by_flops + 1) > think


def test_the_spread_over_three_seeds_is_students() -> None:
    found = seeds.over_seeds([0.90, 0.95, 1.0])
    assert found["mean"] == pytest.approx(0.95)
    assert found["low"] == pytest.approx(0.95 - 4.303 * 0.05 / 3**0.5)
    assert found["high"] == 1.0  # cut


def test_one_seed_has_no_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from suffice.core.errors import InputError

    (tmp_path / "record.json").write_text('{"evaluation": {}}')
    monkeypatch.setattr("sys.argv", ["seeds.py", str(tmp_path / "record.json")])
    with pytest.raises(InputError, match="one has no spread"):
        seeds.main()
