"""From traces to a certified policy: the file, live and replayed behaviour, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from suffice.core.coverage import EARLY
from suffice.core.errors import InputError, NothingFeasible, UnknownName
from suffice.core.prices import Prices
from suffice.evals.traces.files import of_questions, trace_set
from suffice.evals.traces.trace_set import Question, Trace, messages_json
from suffice.policies.policy_file import policy_file_of, read_policy_file
from suffice.policies.policy_of_file import certified_policy, check_models
from suffice.policies.registry import build_policy, parse_policy
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.evaluate_options import play_one, played_by_executor
from suffice.recipes.calibrate.file import file_of, option_of
from suffice.recipes.calibrate.fit_predictor import DENSE_PENALTY, logistic
from suffice.recipes.calibrate.fit_vote_tables import Strong, fit_table, stops_of
from suffice.recipes.calibrate.fitted import split_questions
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.options import Unplayable, played
from suffice.recipes.calibrate.output import write_calibration
from suffice.recipes.calibrate.ranking import ShownRule
from suffice.recipes.calibrate.run import calibrate, survey
from suffice.recipes.calibrate.stopping_times import count_votes
from suffice.recipes.recordings import WholeSource
from tests.recipes.known_traces import make

PRICES = Prices.parse(["small=0/1", "large=0/10"])
QUICK = {"dimensions": 64, "prices": PRICES}


def ground_of(traces, **options) -> Inputs:
    return Inputs.of(traces, CalibrateConfig(max_drop=0.1, **options))


def executed(policy, traces, ground: Inputs):
    """Any policy, played by the executor on every question and play of a ground."""
    return played_by_executor(policy, WholeSource(traces), ground.plays)


@pytest.fixture(scope="module")
def traces():
    return make(400, small=(0.95, 0.4))


CONFIG = CalibrateConfig(max_drop=0.04, groups=2, **QUICK)


@pytest.fixture(scope="module")
def found(traces):
    return calibrate(traces, CONFIG)


def test_certificate_says_what_was_tested(traces, found):
    certificate = found.file.certificate
    assert certificate.data.digest == traces.digest
    assert certificate.data.questions == certificate.data.recorded == 400
    assert certificate.tested.upper_bound <= 0.04
    assert certificate.expected.saving.estimate > 0.3
    assert certificate.tested.n == sum(group.tested.n for group in found.file.groups)
    assert "single@large" in certificate.statement
    assert certificate.target.test == "paired"  # one sample of each question was recorded


@pytest.mark.parametrize("rules", [{}, {"options": ("single@small",)}, {"fitted": False}])
def test_policy_played_on_the_certifying_questions_is_what_was_certified(traces, rules):
    """Thresholds, predictor and cascade give live what the arithmetic promised."""
    config = replace(CONFIG, **rules)
    found = calibrate(traces, config)
    ground = Inputs.of(traces, config)
    policy = certified_policy(found.file, parse_policy)
    index = np.arange(400)
    if found.file.certificate.data.fit_questions:
        index = split_questions(ground).certify
    seen = executed(policy, traces, ground).at(index)
    baseline = executed(parse_policy("single@large"), traces, ground).at(index)
    tested = found.file.certificate.tested
    assert int((baseline.correct & ~seen.correct).sum()) == tested.harmed
    assert int((~baseline.correct & seen.correct).sum()) == tested.helped
    saved = 1 - ground.cost(seen).sum() / ground.cost(baseline).sum()
    assert saved == pytest.approx(found.file.certificate.expected.saving.estimate, abs=1e-9)
    costs = {row.role: row for row in found.file.costs}
    assert costs["certified"].cost == pytest.approx(ground.cost(seen).mean(), rel=1e-9)
    assert costs["baseline"].cost == pytest.approx(ground.cost(baseline).mean(), rel=1e-9)
    by_model = {each.model: each for each in costs["certified"].by_model}
    asked = seen.spending["large"]
    assert by_model["large"].samples == pytest.approx(asked.samples.mean(), abs=1e-4)
    assert by_model["large"].completion_tokens == pytest.approx(
        asked.completion_tokens.mean(), abs=1e-3
    )


@pytest.mark.parametrize(
    "text", ["deepconf:max_samples=4,warmup=2@small", "answer_stability@small > single@large"]
)
def test_what_acts_on_running_samples_is_refused(traces, text):
    with pytest.raises(InputError, match="acts on samples while they run"):
        calibrate(traces, replace(CONFIG, options=(text,)))


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
    table["certificate"]["target"]["max_drop"] = 0.001
    with pytest.raises(InputError, match="was changed after its certificate"):
        policy_file_of(table)
    table["surprise"] = 1
    with pytest.raises(InputError, match="surprise"):
        policy_file_of(table)
    with pytest.raises(InputError, match=r"calibrated for small, large.*tiny"):
        check_models(found.file, ("tiny", "small"), "the gateway")


def test_scope_group_bounds_every_group_and_falls_back(traces):
    config = replace(CONFIG, max_drop=0.06, scope="group")
    file = calibrate(traces, config).file
    assert "in every question group" in file.certificate.statement
    for group in file.groups:
        closed = group.accept is None and group.hopeless is None
        assert bool(group.fallback) == closed
        if not closed:
            assert group.tested.upper_bound <= 0.06
    try:
        file = calibrate(traces, replace(config, max_drop=0.025)).file
    except NothingFeasible:
        return
    assert any("are needed" in group.fallback for group in file.groups)


def test_crc_is_labelled_as_a_bound_in_expectation(traces):
    file = calibrate(traces, replace(CONFIG, method="crc")).file
    assert "on average" in file.certificate.statement
    assert file.certificate.tested.upper_bound is None
    n, harmed = file.certificate.tested.n, file.certificate.tested.harmed
    assert (harmed + 1) / (n + 1) <= 0.04


def one_model(n=240, rates=(0.9, 0.45), samples=10):
    pool = make(n, samples=samples, small=rates, models=("one", "two"))
    return trace_set([trace for trace in pool if trace.model == "one"])


def test_one_models_vote_is_the_baseline_and_is_certified_to_stop_early():
    """No fitting rows, no predictor: every question certifies."""
    only = one_model()
    file = calibrate(only, CalibrateConfig(max_drop=0.08)).file
    assert file.baseline == "self_consistency:samples=10@one"
    assert file.groups[0].sampler.startswith("adaptive_consistency")
    assert file.predictor is None
    assert (file.certificate.data.fit_questions, file.certificate.data.certify_questions) == (
        0,
        240,
    )
    assert file.certificate.target.test == "means"
    assert file.certificate.expected.saving.estimate > 0.2
    few = of_questions(only, range(20))
    policy = certified_policy(file, parse_policy)
    assert executed(policy, few, ground_of(few, plays=2)).spending["one"].samples.mean() < 10


def test_a_vote_that_is_always_right_is_settled_earlier():
    """Nothing is to be told apart there, and everything beyond the first votes is to be saved."""
    only = one_model(rates=(0.97, 0.97))
    assert ground_of(only).played("self_consistency:samples=10@one").correct.all()
    file = calibrate(only, CalibrateConfig(max_drop=0.05)).file
    assert file.certificate.expected.saving.estimate > 0.5
    assert file.certificate.tested.upper_bound <= 0.05


PLAYED = [
    "single@small",
    "self_consistency:samples=7@small",
    "adaptive_consistency:threshold=.9,max_samples=10@small",
    "two_sided:threshold=.97,hopeless=.3,patience=4,max_samples=10@small",
    "vote_table:answer=-+2,escalate=-+11@small > single@large",
    "vote_table:answer=-+-+3,escalate=-+11+22@small > single@large",
    "adaptive_consistency:threshold=.95,max_samples=6,accept=.95@small > single@large",
    "single:accept=.6@small > single@large",
    "agreement:models=small+large",
    "single:accept=.9@small > adaptive_consistency:max_samples=3,accept=.99@large",
]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("text", PLAYED)
def test_options_in_arrays_equal_the_policy_played(text, silent):
    made = make(40, samples=10, small=(0.8, 0.2))
    if silent:  # samples without an answer, of either model
        made = trace_set(
            replace(trace, answer=None) if hash((trace.question.name, trace.sample)) % 3 else trace
            for trace in made
        )
    ground = ground_of(made, baseline="single@large", plays=6)
    ours = played(parse_policy(text), ground.plays, "small")
    theirs = executed(parse_policy(text), made, ground)
    for name in ("correct", "answered", "answer", "early"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for model, spent in theirs.spending.items():
        for name in ("samples", "prompt_tokens", "cached_tokens", "completion_tokens"):
            mine = getattr(ours.spending[model], name)
            if text.startswith("agreement") and silent:
                assert (mine >= getattr(spent, name)).all()  # cancelled samples are counted
            else:
                np.testing.assert_array_equal(mine, getattr(spent, name), err_msg=name)


@pytest.mark.parametrize(
    "text",
    [
        "agreement:models=small+large > self_consistency:samples=5@large",
        "single:accept=.9@small > adaptive_consistency:max_samples=3@small > single@large",
        "adaptive_consistency:criterion=dirichlet,max_samples=5@small",
    ],
)
def test_what_arrays_cannot_do_the_executor_plays(text):
    made = make(12, samples=10)
    ground = ground_of(made, baseline="single@large")
    with pytest.raises(Unplayable):
        played(parse_policy(text), ground.plays, "small")
    assert ground.played(text).correct.shape == (12, 4)  # fewer plays: it takes longer


def test_rules_without_what_stands_behind_them():
    assert option_of("single:accept=0.9@a/b > single@c") == "single@a/b"
    text = "adaptive_consistency:threshold=0.9,max_samples=8,accept=0.9@m > single@c"
    assert option_of(text) == "adaptive_consistency:threshold=0.9,max_samples=8@m"
    assert option_of("adaptive_consistency:accept=0.9,max_samples=8@m > single@c") == (
        "adaptive_consistency:max_samples=8@m"
    )
    assert option_of("single@m") == "single@m"


def test_refusals():
    few = make(150)
    with pytest.raises(InputError, match=r"too few for any certificate.*takes 299"):
        calibrate(few, CalibrateConfig(max_drop=0.01, fitted=False))
    with pytest.raises(InputError, match="takes 99"):
        calibrate(make(60), CalibrateConfig(max_drop=0.01, method="crc", fitted=False))
    with pytest.raises(InputError, match="never right"):
        hopeless = make(200, large=(0.0, 0.0))
        calibrate(hopeless, CalibrateConfig(max_drop=0.1, baseline="single@large"))
    with pytest.raises(InputError, match="names no model"):
        calibrate(few, CalibrateConfig(max_drop=0.1, baseline="single"))
    with pytest.raises(InputError, match="needs huge, which the traces do not hold"):
        calibrate(few, CalibrateConfig(max_drop=0.1, baseline="single@huge"))
    with pytest.raises(UnknownName):
        calibrate(few, CalibrateConfig(max_drop=0.1, baseline="singel@large"))
    mixed = trace_set([*make(100), *make(100, dataset="other", seed=1)])
    with pytest.raises(InputError, match=r"mix 2 data sets \(made, other\)"):
        calibrate(mixed, CalibrateConfig(max_drop=0.1))
    with pytest.raises(InputError, match="crc"):
        CalibrateConfig(max_drop=0.1, method="crc", loss="drop")
    with pytest.raises(InputError, match=r"1% is 0\.01"):
        CalibrateConfig(max_drop=1.0)
    with pytest.raises(InputError, match=r"large has no price.*--price large="):
        calibrate(few, CalibrateConfig(max_drop=0.1, prices=Prices.parse(["small=1/1"])))
    with pytest.raises(InputError, match="lower its cap, or record more"):
        calibrate(few, CalibrateConfig(max_drop=0.1, baseline="self_consistency:samples=5@large"))


def test_a_model_that_is_always_right_needs_no_thresholds():
    """There is nothing to tell apart, and nothing to lose: it answers alone."""
    sure = make(200, small=(1.0, 1.0))
    file = calibrate(sure, CalibrateConfig(max_drop=0.02, options=("single@small",), **QUICK)).file
    assert file.certificate.expected.saving.estimate > 0.8


def test_unshown_targets_are_refused_with_the_counts():
    useless = make(300, small=(0.5, 0.5), large=(0.97, 0.97), informative=False)
    config = CalibrateConfig(max_drop=0.03, options=("single@small",), **QUICK)
    with pytest.raises(NothingFeasible, match=r"loses \d+ and gains \d+ of|saves anything"):
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
        calibrate(traces, CalibrateConfig(max_drop=0.1, baseline="single@large"))


SINGLES = {"baseline": "single@large", "options": ("single@small",)}


def test_verdicts_without_answers_are_compared_by_being_right():
    """A router's set: nothing of the answers is known, and one step of a cascade needs none."""
    traces = trace_set(replace(trace, answer=None) for trace in make(300, small=(0.99, 0.99)))
    file = calibrate(traces, CalibrateConfig(max_drop=0.05, **SINGLES, **QUICK)).file
    assert file.certificate.expected.saving.estimate > 0.8
    assert file.about.answer_formats == ("number",)


