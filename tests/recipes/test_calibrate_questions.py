"""Certificates count distinct questions, use every sample of them, and grow with the limit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.evals.statistics.binomial import rows_needed
from suffice.evals.statistics.bounded import BOLDEST
from suffice.evals.statistics.paired import Pairs, drop_p_value
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, messages_json
from suffice.recipes.calibrate import certify, fitted
from suffice.recipes.calibrate import fit_predictor as fit
from suffice.recipes.calibrate.chains import BOLDEST_OF_VOTES
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.gates_and_samplers import THRESHOLDS
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.questions import DistinctQuestions, question_key
from suffice.recipes.calibrate.run import calibrate, survey
from tests.recipes.known_traces import make
from tests.recipes.populations import Truth, false_certificates, populations

PRICES = Prices.parse(["small=0/1", "large=0/10"])
POPULATIONS = {population.name: population for population in populations()}


def asked(text: str, name: str, **more: object) -> Question:
    return Question(dataset=more.pop("dataset", "d"), name=name, messages_json=messages_json(text),
                    **more)  # fmt: skip


SAME = ["What is 2 + 2?", " What  is\n2 + 2?", "What is 2 + 2?\u200b", "What is\u00a02 + 2?"]
OTHER = ["what is 2 + 2?", "What is 2+2?", "What is 2 + 2", "What is 2 + 3?"]


def test_equal_prompts_are_one_question_whatever_they_are_called() -> None:
    keys = {question_key(asked(text, str(i), dataset=f"d{i}")) for i, text in enumerate(SAME)}
    assert len(keys) == 1
    assert len({question_key(asked(text, "x")) for text in OTHER} | keys) == 1 + len(OTHER)
    told = asked(SAME[0], "x", tools_json="[]")
    assert question_key(told) not in keys
    under = Question(
        dataset="d", name="x", messages_json=messages_json(SAME[0], system="Be brief.")
    )
    assert question_key(under) not in keys


def copied(traces, copies: int):
    """Every question under several names, as if it had been recorded anew."""
    return trace_set(
        replace(trace, question=replace(trace.question, name=f"{trace.question.name}-{copy}"))
        for trace in traces
        for copy in range(copies)
    )


def test_copies_do_not_make_a_certificate() -> None:
    few = make(40, small=(0.99, 0.99))
    with pytest.raises(InputError, match=r"40 distinct questions are too few.*record 1\d\d more"):
        calibrate(copied(few, 12), CalibrateConfig(max_drop=0.02, prices=PRICES, fitted=False))


@pytest.mark.parametrize("test", ["paired", "means"])
def test_copies_change_nothing_that_is_certified(test) -> None:
    """The same figures, bound, saving and monitor ranges from one copy of each and from five."""
    traces = make(300, small=(0.95, 0.9))
    config = CalibrateConfig(max_drop=0.05, prices=PRICES, fitted=False, test=test)
    once, often = (calibrate(t, config).file for t in (traces, copied(traces, 5)))
    assert often.certificate.data.questions == 300
    assert often.certificate.data.recorded == 1500
    assert often.certificate.tested == once.certificate.tested
    assert often.certificate.expected == once.certificate.expected
    assert (often.monitors, often.groups, often.costs) == (once.monitors, once.groups, once.costs)


def test_copies_in_two_data_sets_are_one_question_too() -> None:
    traces = make(200, small=(0.97, 0.97))
    renamed = (replace(t, question=replace(t.question, dataset="again")) for t in traces)
    config = CalibrateConfig(max_drop=0.05, prices=PRICES, fitted=False, mixed=True)
    found = survey(trace_set([*traces, *renamed]), config)
    assert len(found.ground.questions) == 200
    assert any("400 recorded questions are 200 distinct ones" in line for line in found.warnings)


def test_which_test_depends_on_the_shape_of_the_recording_alone() -> None:
    def kind(traces, **options) -> str:
        return survey(
            traces, CalibrateConfig(max_drop=0.05, fitted=False, **options)
        ).bench.test.kind

    assert kind(make(100)) == "paired"
    assert kind(make(100), loss="harm") == "binomial"
    assert kind(make(100, samples=3)) == "paired"
    assert kind(make(100, samples=4)) == "means"
    assert kind(copied(make(100), 4)) == "means"
    assert kind(make(100, samples=4), test="paired") == "paired"
    assert kind(make(100), test="means") == "means"
    assert kind(make(100), method="crc") == "crc"


@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_plays_are_no_questions(limit: float) -> None:
    """Were a share `limit` of questions lost in all plays, so many would often show none."""
    short = rows_needed(limit, 0.95) - 1
    nothing = np.zeros((short, 24), dtype=bool)
    step = certify.RuleEffect(harmed=nothing, helped=nothing, differs=nothing, stopped=~nothing,
                baseline_right=~nothing, cost=nothing.astype(float),
                baseline_cost=~nothing + 0.0)  # fmt: skip
    for boldest in (BOLDEST, BOLDEST_OF_VOTES):
        for loss in ("drop", "harm"):
            test = replace(certify.Test.of(loss, means=True), boldest=boldest)
            assert test.p_value(step, limit, 0.05) > 0.05


def test_several_samples_show_what_one_of_each_does_not() -> None:
    """A vote's early stop differs on a few questions: their means say by how little."""
    population = POPULATIONS["votes of 12, ended early"]
    saved = {"paired": [], "means": []}
    for seed in range(8):
        traces = population.draw(np.random.default_rng(seed))
        for test, found in saved.items():
            saving = survey(traces, CalibrateConfig(max_drop=0.03, test=test)).rows[2].saving
            found.append(0.0 if saving is None else saving.estimate)
    assert sum(a > b for a, b in zip(saved["means"], saved["paired"], strict=True)) >= 5
    assert np.mean(saved["means"]) > np.mean(saved["paired"]) + 0.02


