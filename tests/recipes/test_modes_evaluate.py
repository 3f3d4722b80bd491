"""Routers compared on the same answers: hand-checkable numbers, intervals, the optimum."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.recipes.modes.costs import cost_ratio, gamma_from_machine, typical_lengths
from suffice.recipes.modes.evaluate import Answered, evaluate_modes, wilson
from suffice.recipes.modes.shape import nano_shape
from suffice.tasks.puzzles import Mixture
from suffice.training.modes.rewards import ModePrice, TokenCost

EASY, HARD = ("chain", 1), ("chain", 5)


def answers(
    p_short_hard: float = 0.1, *, logits: tuple[float, float] = (-6.0, 6.0)
) -> list[Answered]:
    """100 easy problems that short answers, 50 hard ones that it mostly does not."""
    rng = random.Random(0)
    easy = Answered(
        cell=EASY, think_logit=logits[0], short_right=True, short_tokens=3,
        think_right=True, think_tokens=7,
    )  # fmt: skip
    hard = [
        Answered(
            cell=HARD, think_logit=logits[1], short_right=rng.random() < p_short_hard,
            short_tokens=3, think_right=True, think_tokens=19,
        )
        for _ in range(50)
    ]  # fmt: skip
    return [easy] * 100 + hard


def test_routers_on_hand_made_answers() -> None:
    found = evaluate_modes(answers(0.0), ModePrice(gamma=0.5))
    by_name = {r.router: r for r in found.routers}
    # Cells weigh the same though one has twice the problems: (7 + 19) / 2 tokens.
    assert by_name["always-think"].tokens.mean == pytest.approx(13.0)
    assert by_name["always-short"].accuracy.mean == pytest.approx(0.5)
    learned = by_name["learned"]
    assert learned.accuracy.mean == pytest.approx(1.0)
    assert learned.tokens.mean == pytest.approx((3 + 19) / 2)
    assert learned.token_share.mean == pytest.approx(11 / 13)
    assert learned.accuracy_difference.mean == pytest.approx(0.0)
    assert learned.think_share == pytest.approx(0.5)
    assert learned.reward.mean == pytest.approx((1.0 + 0.5) / 2)
    assert by_name["analytic optimum"].reward.mean == pytest.approx(learned.reward.mean)


def test_the_optimum_follows_the_price() -> None:
    problems = answers(0.85)
    rate = sum(a.short_right for a in problems if a.cell == HARD) / 50
    dear = evaluate_modes(problems, ModePrice(gamma=2 * (1 - rate) + 0.2))
    cheap = evaluate_modes(problems, ModePrice(gamma=2 * (1 - rate) - 0.2))
    assert [cell.optimum_thinks for cell in dear.cells] == [False, False]
    assert [cell.optimum_thinks for cell in cheap.cells] == [False, True]
    priced = evaluate_modes(problems, TokenCost(cost_per_token=0.02, answer_value=1.0))
    assert [cell.optimum_thinks for cell in priced.cells] == [False, False]


def test_the_bias_curve_runs_from_always_short_to_always_think() -> None:
    found = evaluate_modes(answers(0.0), ModePrice())
    tokens = [point[1] for point in found.bias_curve]
    assert tokens == sorted(tokens)
    assert tokens[0] == pytest.approx(3.0)
    assert tokens[-1] == pytest.approx(13.0)


def test_saving_grows_with_the_easy_share() -> None:
    found = evaluate_modes(answers(0.0), ModePrice())
    shares = [point[0] for point in found.saving_by_easy_share]
    savings = [point[1] for point in found.saving_by_easy_share]
    assert shares == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert savings == sorted(savings)
    assert savings[0] == pytest.approx(0.0)
    assert savings[-1] == pytest.approx(1 - 3 / 7)
    assert all(point[2] == pytest.approx(0.0) for point in found.saving_by_easy_share)


def test_a_sampled_choice_lies_between_the_modes() -> None:
    found = evaluate_modes(answers(0.0, logits=(0.0, 0.0)), ModePrice())
    sampled = next(r for r in found.routers if r.router == "learned, sampled")
    assert sampled.tokens.mean == pytest.approx((3 + 13) / 2)
    assert sampled.think_share == pytest.approx(0.5)


def test_intervals_hold_the_mean_and_shrink_with_more_problems() -> None:
    def width(repeats: int) -> float:
        found = evaluate_modes(answers(0.5) * repeats, ModePrice())
        accuracy = next(r for r in found.routers if r.router == "always-short").accuracy
        assert accuracy.low <= accuracy.mean <= accuracy.high
        return accuracy.high - accuracy.low

    assert width(1) > 1.6 * width(4) > 0


def test_wilson_is_the_textbook_interval() -> None:
    # 45 of 50: Wilson's score interval solves (p - .9)² = z² p (1 - p) / 50
    found = wilson(45, 50)
    for edge in (found.low, found.high):
        assert (edge - 0.9) ** 2 == pytest.approx(1.959964**2 * edge * (1 - edge) / 50)
    assert wilson(50, 50).high == pytest.approx(1.0)
    assert wilson(50, 50).low < 0.95


def test_the_result_is_json() -> None:
    json.dumps(asdict(evaluate_modes(answers(), ModePrice())), allow_nan=False)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(InputError, match="no problem to evaluate on"):
        evaluate_modes([], ModePrice())


def test_the_shape_is_the_designs_choice_and_loads_as_a_llama() -> None:
    from suffice.architecture.hf_config import config_from_shape

    chosen = nano_shape(32, parameters=2.2e5, layers=2)
    assert config_from_shape(chosen.shape)["architectures"] == ["LlamaForCausalLM"]
    assert 2e5 <= chosen.parameters <= 5e5
    assert any("outside" in note for note in chosen.notes)  # it says that the law is out of range
    assert str(chosen.shape) == "llama: hidden 96, MLP 288, 2 layers, 3/1 heads of 32"


@pytest.mark.parametrize(
    ("words", "parameters", "layers"), [(47, 5e6, 6), (64, 5e6, 6), (47, 1e6, 4)]
)
def test_the_shape_has_the_size_that_was_asked(words: int, parameters: float, layers: int) -> None:
    """One pick of the design may be its reference: a seventh of five million weights."""
    assert nano_shape(words, parameters=parameters, layers=layers).parameters == pytest.approx(
        parameters, rel=0.25
    )


def test_gamma_from_what_thinking_costs_on_a_machine() -> None:
    lengths = typical_lengths(Mixture())
    assert lengths["short_tokens"] == 3
    assert lengths["think_tokens"] == 14  # 3n + 4 at n = 3.5, rounded down to even
    shape = nano_shape(32, parameters=2.2e5, layers=2).shape
    ratio = cost_ratio(shape, "cpu", **lengths)
    assert 1.0 < ratio < lengths["think_tokens"] / lengths["short_tokens"]
    assert gamma_from_machine(ratio, 20.0) == pytest.approx(2 * (ratio - 1) / 20)


def test_the_figure_draws(tmp_path: Path) -> None:
    from suffice.recipes.modes.plots import modes_figure
    from suffice.report.style import to_svg

    text = to_svg(modes_figure(evaluate_modes(answers(), ModePrice())))
    assert "p(think)" in text
    assert "always-think" in text