def test_verdicts_alone_are_not_voted_on():
    """Nothing could be compared: a vote would end with its last sample."""
    verdicts = trace_set(replace(trace, answer=None) for trace in one_model(n=100))
    with pytest.raises(InputError, match="compares answers, and the recording holds verdicts"):
        calibrate(verdicts, CalibrateConfig(max_drop=0.1))
    words = trace_set(
        replace(trace, answer="right" if trace.correct else "wrong") for trace in one_model(n=100)
    )
    config = CalibrateConfig(max_drop=0.1)
    assert any("vote is over verdicts" in line for line in survey(words, config).warnings)
    assert not survey(one_model(n=100), config).warnings


def test_a_baseline_that_is_right_without_an_answer_is_not_taken_for_wrong():
    """Its rights are lost to a wrong option, whether it is asked (nothing to compare) or not.

    The baseline is right on 97 % and shows a comparable answer on a tenth of the questions; the
    option is right on 70 %. Every setting that opens loses 20 points or more.
    """
    made = make(400, small=(0.7, 0.7), large=(0.97, 0.97))
    traces = trace_set(
        replace(trace, answer=None)
        if trace.model == "large" and int(trace.question.name[1:]) % 10
        else trace
        for trace in made
    )
    config = CalibrateConfig(max_drop=0.04, groups=1, **SINGLES, **QUICK)
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
    config = CalibrateConfig(max_drop=0.12, groups=1, **SINGLES, **QUICK)
    found = survey(traces, config)
    ground, bench, split = found.ground, found.bench, split_questions(found.ground)
    baseline = executed(parse_policy("single@large"), traces, ground)
    assert {chain.kind for chain in bench.chains} == {"sure", "fitted"}
    for number, chain in enumerate(bench.chains):
        open_to_it = [r for r in range(len(chain)) if chain.step(r).stopped.mean() > 0.3]
        choice = ShownRule(chain=number, rule=open_to_it[0], shown=(1, 1), level=0.05)
        file = file_of(ground, bench, choice, split)
        policy = certified_policy(file, parse_policy)
        seen, standard = (each.at(chain.index) for each in (
            executed(policy, traces, ground), baseline))  # fmt: skip
        lost = standard.correct & ~seen.correct
        assert lost[~seen.early & ~standard.answered].any()  # asked in vain
        assert file.certificate.tested.harmed == int(lost.sum())
        # A right answer where the baseline has none to compare is not booked by the fitted rules.
        won = ~standard.correct & seen.correct
        silent = 0 if chain.kind == "sure" else int((won & ~standard.answered).sum())
        assert file.certificate.tested.helped == int(won.sum()) - silent


