"""Criteria set before the first run: met, missed and not yet, by figures worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from suffice.architecture.counts import non_embedding_parameters
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import ConditionalLaw
from suffice.core.errors import InputError
from suffice.recipes.ladder.compared import compare_picks
from suffice.recipes.ladder.criteria import Criteria, judge_ladder, runs_of
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import dimensions, ladder_shape, law_coordinates

FILE = Path("results/ladder/second/criteria.json")
WIDTHS = (48, 64, 80, 96)


def shape(width: int):
    return ladder_shape(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=257,
    )  # fmt: skip


def runs(width: int, purpose: str, losses: list[float]) -> list[RunRecord]:
    own = shape(width)
    return [
        RunRecord(
            run_id=f"{width} {purpose} {seed}", status="finished", purpose=purpose,
            **dimensions(own), non_embedding_parameters=200_000, total_parameters=220_000,
            **law_coordinates(own), tokens=2_000_000, steps=1, batch_tokens=1, epochs=0.1,
            seed=seed, learning_rate_factor=1.0, peak_learning_rate=1e-3, precision="fp32",
            recipe="r", data="d", loss=loss, loss_per_byte=loss, train_loss=loss,
        )
        for seed, loss in enumerate(losses)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def law() -> ConditionalLaw:
    found = load_law("our-ladder")
    assert isinstance(found, ConditionalLaw)
    return found


def predicted(law: ConditionalLaw, width: int) -> float:
    own = shape(width)
    at = {**law_coordinates(own), "width_per_layer": width / 6}
    return float(np.squeeze(law.relative_loss(**at)))


def outcomes(law: ConditionalLaw, records: list[RunRecord]) -> list[str]:
    return [each.outcome for each in judge_ladder(Criteria.load(FILE), law, records)]


def test_the_file_of_the_second_ladder_is_read_and_nothing_is_judged_yet(law):
    asked = Criteria.load(FILE)
    assert asked.held_out.shapes == 4 and asked.pick.seeds == 4
    assert outcomes(law, []) == ["not yet"] * 4
    one_seed = [r for w in WIDTHS for r in runs(w, "held-out", [2.0])]
    assert outcomes(law, one_seed)[:2] == ["not yet", "not yet"]


def test_a_law_that_is_true_meets_all_and_one_far_off_none(law):
    def store(sign: float) -> list[RunRecord]:
        records = []
        for width in WIDTHS:
            loss = 2.0 * predicted(law, width) ** sign
            records += runs(width, "held-out", [loss * 1.001, loss * 0.999])
        best = min(WIDTHS, key=lambda w: predicted(law, w))
        worst = max(WIDTHS, key=lambda w: predicted(law, w))
        for width, purpose in ((best, "pick"), (worst, "reference")):
            loss = 2.0 * predicted(law, width) ** sign
            records += runs(width, purpose, [loss * f for f in (0.999, 1.0, 1.0, 1.001)])
        return records

    assert outcomes(law, store(1.0)) == ["met"] * 4
    assert outcomes(law, store(-20.0)) == ["missed"] * 4


def test_the_pick_is_judged_by_welch(law):
    best = min(WIDTHS, key=lambda w: predicted(law, w))
    other = next(w for w in WIDTHS if w != best)
    a, b = [2.00, 2.02, 2.01, 2.03], [2.05, 2.04, 2.06, 2.02]
    records = [*runs(best, "pick", a), *runs(other, "reference", b)]
    judged = judge_ladder(Criteria.load(FILE), law, records)[2:]
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    mean = float(np.mean(b))
    assert f"[{1 + interval.low / mean:.4f}, {1 + interval.high / mean:.4f}]" in judged[0].why
    lost = [replace(r, status="diverged", loss=None) for r in records[:1]]
    assert judge_ladder(Criteria.load(FILE), law, [*records[1:], *lost])[2].outcome == "not yet"


def test_runs_of_a_held_out_shape_that_is_the_pick_count_for_both(law):
    """A run is made once: the pick's first seeds carry the purpose of the held-out shape."""
    best = min(WIDTHS, key=lambda w: predicted(law, w))
    other = next(w for w in WIDTHS if w != best)
    losses = [2.01, 2.02, 2.00, 2.03]
    held = [r for w in WIDTHS for r in runs(w, "held-out", losses[:2])]
    later = runs(best, "pick", losses)[2:]
    reference = runs(other, "reference", [2.05, 2.06, 2.04, 2.07])
    judged = judge_ladder(Criteria.load(FILE), law, [*held, *later, *reference[2:]])
    assert all(each.outcome != "not yet" for each in judged)
    (pair,) = compare_picks([*held, *later, *reference[2:]])
    assert pair.seeds == (4, 4) and pair.pick_loss == pytest.approx(2.015)
    assert judged[0].outcome == "missed" and "cannot be ordered" in judged[0].why  # all alike
    (row,) = [each for each in runs_of([*held, *later], "held-out") if len(each.losses) == 4]
    assert list(row.losses) == losses


def test_a_pick_is_compared_with_each_reference_by_welch(law):
    a, b, c = [2.00, 2.02, 2.01, 2.03], [2.05, 2.04, 2.06, 2.02], [2.03, 2.00, 2.02, 2.01]
    records = [*runs(48, "pick", a), *runs(64, "reference", b), *runs(80, "equal-reference", c)]
    shorter = [replace(r, tokens=1_000_000) for r in runs(96, "reference", b)]
    first, second = compare_picks([*records, *shorter], confidence=0.9)
    for pair, losses in ((first, b), (second, c)):
        interval = ttest_ind(a, losses, equal_var=False).confidence_interval(0.9)
        assert (pair.low, pair.high) == pytest.approx((interval.low, interval.high))
    assert first.reference["hidden_size"] == 64
    own, wider = (float(non_embedding_parameters(shape(w))) for w in (48, 64))
    assert first.parameters_percent == pytest.approx(100 * (wider / own - 1))
    wider, own = wider + 2 * 257 * 64 + 13 * 64, own + 2 * 257 * 48 + 13 * 48  # and 13 norms
    assert first.total_percent == pytest.approx(100 * (wider / own - 1))
    assert "not told apart" not in first.sentence() and "not told apart" in second.sentence()
    assert compare_picks(records[:4]) == ()


def test_a_criteria_file_with_other_fields_is_refused(tmp_path):
    values = json.loads(FILE.read_text())
    values["held_out"]["least_spearman"] = 3
    (tmp_path / "c.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"held_out\.least_spearman"):
        Criteria.load(tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps({**json.loads(FILE.read_text()), "also": 1}))
    with pytest.raises(InputError, match="also"):
        Criteria.load(tmp_path / "c.json")
