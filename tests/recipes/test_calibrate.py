"""From traces to a certified policy: the file, live and replayed behaviour, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from suffice.core.coverage import EARLY
from suffice.core.errors import InputError, NothingFeasible, UnknownName
from suffice.evals.trace_files import trace_set
from suffice.evals.traces import Question, Trace, messages_json
from suffice.policies.policy_file import (
    certified_policy,
    check_models,
    policy_file_of,
    read_policy_file,
)
from suffice.policies.registry import build_policy, parse_policy
from suffice.recipes.calibrate.arms import Table
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.output import write_calibration
from suffice.recipes.calibrate.play import Recorded, TokenWeights, play
from suffice.recipes.calibrate.prepare import split_questions
from suffice.recipes.calibrate.run import calibrate
from suffice.recipes.calibrate.tables import Strong, fit_table, stops_of
from suffice.recipes.calibrate.votes import count_votes
from tests.recipes.known_traces import make

WEIGHTS = TokenWeights((("large", 10.0),))
QUICK = {"dimensions": 64, "steps": 8, "weights": WEIGHTS}


@pytest.fixture(scope="module")
def traces():
    return make(400, small=(0.95, 0.4))


@pytest.fixture(scope="module")
def found(traces):
    return calibrate(traces, CalibrateConfig(max_drop=0.04, clusters=2, **QUICK))


def test_certificate_says_what_was_tested(traces, found):
    certificate = found.file.certificate
    assert certificate.data.digest == traces.digest
    assert certificate.data.fit_questions + certificate.data.certify_questions == 400
    assert certificate.tested.upper_bound <= 0.04
    assert certificate.expected.saving.estimate > 0.3
    assert certificate.tested.n == sum(c.tested.n for c in found.file.groups)
    assert "single@large" in certificate.statement
    assert certificate.predictor.ece < 0.1


def test_policy_played_on_the_certifying_questions_is_what_was_certified(traces, found):
    """The thresholds, the predictor and the cascade give what the arithmetic promised."""
    policy = certified_policy(found.file, parse_policy)
    config = CalibrateConfig(max_drop=0.04, clusters=2, **QUICK)
    table = Table.of(traces, WEIGHTS)
    split = split_questions(traces, table.questions, config)
    seen = play(policy, Recorded(traces), split.certify, weights=WEIGHTS)
    safe = play(parse_policy("single@large"), Recorded(traces), split.certify, weights=WEIGHTS)
    tested = found.file.certificate.tested
    assert int((safe.correct & ~seen.correct).sum()) == tested.harmed
    assert int((~safe.correct & seen.correct).sum()) == tested.helped
    assert sum(taken in EARLY for taken in seen.exit) == tested.stopped
    saved = 1 - seen.cost.sum() / safe.cost.sum()
    assert saved == pytest.approx(found.file.certificate.expected.saving.estimate, abs=1e-9)


def test_file_round_trip_and_seal(found, tmp_path):
    path = tmp_path / "policy.json"
    written = write_calibration(found, path, tmp_path / "report")
    assert {p.name for p in written} >= {"policy.json", "certificate.html", "path.png"}
    assert read_policy_file(path) == found.file
    policy = build_policy(json.loads(path.read_text()))
    assert policy.guarantee.id == found.file.certificate.id
    assert policy.models == ("small", "large")
    # Names may come from a gateway's client: they must not make it open files.
    with pytest.raises(InputError, match=r"--policy policy\.json"):
        parse_policy(f"certified:file={path}")
    with pytest.raises(InputError, match=r"--policy policy\.json|file"):
        build_policy({"policy": "certified", "file": str(path)})
    table = json.loads(path.read_text())
    table["groups"][0]["accept"] = 0.01
    with pytest.raises(InputError, match="was changed after its certificate"):
        policy_file_of(table)
    table["surprise"] = 1
    with pytest.raises(InputError, match="surprise"):
        policy_file_of(table)
    with pytest.raises(InputError, match=r"calibrated for small, large.*tiny"):
        check_models(found.file, ("tiny", "small"), "the gateway")


def test_scope_cluster_bounds_every_cluster_and_falls_back(traces):
    config = CalibrateConfig(max_drop=0.06, scope="cluster", clusters=2, **QUICK)
    file = calibrate(traces, config).file
    assert "in every cluster" in file.certificate.statement
    for cluster in file.groups:
        closed = cluster.accept is None and cluster.hopeless is None
        assert bool(cluster.fallback) == closed
        if not closed:
            assert cluster.tested.upper_bound <= 0.06
    tight = CalibrateConfig(max_drop=0.025, scope="cluster", clusters=2, **QUICK)
    try:
        file = calibrate(traces, tight).file
    except NothingFeasible:
        return
    assert any("are needed" in cluster.fallback for cluster in file.groups)


def test_crc_is_labelled_as_a_bound_in_expectation(traces):
    file = calibrate(traces, CalibrateConfig(max_drop=0.04, method="crc", **QUICK)).file
    assert "on average" in file.certificate.statement
    assert file.certificate.tested.upper_bound is None
    n, harmed = file.certificate.tested.n, file.certificate.tested.harmed
    assert (harmed + 1) / (n + 1) <= 0.04


def test_sampler_path_certifies_stopping_rules_of_one_model():
    pool = make(240, samples=10, small=(0.9, 0.45), models=("one", "two"))
    only = trace_set([trace for trace in pool if trace.model == "one"])
    config = CalibrateConfig(
        max_drop=0.08, safe="self_consistency:samples=10@one", dimensions=64, steps=8
    )
    file = calibrate(only, config).file
    samplers = [cluster.sampler for cluster in file.groups]
    assert any(samplers)
    assert file.certificate.expected.saving.estimate > 0.2
    policy = certified_policy(file, parse_policy)
    outcome = play(policy, Recorded(only), range(20))
    assert outcome.samples.mean() < 10


def test_a_vote_that_is_always_right_is_settled_earlier():
    """Nothing is to be told apart there, and everything beyond the first votes is to be saved."""
    pool = make(240, samples=10, small=(0.97, 0.97), models=("one", "two"))
    only = trace_set([trace for trace in pool if trace.model == "one"])
    safe = "self_consistency:samples=10@one"
    config = CalibrateConfig(max_drop=0.05, safe=safe, dimensions=64, steps=8)
    assert play(parse_policy(safe), Recorded(only), range(240)).correct.all()
    file = calibrate(only, config).file
    assert file.certificate.tested.harmed == 0
    assert file.certificate.expected.saving.estimate > 0.5
    early = play(certified_policy(file, parse_policy), Recorded(only), range(240))
    assert early.samples.mean() < 5
    assert early.correct.mean() > 0.95


@pytest.mark.parametrize(
    "text",
    [
        "adaptive_consistency:threshold=.9,max_samples=10",
        "two_sided:threshold=.97,hopeless=.3,patience=4,max_samples=10",
        "self_consistency:samples=10",
    ],
)
def test_votes_in_arrays_equal_the_policy_played(text):
    traces = make(40, samples=10, small=(0.8, 0.2))
    votes = count_votes(traces, "small", range(40), 10)
    policy = parse_policy(f"{text}@small")
    seen = play(policy, Recorded(traces), range(40))
    rules = {"adaptive": (0.9, None, 4), "two_side": (0.97, 0.3, 4), "self_con": (2.0, None, 4)}
    ours = votes.outcomes(votes.stop(*rules[text[:8]]))
    np.testing.assert_array_equal(seen.samples, ours.samples)
    np.testing.assert_array_equal(seen.correct, ours.correct)
    np.testing.assert_array_equal(seen.tokens, ours.tokens)


def test_refusals():
    few = make(150)
    with pytest.raises(InputError, match=r"too few for any certificate.*299 flawless"):
        calibrate(few, CalibrateConfig(max_drop=0.01))
    with pytest.raises(InputError, match="99 flawless"):
        calibrate(few, CalibrateConfig(max_drop=0.01, method="crc"))
    sure = make(200, small=(1.0, 1.0))
    with pytest.raises(InputError, match="one class"):
        calibrate(sure, CalibrateConfig(max_drop=0.1, cheap=("single@small",)))
    with pytest.raises(InputError, match="never right"):
        hopeless = make(200, large=(0.0, 0.0))
        calibrate(hopeless, CalibrateConfig(max_drop=0.1, safe="single@large"))
    with pytest.raises(InputError, match="names no model"):
        calibrate(few, CalibrateConfig(max_drop=0.1, safe="single"))
    with pytest.raises(InputError, match="needs huge, which the traces do not hold"):
        calibrate(few, CalibrateConfig(max_drop=0.1, safe="single@huge"))
    with pytest.raises(UnknownName):
        calibrate(few, CalibrateConfig(max_drop=0.1, safe="singel@large"))
    mixed = trace_set([*make(100), *make(100, dataset="other")])
    with pytest.raises(InputError, match=r"mix 2 data sets \(made, other\)"):
        calibrate(mixed, CalibrateConfig(max_drop=0.1))
    with pytest.raises(InputError, match="crc"):
        CalibrateConfig(max_drop=0.1, method="crc", loss="drop")
    with pytest.raises(InputError, match=r"1% is 0\.01"):
        CalibrateConfig(max_drop=1.0)


def test_unshown_targets_are_refused_with_the_counts():
    useless = make(300, small=(0.5, 0.5), large=(0.97, 0.97), informative=False)
    config = CalibrateConfig(max_drop=0.03, cheap=("single@small",), **QUICK)
    with pytest.raises(NothingFeasible, match=r"nothing is certified|saves anything"):
        calibrate(useless, config)


def test_unjudged_samples_are_refused():
    question = [
        Question(dataset="d", name=str(i), messages_json=messages_json(f"q {i}"))
        for i in range(130)
    ]
    traces = trace_set(
        Trace(question=q, model=model, sample=0, answer="a")
        for q in question
        for model in ("small", "large")
    )
    with pytest.raises(InputError, match="has no verdict"):
        calibrate(traces, CalibrateConfig(max_drop=0.1, safe="single@large"))


SINGLES = {"safe": "single@large", "cheap": ("single@small",)}


@pytest.mark.parametrize("silent", ["small", "large"])
def test_verdicts_without_any_answers_are_refused(silent):
    traces = trace_set(
        replace(trace, answer=None) if trace.model == silent else trace for trace in make(300)
    )
    with pytest.raises(InputError, match=f"on single@{silent} but not one answer"):
        calibrate(traces, CalibrateConfig(max_drop=0.04, **SINGLES, **QUICK))


def test_a_safe_arm_that_is_right_without_an_answer_is_not_taken_for_wrong():
    """Its rights are lost to a wrong cheap answer, whether it is asked (nothing to compare) or not.

    The safe arm is right on 97 % and shows a comparable answer on a tenth of the questions; the
    cheap one is right on 70 %. Every setting that opens loses 20 points or more.
    """
    made = make(400, small=(0.7, 0.7), large=(0.97, 0.97))
    traces = trace_set(
        replace(trace, answer=None)
        if trace.model == "large" and int(trace.question.name[1:]) % 10
        else trace
        for trace in made
    )
    config = CalibrateConfig(max_drop=0.04, clusters=1, **SINGLES, **QUICK)
    with pytest.raises(NothingFeasible):
        calibrate(traces, config)


def test_rights_without_answers_are_counted_as_played():
    made = make(400, small=(0.97, 0.3), large=(0.97, 0.95))
    traces = trace_set(
        replace(trace, answer=None)
        if trace.model == "large" and int(trace.question.name[1:]) % 5 == 0
        else trace
        for trace in made
    )
    config = CalibrateConfig(max_drop=0.12, clusters=1, **SINGLES, **QUICK)
    table = Table.of(traces, WEIGHTS)
    split = split_questions(traces, table.questions, config)
    file = calibrate(traces, config).file
    seen = play(certified_policy(file, parse_policy), Recorded(traces), split.certify)
    safe = play(parse_policy("single@large"), Recorded(traces), split.certify)
    lost = int((safe.correct & ~seen.correct).sum())
    asked_in_vain = np.array([taken == "safe" for taken in seen.exit]) & ~safe.answered
    assert (safe.correct & ~seen.correct)[asked_in_vain].any()
    assert file.certificate.tested.harmed == lost


def both_models(n: int = 200, samples: int = 10):
    """A small model's vote with a strong model's single answers behind it."""
    pool = make(n, samples=samples, small=(0.9, 0.35), large=(0.98, 0.95))
    return trace_set([t for t in pool if t.model == "small" or t.sample == 0])


@pytest.mark.parametrize("strong", ["", " > single@large"])
def test_tables_in_arrays_equal_the_table_played(strong):
    traces = both_models(60)
    votes = count_votes(traces, "small", range(60), 10)
    behind = play(parse_policy("single@large"), Recorded(traces), range(60))
    arm = Strong(right=behind.correct, answered=behind.answered, cost=behind.cost)
    reference = votes.right[:, -1].astype(float)
    for price in (400.0, 4000.0):
        table = fit_table((votes,), reference, price, arm if strong else None)
        stop, given = stops_of(table, votes)
        seen = play(parse_policy(f"{table.text}@small{strong}"), Recorded(traces), range(60))
        np.testing.assert_array_equal(seen.samples, stop + given)
        ours = np.where(given, behind.correct, votes.outcomes(stop).correct)
        np.testing.assert_array_equal(seen.correct, ours)
        assert given.any() == bool(strong)


def test_a_vote_with_a_strong_arm_behind_it_is_certified_at_no_loss():
    traces = both_models(260)
    config = CalibrateConfig(
        max_drop=0.05, safe="self_consistency:samples=10@small", strong="single@large",
        clusters=1, dimensions=64, steps=8, weights=TokenWeights((("large", 5.0),)),
    )  # fmt: skip
    file = calibrate(traces, config).file
    assert file.models == ("small", "large")
    assert all(cluster.sampler.endswith(" > single@large") for cluster in file.groups)
    got = file.certificate.expected
    assert got.saving.low > 0.1
    assert got.accuracy > got.baseline_accuracy  # a vote of ten is no match for the strong arm
    seen = play(certified_policy(file, parse_policy), Recorded(traces), range(260))
    assert seen.correct.mean() > 0.8
    with pytest.raises(InputError, match="stands behind a vote"):
        calibrate(traces, replace(config, safe="single@large"))


def test_a_table_prefers_answers_where_questions_are_cheap_to_lose():
    traces = both_models(120)
    votes = count_votes(traces, "small", range(120), 10)
    reference = votes.right[:, -1].astype(float)
    drawn = [
        stops_of(fit_table((votes,), reference, price), votes)[0].mean()
        for price in (1e6, 2000.0, 200.0, 1e-3)
    ]
    assert drawn == sorted(drawn, reverse=True)
    assert drawn[-1] == 1.0