def both_models(n: int = 200, samples: int = 10):
    """A small model's vote with a large model's single answers behind it."""
    pool = make(n, samples=samples, small=(0.9, 0.35), large=(0.98, 0.95))
    return trace_set([t for t in pool if t.model == "small" or t.sample == 0])


@pytest.mark.parametrize("large", ["", " > single@large"])
def test_tables_in_arrays_equal_the_table_played(large):
    traces = both_models(60)
    votes = count_votes(traces, "small", range(60), 10)
    ground = ground_of(traces, baseline="single@large", test="paired")
    single = ground.played("single@large")
    # Questions of the ground are in an order of their own.
    names = [traces.questions[c[0]].name for c in ground.questions.copies]
    order = np.array([names.index(question.name) for question in traces.questions])
    behind = single.at(order)
    strong = Strong(
        right=behind.correct[:, 0],
        answered=behind.answered[:, 0],
        answer=behind.answer[:, 0],
        cost=np.full(60, 1.0),
    )
    reference = votes.right[:, -1].astype(float)
    costs = (np.broadcast_to(np.arange(1.0, 11.0), (60, 10)),)
    for price in (10.0, 100.0):
        table = fit_table((votes,), costs, reference, price, strong if large else None)
        stop, given = stops_of(table, votes)
        policy = parse_policy(f"{table.text}@small{large}")
        seen = executed(policy, traces, ground).at(order)
        drawn = sum(spent.samples[:, 0] for spent in seen.spending.values())
        np.testing.assert_array_equal(drawn, stop + given)
        ours = np.where(given, behind.correct[:, 0], votes.right_after(stop))
        np.testing.assert_array_equal(seen.correct[:, 0], ours)
        assert given.any() == bool(large)


