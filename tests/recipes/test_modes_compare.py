"""Rules that choose between two modes: against sums by hand, on recordings, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError, UnknownName
from suffice.evals.traces.files import write_traces
from suffice.evals.traces.memory import set_of
from suffice.evals.traces.trace_set import Question, Trace, messages_json
from suffice.recipes.modes.compare import UNSURE, Asked, Drafts, compare, gains, parts
from suffice.recipes.modes.recorded import compare_recorded

RNG = np.random.default_rng(0)
PRICE = 0.01


def questions(count: int = 60) -> list[Asked]:
    """Every third is easy: right at once. Thinking is always right, at 20 tokens over 2."""
    found = []
    for n in range(count):
        easy = n % 3 == 0
        found.append(
            Asked(
                cell=("sum", 1 + easy), prompt=f"{n % 10}+{n // 10}", short_right=float(easy),
                short_tokens=2.0, think_right=1.0, think_tokens=20.0,
                short_surprise=(0.1 if easy else 2.0) + 0.01 * float(RNG.random()),
                drafts=Drafts(agree=easy, right=float(easy), tokens=4.0),
            )
        )  # fmt: skip
    return found


def by_name(found):
    return {rule.rule: rule for rule in found.rules}


def test_every_rule_is_the_sum_by_hand() -> None:
    asked = questions()
    gain = gains(asked, PRICE)
    assert set(np.round(gain, 6)) == {-0.18, 0.82}
    knows = np.where(gain > 0, 3.0, -3.0)
    found = compare(asked, token_price=PRICE, scores={"gate": knows})
    rules = by_name(found)
    assert (rules["always-short"].right.mean, rules["always-short"].tokens.mean) == (
        pytest.approx(1 / 3), pytest.approx(2.0),
    )  # fmt: skip
    assert rules["gate"].right.mean == pytest.approx(1.0)
    assert rules["gate"].tokens.mean == pytest.approx((2 + 2 * 20) / 3)
    assert rules["gate"].token_share.mean == pytest.approx((2 + 2 * 20) / 3 / 20)
    assert rules["gate"].leads_by is None
    assert rules["best of both, known afterwards"].leads_by.mean == pytest.approx(0.0)
    assert rules["always-think"].leads_by.mean == pytest.approx(0.18 / 3)
    # Two drafts are paid always, a thought where they differ.
    assert rules["two short drafts agree"].tokens.mean == pytest.approx(4 + 20 * 2 / 3)
    # Surprise tells all, but the short answer is paid for first.
    assert rules[UNSURE].right.mean == pytest.approx(1.0)
    assert rules[UNSURE].tokens.mean == pytest.approx(2 + 20 * 2 / 3)
    assert found.auroc_at_equal_length["gate"].mean == pytest.approx(1.0)
    assert found.auroc_at_equal_length["short answer's surprise"].mean == pytest.approx(1.0)
    cells = {(c.task, c.difficulty): c for c in found.cells}
    assert cells["sum", 2].short_right.mean == 1.0
    assert cells["sum", 1].questions == 40


def test_a_rule_is_not_fitted_on_the_questions_it_chooses_for() -> None:
    # A surprise that is noise: the threshold cannot be better than the best of the two modes.
    asked = [
        Asked(
            cell=("t", 1), prompt="same", short_right=float(RNG.random() < 0.5), short_tokens=1.0,
            think_right=float(RNG.random() < 0.5), think_tokens=1.0,
            short_surprise=float(RNG.random()),
        )
        for _ in range(400)
    ]  # fmt: skip
    rules = by_name(compare(asked, token_price=0.0))
    assert abs(rules[UNSURE].right.mean - 0.5) < 0.08
    assert rules["best of both, known afterwards"].right.mean > 0.68
    assert sorted(np.bincount(parts(22).astype(int))) == [4, 4, 4, 5, 5]
    with pytest.raises(InputError, match="9 questions are too few"):
        parts(9)


def recording() -> list[Trace]:
    found = []
    for n in range(20):
        asked = Question(
            dataset="d", name=f"q{n}", messages_json=messages_json(f"sum {n}"), reference="1",
            answer_format="number",
        )  # fmt: skip
        easy = n % 2 == 0
        for mode, samples, tokens in (("direct", 2, 3), ("think", 1, 30), ("think:16", 1, 16)):
            for sample in range(samples):
                right = mode != "direct" or easy
                found.append(
                    Trace(
                        question=asked, model="m", mode=mode, sample=sample,
                        completion_tokens=tokens, correct=right,
                        answer="1" if right else str(5 + sample),
                        tokens=("1",) * tokens,
                        logprobs=np.full(tokens, -0.1 if easy else -1.0, dtype=np.float16),
                    )
                )  # fmt: skip
    return found


def test_a_recording_of_both_modes_and_a_budget() -> None:
    found = compare_recorded(set_of(recording()), short="direct", think="think", token_price=0.001)
    rules = by_name(found.comparison)
    assert found.left_out == 0
    assert rules["always-short"].right.mean == pytest.approx(0.5)
    assert rules["two short drafts agree"].tokens.mean == pytest.approx(6 + 30 / 2)
    assert rules["m/think:16"].tokens.mean == pytest.approx(16.0)
    assert rules["m/think:16"].thinks is None
    assert rules[UNSURE].right.mean == pytest.approx(1.0)
    assert found.comparison.lead is None
    # A question without a verdict in one mode is left out and counted.
    some = [t for t in recording() if not (t.question.name == "q3" and t.mode == "think")]
    fewer = compare_recorded(set_of(some), short="m/direct", think="m/think", token_price=0.0)
    assert (fewer.left_out, fewer.comparison.questions) == (1, 19)
    with pytest.raises(UnknownName, match="quick"):
        compare_recorded(set_of(some), short="quick", think="think", token_price=0.0)
    with pytest.raises(InputError, match="both name m/think"):
        compare_recorded(set_of(some), short="think", think="m/think", token_price=0.0)


def test_the_verb_reads_a_recording_and_refuses_half_of_its_options(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "both.parquet"
    write_traces(file, recording())
    asked = ["eval", "modes", "--recording", str(file), "--out", str(tmp_path / "report")]
    done = CliRunner().invoke(app, [*asked, "--token-price", "0.001"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "two short drafts agree" in done.output
    found = json.loads((tmp_path / "report" / "modes.json").read_text())
    assert (found["questions"], found["left_out"]) == (20, 0)
    for more, said in (
        ([], "--recording needs --token-price"),
        (["--token-price", "0.1", "--gamma", "0.5"], "keep one"),
        (["--token-price", "0.1", "--model", "nano"], "one of them"),
    ):
        failed = CliRunner().invoke(app, [*asked, *more])
        assert isinstance(failed.exception, InputError)
        assert said in str(failed.exception)


def test_the_committed_answers_give_the_committed_table() -> None:
    """All rules but the gate follow from the answers of SmolLM2-135M that are kept."""
    folder = Path(__file__).parents[2] / "results" / "modes" / "smollm2"
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    about = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    asked = [
        Asked(
            cell=(q["task"], q["difficulty"]), prompt=q["prompt"],
            short_right=float(r["short"]["right"]), short_tokens=r["short"]["tokens"],
            think_right=float(r["think"]["right"]), think_tokens=r["think"]["tokens"],
            short_surprise=r["surprise"],
            drafts=Drafts(
                agree=r["drafts"][0]["answer"] is not None
                and r["drafts"][0]["answer"] == r["drafts"][1]["answer"],
                right=float(r["drafts"][0]["right"]),
                tokens=r["drafts"][0]["tokens"] + r["drafts"][1]["tokens"],
            ),
        )
        for q, r in zip(about, rows, strict=True)
    ]  # fmt: skip
    kept = json.loads((folder / "modes.json").read_text())["comparison"]
    found = by_name(compare(asked, token_price=kept["token_price"]))
    committed = {rule["rule"]: rule for rule in kept["rules"]}
    assert set(found) == set(committed) - {"gate"}
    for name, rule in found.items():
        assert rule.right.mean == pytest.approx(committed[name]["right"]["mean"]), name
        assert rule.reward.mean == pytest.approx(committed[name]["reward"]["mean"]), name
        assert rule.right.low == pytest.approx(committed[name]["right"]["low"]), name
