"""Figures of what was asked, against arithmetic by hand; and one run through a real gateway."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from suffice.backends.nano.backend import shipped_folder
from suffice.compose.asking import Asked
from suffice.compose.config import Arm, ComposeConfig
from suffice.compose.output import as_json, header_of, lines_of, rows_of, write_compose
from suffice.compose.run import compared, compose
from suffice.core.errors import InputError
from suffice.evals.statistics.paired import Pairs, drop_upper_bound
from suffice.tasks.operations import PERMUTATIONS

ARMS = (
    Arm(name="base", role="baseline", policy="self_consistency:samples=4@nano-think"),
    Arm(name="half", role="lever", policy="self_consistency:samples=2@nano-think"),
    Arm(name="short", role="lever", policy="self_consistency:samples=4@nano-short"),
    Arm(name="both", role="together", policy="self_consistency:samples=2@nano-short"),
    Arm(name="one", role="reference", policy="single@nano-think"),
)
FOLDER = str(shipped_folder())


def config(questions: str = "-", **more: object) -> ComposeConfig:
    return ComposeConfig(questions=questions, arms=ARMS, models={"nano": FOLDER}, **more)  # type: ignore[arg-type]


def asked(costs: list[float], right: list[bool]) -> list[Asked]:
    return [
        Asked(right=r, tokens=int(10 * c), cpu_s=c, model_cpu_s=c / 2, wall_s=2 * c)
        for c, r in zip(costs, right, strict=True)
    ]


def test_ratios_are_those_of_the_cost_of_a_right_answer() -> None:
    right = [True] * 15 + [False] * 5
    columns = [asked([c] * 20, right) for c in (8.0, 4.0, 2.0, 1.0)]
    columns.append(asked([2.0] * 20, [True] * 6 + [False] * 14))
    found = compared(config(), columns)
    assert [arm.times_cheaper["cpu_s"].estimate for arm in found.arms] == pytest.approx(
        [1.0, 2.0, 4.0, 8.0, (8 / 0.75) / (2 / 0.3)]
    )
    assert found.product["cpu_s"].estimate == pytest.approx(8.0)
    assert found.whole_over_product["cpu_s"].estimate == pytest.approx(1.0)
    assert found.left_to_goal("cpu_s") == pytest.approx(10 / 8)
    assert found.over_reference["one"]["cpu_s"].estimate == pytest.approx((2 / 0.3) / (1 / 0.75))
    # Costs and answers are the same for every question: all resamples agree on ratios.
    assert found.arms[3].times_cheaper["cpu_s"].low == pytest.approx(8.0)


def test_intervals_resample_questions_of_all_arms_together() -> None:
    cost = np.random.default_rng(0).uniform(1, 9, 60)
    right = [True] * 60
    columns = [asked(list(k * cost), right) for k in (4.0, 2.0, 2.0, 1.0, 1.0)]
    found = compared(config(), columns)
    paired = found.together.times_cheaper["cpu_s"]
    assert (paired.low, paired.high) == pytest.approx((4.0, 4.0))  # noise cancels in pairs
    alone = found.arms[0].cost_per_right["cpu_s"]
    assert alone.low < alone.estimate < alone.high


def test_bounds_of_the_drop_hold_together() -> None:
    base = [True] * 190 + [False] * 10
    worse = [True] * 180 + [False] * 20
    columns = [asked([1.0] * 200, r) for r in (base, base, base, worse, base)]
    found = compared(config(max_drop=0.05), columns)
    pairs = Pairs(n=200, harmed=10, helped=0)
    assert found.together.drop_at_most == pytest.approx(drop_upper_bound(pairs, 1 - 0.05 / 4))
    assert found.together.certified is False
    assert found.arms[1].certified is True
    assert found.arms[0].drop_at_most is None and found.arms[0].certified is None
    assert any("not shown to lose less than 5 points" in line and "both" in line
               for line in lines_of(found))  # fmt: skip


def test_an_arm_that_is_never_right_has_no_price() -> None:
    columns = [asked([1.0] * 5, [True] * 5) for _ in ARMS]
    columns[3] = asked([1.0] * 5, [False] * 5)
    with pytest.raises(InputError, match="'both' has none of 5 questions right"):
        compared(config(), columns)


def test_a_run_through_the_gateway(tmp_path: Path) -> None:
    """Near temperature 0 samples are all alike, so token ratios are known beforehand."""
    puzzles = {"3a": "1", "5b": "0", "7c": "0"}
    path = tmp_path / "puzzles.jsonl"
    answers = _answers(list(puzzles))
    path.write_text("".join(
        json.dumps({"prompt": prompt, "answer": answer}) + "\n"
        for prompt, answer in zip(puzzles, answers, strict=True)
    ), encoding="utf-8")  # fmt: skip
    found = compose(config(str(path), temperature=0.01, max_tokens=40))
    by_name = {arm.name: arm for arm in found.arms}
    assert by_name["base"].right.estimate == 1.0
    assert by_name["half"].times_cheaper["tokens"].estimate == pytest.approx(2.0)
    assert by_name["one"].times_cheaper["tokens"].estimate == pytest.approx(4.0)
    # Thoughts of one step and their answer have 6 tokens behind the mode, answers at once 2.
    assert by_name["short"].times_cheaper["tokens"].estimate == pytest.approx(3.0)
    assert found.whole_over_product["tokens"].estimate == pytest.approx(1.0)
    for arm in found.arms:
        assert 0 < arm.cost_per_right["model_cpu_s"].estimate < arm.cost_per_right["cpu_s"].estimate
    assert len(rows_of(found)[0]) == len(header_of(found))
    written = write_compose(found, tmp_path / "out")
    assert [p.name for p in written] == ["compose.json", "compose.png"]
    told = json.loads(written[0].read_text(encoding="utf-8"))
    assert told == as_json(found)
    assert told["arms"]["both"]["times_cheaper"]["tokens"]["n"] == 3


def test_a_question_without_an_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    path.write_text('{"prompt": "3a", "answer": "1"}\n{"prompt": "5b"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="has no answer"):
        compose(config(str(path)))


def _answers(prompts: list[str]) -> list[str]:
    return [PERMUTATIONS[prompt[1]][int(prompt[0])] for prompt in prompts]