def test_a_vote_with_a_large_model_behind_it_is_certified_at_no_loss():
    traces = both_models(260)
    config = CalibrateConfig(
        max_drop=0.05, baseline="self_consistency:samples=10@small", large="single@large",
        groups=1, dimensions=64, prices=Prices.parse(["small=0/1", "large=0/5"]),
    )  # fmt: skip
    file = calibrate(traces, config).file
    assert file.models == ("small", "large")
    assert all(group.sampler.endswith(" > single@large") for group in file.groups)
    got = file.certificate.expected
    assert got.saving.low > 0.1
    assert got.accuracy > got.baseline_accuracy  # a vote of ten is no match for the large model
    few = of_questions(traces, range(60))
    ground = Inputs.of(few, replace(config, plays=2))
    seen = executed(certified_policy(file, parse_policy), few, ground)
    assert seen.correct.mean() > 0.8


def test_a_table_prefers_answers_where_questions_are_cheap_to_lose():
    traces = both_models(120)
    votes = count_votes(traces, "small", range(120), 10)
    reference = votes.right[:, -1].astype(float)
    costs = (np.broadcast_to(np.arange(1.0, 11.0), (120, 10)),)
    drawn = [
        stops_of(fit_table((votes,), costs, reference, price), votes)[0].mean()
        for price in (1e6, 60.0, 5.0, 1e-3)
    ]
    assert drawn == sorted(drawn, reverse=True)
    assert drawn[-1] == 1.0


