"""What calibrate says beside the certificate: baseline, limits, plain rules, remedies, tries."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError, NothingFeasible
from suffice.core.prices import Prices
from suffice.evals.statistics.binomial import lower_bound, upper_bound
from suffice.evals.traces.files import trace_set, write_traces
from suffice.evals.traces.trace_set import Question, Trace, messages_json
from suffice.policies.policy_file import read_policy_file
from suffice.recipes.calibrate.ceiling import ceiling_of
from suffice.recipes.calibrate.chains import unanimous
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.earlier_calibrations import NAME
from suffice.recipes.calibrate.output import (
    baseline_line,
    in_words,
    limit_rows,
    only_the_bound,
    plain_rows,
)
from suffice.recipes.calibrate.run import calibrate, survey
from tests.recipes.known_traces import make

PRICES = Prices.parse(["small=0/1", "large=0/10"])


def run(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["calibrate", *map(str, words)])
    return found.exit_code, found.output + str(found.exception or "")


def singles(n: int, harmed: int, helped: int = 0):
    """One sample of each model on n questions, of which so many differ."""
    traces = []
    for i in range(n):
        question = Question(
            dataset="made", name=str(i), messages_json=messages_json(f"Question {i}, please?")
        )
        for model, right in (
            ("small", i >= harmed),
            ("large", not harmed <= i < harmed + helped),
        ):
            traces.append(
                Trace(question=question, model=model, sample=0, answer=f"{right}", correct=right,
                      completion_tokens=10)
            )  # fmt: skip
    return trace_set(traces)


ALONE = {"baseline": "single@large", "options": ("single@small",), "prices": PRICES}


def test_a_refusal_says_how_many_questions_it_takes_at_the_differences_that_were_seen() -> None:
    """Four lost of 200 do not show 3 points; with as many in a hundred the told number does."""
    config = CalibrateConfig(max_drop=0.03, fitted=False, **ALONE)
    found = survey(singles(200, 4), config)
    assert found.advice.kind == "not shown"
    assert "loses 4 and gains 0 of 200" in found.refusal
    (more,) = [each for each in found.advice.remedies if each.lever == "questions"]
    assert f"{more.questions} questions would show it" in more.said
    enough = more.questions + 10
    assert survey(singles(enough, round(0.02 * enough)), config).file is not None
    short = round(0.85 * more.questions)
    assert survey(singles(short, round(0.02 * short)), config).file is None
    with pytest.raises(NothingFeasible, match=f"{more.questions} questions would show it"):
        calibrate(singles(200, 4), config)


def test_no_number_of_questions_is_promised_where_the_loss_is_over_the_limit() -> None:
    found = survey(singles(300, 30), CalibrateConfig(max_drop=0.03, fitted=False, **ALONE))
    assert found.advice.kind == "not shown"
    levers = [each.lever for each in found.advice.remedies]
    assert "questions" not in levers


def test_a_looser_limit_that_is_told_is_shown() -> None:
    traces = singles(300, 9)
    found = survey(traces, CalibrateConfig(max_drop=0.03, fitted=False, **ALONE))
    (looser,) = [each for each in found.advice.remedies if each.lever == "limit"]
    limit = float(looser.said.split("--max-drop ")[1].split("%")[0]) / 100
    assert 0.03 < limit < 0.07
    config = CalibrateConfig(max_drop=limit, fitted=False, **ALONE)
    assert survey(traces, config).file is not None


def test_harm_is_told_where_harm_would_be_shown() -> None:
    """Nothing lost, but nothing shows it net either: the bound on lost answers alone is sharper."""
    found = survey(singles(152, 0, 20), CalibrateConfig(max_drop=0.02, fitted=False, **ALONE))
    assert found.file is not None  # what is won counts for it
    few = CalibrateConfig(max_drop=0.02, fitted=False, **ALONE)
    with pytest.raises(InputError, match=r"too few.*149 of them.*record 29 more.*--max-drop 5%"):
        calibrate(singles(120, 0), few)


def test_the_cheapest_remedy_comes_first() -> None:
    found = survey(singles(250, 4), CalibrateConfig(max_drop=0.03, fitted=False, **ALONE))
    costs = [each.samples for each in found.advice.remedies if each.samples is not None]
    assert costs == sorted(costs)


@pytest.mark.parametrize("small", [(0.99, 0.99), (0.8, 0.3)])
def test_without_prices_the_remedy_is_a_price(small) -> None:
    """Counted in tokens a small model saves nothing, or nothing that it may."""
    traces = make(200, small=small)
    found = survey(traces, CalibrateConfig(max_drop=0.05, fitted=False, baseline="single@large"))
    assert found.file is None
    assert [each.lever for each in found.advice.remedies] == ["prices"]
    assert any(line.startswith("no prices: a token of small, large") for line in found.warnings)
    priced = survey(traces, CalibrateConfig(max_drop=0.05, fitted=False, prices=PRICES))
    assert not any("no prices" in line for line in priced.warnings)
    assert priced.file is not None


def test_without_a_signal_the_remedy_is_a_signal() -> None:
    """The small model is wrong on a third, and nothing tells where."""
    traces = trace_set(
        replace(t, logprobs=np.zeros(0, np.float16)) for t in make(300, small=(0.7, 0.6))
    )
    config = CalibrateConfig(max_drop=0.02, prices=PRICES)
    found = survey(traces, replace(config, fitted=False))
    assert [each.lever for each in found.advice.remedies] == ["signal"]
    assert all(row.rule is None for row in found.rows)
    fitted = survey(traces, config)  # words of the prompt tell next to nothing either
    assert fitted.file is None
    assert fitted.advice.remedies[0].lever in {"signal", "questions"}


def test_where_no_remedy_helps_none_is_told() -> None:
    """Agreement was tried, and a small model that always errs the same way agrees with itself."""
    traces = trace_set(
        replace(t, answer="right" if t.correct else "always", logprobs=np.zeros(0, np.float16))
        for t in make(300, samples=3, small=(0.02, 0.02))
    )
    found = survey(traces, CalibrateConfig(max_drop=0.02, fitted=False, prices=PRICES))
    assert [each.lever for each in found.advice.remedies] == ["none"]
    assert "no number of questions" in found.advice.refusal


@pytest.mark.parametrize(
    ("models", "prices", "due"),
    [
        (("a-8B", "a-32B"), (), "single@a-32B"),
        (("a-70b", "a-8b"), (), "single@a-70b"),
        (("Qwen3-30B-A3B", "Qwen3-8B"), (), "single@Qwen3-8B"),
        (("a-8B", "a-32B"), ("a-8B=1/9", "a-32B=1/2"), "single@a-8B"),
        (("first", "second"), (), "single@second"),  # by accuracy, where no name tells
    ],
)
def test_the_baseline_is_one_call_of_the_dearest_or_largest_model(models, prices, due) -> None:
    traces = make(120, models=models, samples=2, large=(0.99, 0.97), small=(0.9, 0.6))
    config = CalibrateConfig(max_drop=0.05, fitted=False, prices=Prices.parse(prices))
    found = survey(traces, config)
    assert found.ground.baseline.text == due
    assert due in baseline_line(found)
    assert "--baseline" in baseline_line(found)
    named = survey(traces, replace(config, baseline=f"single@{models[0]}"))
    assert "--baseline" not in baseline_line(named)


def test_more_samples_do_not_hide_the_single_of_a_small_model() -> None:
    """Every sensible option is tried however often the small model was sampled."""
    kinds = {
        samples: {chain.kind for chain in survey(
            make(150, samples=samples),
            CalibrateConfig(max_drop=0.05, fitted=False, prices=PRICES),
        ).bench.chains}
        for samples in (1, 2, 5)
    }  # fmt: skip
    assert kinds == {1: {"sure"}, 2: {"agree", "sure"}, 5: {"agree", "hand on", "vote", "sure"}}
    chains = survey(
        make(150, samples=5), CalibrateConfig(max_drop=0.05, fitted=False, prices=PRICES)
    ).bench.chains
    assert all(any(rule == "single@small" for rule in c.rules) for c in chains if c.kind == "agree")


def test_plain_rules_stand_beside_every_saving() -> None:
    traces = make(300, samples=3, small=(0.98, 0.97), large=(0.99, 0.98))
    found = survey(traces, CalibrateConfig(max_drop=0.05, fitted=False, prices=PRICES))
    names = [row[0] for row in plain_rows(found)]
    assert names[:3] == [
        "small alone",
        "2 of small agree, else baseline",
        "3 of small agree, else baseline",
    ]
    best = max(each.saving for each in found.plain if each.drop <= 0.05)
    mine = next(row for row in found.rows if row.limit == 0.05).saving
    assert only_the_bound(found) == (best >= mine.estimate)
    assert [row[0] for row in limit_rows(found)] == ["1 point", "2 points", "5 points"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("agreement:models=a+b > single@c", "a and b agree, else c"),
        (
            "agreement:models=a+b+c, by 2 question groups",
            "a and b and c agree, by 2 question groups",
        ),
        ("single:accept=.9@a > single@b", "single:accept=.9@a > single@b"),
    ],
)
def test_rules_are_told_in_words(rule, said) -> None:
    assert in_words(rule) == said


def test_no_rule_is_cut_on_a_narrow_terminal(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    path = tmp_path / "t.parquet"
    write_traces(
        path, make(200, small=(0.99, 0.97), models=("small-model-of-a-long-name", "large"))
    )
    code, told = run(path, "--max-drop", "5%", "--price", "*=1/2", "--baseline", "single@large",
                     "--price", "large=10/20", "--out", tmp_path / "policy.json")  # fmt: skip
    assert code == 0, told
    assert "…" not in told
    assert "of what the baseline costs (USD)" in " ".join(told.split())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_all_of_so_many_samples_agree_or_it_gives_up(count) -> None:
    from suffice.policies.registry import parse_policy
    from tests.policies.scripted import play

    policy = parse_policy(unanimous(count))
    agreed = play(policy, ["4"] * count)
    assert (agreed.answer, agreed.drawn) == ("4", count)
    assert not agreed.outcome.escalated
    differs = play(policy, ["4", "5", "4", "4", "4"])
    assert differs.outcome.escalated
    assert play(policy, ["4", "-", "4", "4", "4"]).outcome.escalated


def test_another_seed_on_the_same_questions_is_refused_or_paid_for(tmp_path) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    traces = make(200, small=(0.99, 0.95))
    write_traces(path, traces)
    words = (path, "--max-drop", "5%", "--price", "small=0/1", "--price", "large=0/10",
             "--no-fitted", "--out", out)  # fmt: skip
    code, told = run(*words)
    assert code == 0, told
    assert read_policy_file(out).certificate.data.seed == 0
    assert run(*words)[0] == 0  # the same test again is the same test
    dearer = ["large=0/20" if word == "large=0/10" else word for word in words]
    assert run(*dearer)[0] == 0  # and so it is at other prices
    for other in (("--max-drop", "4%"), ("--max-drop", "6%"), ("--seed", 1),
                  ("--loss", "harm"), ("--test", "means"),
                  ("--out", tmp_path / "other.json", "--seed", 2)):  # fmt: skip
        code, told = run(*words, *other)
        assert code == 1
        assert "200 of these 200 questions were tested before" in told
        assert "limit 5%, seed 0" in told
        assert "--new-questions" in told
    assert not (tmp_path / "other.json").exists()
    more = [*traces, *make(150, seed=9, small=(0.99, 0.95), dataset="made2")]
    write_traces(path, trace_set(more))
    code, told = run(*words, "--seed", 1, "--mixed")
    assert code == 1
    code, told = run(*words, "--seed", 1, "--mixed", "--new-questions")
    assert code == 0, told
    assert read_policy_file(out).certificate.data.questions == 150


def test_declared_tries_share_the_error_probability(tmp_path) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    write_traces(path, make(300, small=(0.99, 0.97)))
    words = (path, "--max-drop", "5%", "--price", "small=0/1", "--price", "large=0/10",
             "--no-fitted", "--out", out)  # fmt: skip
    for seed in (0, 1):
        code, told = run(*words, "--tries", 2, "--seed", seed)
        assert code == 0, told
        assert read_policy_file(out).certificate.data.tries == 2
    code, told = run(*words, "--tries", 2, "--seed", 2)
    assert code == 1
    assert "2 were declared" in told
    listed = json.loads((tmp_path / NAME).read_text())["calibrations"]
    assert [each["seed"] for each in listed] == [0, 1]
    assert CalibrateConfig(max_drop=0.05, tries=2).alpha == pytest.approx(0.025)
    assert CalibrateConfig(max_drop=0.02).questions_needed() == 149
    assert CalibrateConfig(max_drop=0.02, tries=2).questions_needed() > 149


def test_each_limit_is_a_try_that_shares_the_error_probability(tmp_path) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    write_traces(path, make(300, small=(0.99, 0.97)))
    words = (path, "--price", "small=0/1", "--price", "large=0/10", "--no-fitted", "--out", out)
    for limit in ("4%", "5%"):
        code, told = run(*words, "--tries", 2, "--max-drop", limit)
        assert code == 0, told
        assert read_policy_file(out).certificate.data.tries == 2
    assert run(*words, "--tries", 2, "--max-drop", "6%")[0] == 1
    assert run(*words, "--tries", 2, "--max-drop", "4%")[0] == 0  # the first of them once more


def test_a_list_of_an_earlier_version_does_not_say_the_limit(tmp_path) -> None:
    """What was free when it was written stays free."""
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    write_traces(path, make(200, small=(0.99, 0.95)))
    words = (path, "--price", "small=0/1", "--price", "large=0/10", "--no-fitted", "--out", out)
    assert run(*words, "--max-drop", "5%")[0] == 0
    listed = json.loads((tmp_path / NAME).read_text())
    del listed["calibrations"][0]["max_drop"]
    (tmp_path / NAME).write_text(json.dumps(listed))
    assert run(*words, "--max-drop", "4%")[0] == 0
    assert run(*words, "--max-drop", "4%", "--seed", 1)[0] == 1


def test_who_takes_the_first_of_two_limits_is_wrong_nearly_twice_as_often() -> None:
    """Why another limit counts: two rules that lose barely more than 1 and 2 points.

    Each loses on questions of its own. One limit, whichever, keeps its promise.
    """
    rng = np.random.default_rng(0)
    n, alpha, runs = 5000, 0.05, 50_000
    first, second = rng.binomial(n, (0.01001, 0.02001), size=(runs, 2)).T
    shown = {limit: binom.cdf(np.arange(n + 1), n, limit) <= alpha for limit in (0.01, 0.02)}
    at_one = shown[0.01][first]  # wrong already: the first rule loses more
    at_two = shown[0.02][first] & shown[0.02][second]  # the first is right at 2, the second wrong
    assert max(at_one.mean(), at_two.mean()) <= alpha
    assert 1.6 * alpha < (at_one | at_two).mean() <= 2 * alpha


def test_too_few_questions_are_no_try(tmp_path) -> None:
    """Nothing was tested, so to come again with more costs nothing."""
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    few = make(50, small=(0.99, 0.97))
    write_traces(path, few)
    words = (path, "--max-drop", "5%", "--price", "small=0/1", "--price", "large=0/10",
             "--no-fitted", "--out", out)  # fmt: skip
    code, told = run(*words)
    assert code == 1
    assert "too few" in told
    assert not (tmp_path / NAME).exists()
    write_traces(path, make(200, small=(0.99, 0.97)))
    code, told = run(*words, "--seed", 4)
    assert code == 0, told


def test_a_damaged_list_of_tries_is_named(tmp_path) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    write_traces(path, make(200, small=(0.99, 0.97)))
    (tmp_path / NAME).write_text('{"schema_version": 1, "calibrations": [{"seed": 1}]}')
    code, told = run(path, "--max-drop", "5%", "--price", "*=0/1", "--no-fitted", "--out", out)
    assert code == 1
    assert NAME in told


def test_old_names_work_or_name_the_new_one(tmp_path) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "policy.json"
    write_traces(path, make(200, small=(0.99, 0.97)))
    code, told = run(path, "--max-drop", "5%", "--safe-arm", "single@large", "--cheap",
                     "single@small", "--price", "small=0/1", "--price", "large=0/9", "--no-fitted",
                     "--out", out)  # fmt: skip
    assert code == 0, told
    assert read_policy_file(out).baseline == "single@large"
    code, told = run(path, "--weight", "large=10", "--out", out)
    assert code == 1
    assert "--price large=10/10" in told


def known_rights(rights):
    """Samples per question by model: {model: (questions x samples)}."""
    traces = []
    for model, table in rights.items():
        for i, row in enumerate(table):
            question = Question(
                dataset="made", name=str(i), messages_json=messages_json(f"Question {i}?")
            )
            for sample, right in enumerate(row):
                traces.append(
                    Trace(question=question, model=model, sample=sample, correct=bool(right),
                          answer="r" if right else "w", completion_tokens=5)
                )  # fmt: skip
    return trace_set(traces)


def test_the_ceiling_is_what_nobody_can_pass() -> None:
    """100 questions: 20 that all samples get wrong, 15 that only the small model gets right."""
    small = np.ones((100, 3), dtype=bool)
    small[:20] = False
    large = np.ones((100, 1), dtype=bool)
    large[:35] = False
    traces = known_rights({"small": small, "large": large})
    found = ceiling_of(traces, CalibrateConfig(max_drop=0.05, baseline="single@large"))
    assert (found.questions, found.all_wrong, found.rescuable) == (100, 20, 15)
    assert found.beta_low == pytest.approx(lower_bound(20, 100, 0.95))
    assert found.most_accuracy == pytest.approx(1 - lower_bound(20, 100, 0.95))
    assert found.most_gain == pytest.approx(upper_bound(15, 100, 0.95))
    assert found.samples == 4


def test_a_vote_is_advised_against_where_it_loses() -> None:
    """Right in 40 of 100 samples on most questions: the majority is nearly always wrong there."""
    generator = np.random.default_rng(0)
    hard = generator.random((200, 9)) < 0.38
    easy = generator.random((200, 9)) < 0.75
    for table, verdict in ((hard, "hurts"), (easy, "gains")):
        found = ceiling_of(known_rights({"m": table}), CalibrateConfig(max_drop=0.05))
        (vote,) = found.votes
        assert vote.verdict == verdict
        assert vote.gain.estimate == pytest.approx(vote.vote - vote.single)
    sure = ceiling_of(known_rights({"m": np.ones((50, 4), bool)}), CalibrateConfig(max_drop=0.05))
    assert sure.votes[0].verdict == "no difference shown"


def test_the_ceiling_is_printed(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    write_traces(path, make(150, samples=5))
    code, told = run(path, "--ceiling", "--baseline", "single@large")
    assert code == 0, told
    words = " ".join(told.split())
    assert "no vote, router or cascade of them is right on more than" in words
    assert "points can be gained over it" in words
    code, told = run(path, "--ceiling", "--baseline", "single@large", "--json")
    assert json.loads(told)["questions"] == 150