def test_votes_fit_nothing_and_every_question_certifies(monkeypatch) -> None:
    def never(*args, **more):
        raise AssertionError("a vote's rules need no fit")

    for module, name in ((fit, "logistic"), (fitted, "fit_predictor"), (fitted, "lay_path")):
        monkeypatch.setattr(module, name, never)
    traces = POPULATIONS["votes of 12, ended early"].draw(np.random.default_rng(3))
    found = survey(traces, CalibrateConfig(max_drop=0.05))
    assert found.file is not None
    (chain,) = found.bench.chains
    assert found.bench.share(0) == 1.0
    assert [float(rule.split("threshold=")[1].split(",")[0]) for rule in chain.rules] == list(
        THRESHOLDS
    )
    assert found.file.certificate.data.certify_questions == len(found.ground.questions)
    assert not found.file.certificate.data.fit_questions


GROWING = [name for name in POPULATIONS if "edge" not in name and "group" not in name]


@pytest.mark.parametrize("name", GROWING)
def test_what_certifies_at_one_point_certifies_at_two_with_at_least_as_much_saved(name) -> None:
    limits = (0.005, 0.01, 0.013, 0.02, 0.03, 0.05, 0.08)
    population = POPULATIONS[name]
    for seed in range(2):
        traces = population.draw(np.random.default_rng((5, seed)))
        saved = [0.0]
        found = survey(traces, population.config)
        for limit in limits:
            choice = found.bench.best(limit)
            saved.append(0.0 if choice is None else found.bench.step(choice).saving)
            # The limit that is asked for changes nothing but where the walk ends.
            asked = (
                survey(traces, replace(population.config, max_drop=limit)) if seed == 0 else None
            )
            if asked is not None:
                told = (
                    0.0 if asked.file is None else asked.file.certificate.expected.saving.estimate
                )
                assert told == pytest.approx(saved[-1])
        assert saved == sorted(saved)


def test_the_exact_paired_p_value_never_grows_with_the_limit() -> None:
    generator = np.random.default_rng(2)
    limits = np.linspace(0.004, 0.15, 25)
    for _ in range(12):
        n = int(generator.integers(50, 600))
        harmed, helped = generator.integers(0, max(2, n // 20), 2).tolist()
        pairs = Pairs(n=n, harmed=harmed, helped=helped)
        p_values = [drop_p_value(pairs, float(limit)) for limit in limits]
        assert all(b <= a + 1e-6 for a, b in pairwise(p_values)), pairs


SOUND = ["on the edge, copies", "on the edge, 8 samples of each", "votes of 12, ended early"]


@pytest.mark.parametrize("name", SOUND)
def test_false_certificates_stay_within_what_is_allowed(name) -> None:
    """The whole of calibrate; certificate_validity.py of benchmarks does 500 of every shape."""
    population = POPULATIONS[name]
    found = false_certificates(population, Truth(population, questions=1500), range(16), seed=1)
    assert found.p_value > 0.01, found


def test_copies_counted_as_rows_break_the_same_promise() -> None:
    """The contrast: a prompt of its own for every copy, and the promise is broken."""
    copied = POPULATIONS["40 prompts x 12 copies"]
    population = replace(copied, config=replace(copied.config, loss="harm"))
    truth = Truth(population, questions=2000)
    as_rows = false_certificates(population, truth, range(20), seed=1, distinct=True)
    assert as_rows.p_value < 1e-3, as_rows
    once = false_certificates(population, truth, range(12), seed=1)
    assert once.p_value > 0.05, once


def test_the_order_of_files_and_names_changes_nothing() -> None:
    traces = list(make(150, samples=5, small=(0.97, 0.9)))
    config = CalibrateConfig(max_drop=0.05, prices=PRICES, fitted=False)
    generator = np.random.default_rng(0)
    first = survey(trace_set(traces), config)
    shuffled = [traces[i] for i in generator.permutation(len(traces))]
    second = survey(trace_set(shuffled), config)
    assert [row.saving for row in first.rows] == [row.saving for row in second.rows]
    assert first.ground.questions.keys == second.ground.questions.keys


def test_copies_take_turns_over_plays() -> None:
    traces = copied(make(30), 4)
    ground = Inputs.of(traces, CalibrateConfig(max_drop=0.1, plays=8))
    asked_in_all = {
        traces.questions[q].name for play in range(8) for q in ground.plays.asked(play).tolist()
    }
    assert len(asked_in_all) == 120
    questions = DistinctQuestions.of(traces, range(120))
    assert (len(questions), questions.rows, questions.most_copies) == (30, 120, 4)