def test_exits_of_the_executor_are_those_of_the_arrays(traces):
    ground = ground_of(traces, baseline="single@large")
    policy = parse_policy("single:accept=.8@small > single@large")
    found = [
        play_one(policy, WholeSource(traces), int(question),
                 lambda model: ground.plays.rows(model)[0, 0].tolist())
        for question in ground.plays.asked(0)[:1]
    ]  # fmt: skip
    assert found[0].exit in {*EARLY, "safe"}
    assert survey(traces, replace(CONFIG, fitted=False)).choice is not None


@pytest.mark.parametrize(("rows", "words"), [(60, 200), (60, 8), (250, 30)])
@pytest.mark.parametrize("penalty", [1e6, 10.0, 3.0])
def test_the_logistic_heads_are_at_their_minimum(rows, words, penalty):
    """With fewer rows than weights, and with more: the loss is convex and has no slope there."""
    generator = np.random.default_rng(rows + words)
    x, dense = generator.normal(size=(rows, words)) / words**0.5, generator.normal(size=(rows, 5))
    target = generator.random(rows) < 1 / (1 + np.exp(1.0 - 2.0 * dense[:, 0]))
    found = logistic(x, dense, target, penalty)
    whole = np.column_stack((x, dense, np.ones(rows)))
    costs = np.concatenate((np.full(words, penalty), np.full(5, DENSE_PENALTY), [1e-4]))

    chances = 1.0 / (1.0 + np.exp(-(whole @ found)))
    # In units of √penalty the curve is 1 or more: the loss is within slope²/2 of its least.
    slope = (whole.T @ (chances - target) + costs * found) / np.sqrt(costs)
    assert 0.5 * slope @ slope < 1e-7
