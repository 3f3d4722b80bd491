"""What monitors see in service is what was counted at calibration, whatever the baseline is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from suffice.core.prices import Prices
from suffice.evals.traces.files import trace_set
from suffice.executors.replay import play
from suffice.gateway.certificates.audits import answer_in
from suffice.gateway.certificates.guarded_policy import GuardedPolicy
from suffice.gateway.certificates.monitors import Monitors
from suffice.policies.monitor import Compared
from suffice.policies.policy_of_file import certified_policy
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.fitted import split_questions
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.run import calibrate
from suffice.recipes.recordings import WholeSource
from tests.recipes.known_traces import make

PRICES = Prices.parse(["small=0/1", "large=0/10"])
CASCADE = "adaptive_consistency:max_samples=3,accept=.9@large > self_consistency:samples=3@large"
CASES = {
    "one sample": {"baseline": "single@large"},
    "one sample, one option": {"baseline": "single@large", "options": ("single@small",)},
    "a vote": {"baseline": "self_consistency:samples=6@large"},
    "a vote, fitted": {"baseline": "self_consistency:samples=6@large", "groups": 2, "fitted": True},
    "a vote of the same model": {"baseline": "self_consistency:samples=6@small"},
    "an adaptive vote": {"baseline": "adaptive_consistency:max_samples=6@large"},
    "an adaptive vote, one option": {
        "baseline": "adaptive_consistency:max_samples=6@large", "options": ("single@small",)
    },
    "a cascade": {"baseline": CASCADE, "options": ("single@small",)},
    "a cascade, a vote in front": {
        "baseline": CASCADE, "options": ("adaptive_consistency:max_samples=5@small",)
    },
    "handed to a large model": {
        "baseline": "self_consistency:samples=6@small", "large": "single@large"
    },
    "harm by harm, fitted": {"baseline": "single@large", "loss": "harm", "fitted": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def traces():
    return make(200, samples=6, small=(0.97, 0.6), large=(0.97, 0.95))


@pytest.mark.parametrize("name", CASES)
def test_the_same_questions_in_service_raise_no_alarm_and_count_alike(traces, name):
    config = CalibrateConfig(max_drop=0.08, dimensions=64, prices=PRICES, test="paired",
                             **CASES[name])  # fmt: skip
    file = calibrate(traces, config).file
    recorded, ground = WholeSource(traces), Inputs.of(traces, config)
    policy = certified_policy(file, parse_policy)
    guard = GuardedPolicy.over(replace(policy, subject=type(policy.subject)()), Monitors())
    assert isinstance(guard, GuardedPolicy)
    certify = np.arange(200)
    if file.certificate.data.fit_questions:
        certify = split_questions(ground).certify

    exits: Counter[str | None] = Counter()
    differ = 0
    for number in certify.tolist():
        question = int(ground.plays.asked(0)[number])
        request = recorded.request(question)

        def order(model: str, number: int = number) -> list[int]:
            rows: list[int] = ground.plays.rows(model)[number, 0].tolist()
            return rows

        outcome = play(guard, request, recorded.ordered(question, order)).outcome
        exits[outcome.exit] += 1
        zeros = guard.observe(outcome)
        if zeros is not None:
            whole = play(guard.policy.safe, request, recorded.ordered(question, order)).outcome
            differs = answer_in(whole) != answer_in(outcome)
            differ += differs
            guard.monitor.observe(Compared(differs=differs, zeros=zeros))
        else:  # the baseline gave it: nothing to compare
            assert outcome.exit == "safe"
    assert guard.monitor.alarm is None
    tested = file.certificate.tested
    assert sum(exits.values()) == tested.n
    assert tested.n - exits["safe"] == tested.stopped
    limits = {each.quantity: each for each in file.monitors}
    assert limits["differ"].high >= differ / tested.n
    assert limits["stopped"].low <= tested.stopped / tested.n <= limits["stopped"].high
    assert differ >= tested.harmed + tested.helped


def test_what_is_certified_is_what_is_monitored(traces):
    def monitored(max_drop=0.06, **options):
        config = CalibrateConfig(max_drop=max_drop, prices=PRICES, fitted=False, **options)
        return {each.quantity: each for each in calibrate(traces, config).file.monitors}

    net = monitored(baseline="single@large")
    assert (net["drop"].low, net["drop"].high) == (-1.0, 0.06)
    assert "harm" not in net
    harm = monitored(baseline="single@large", loss="harm")
    assert harm["harm"].high == 0.06
    assert "drop" not in harm
    expected = monitored(max_drop=0.01, baseline="single@large", method="crc")
    # A bound in expectation holds for no single calibration: the range that its data leave does.
    assert expected["harm"].high > 0.01


def test_verdicts_alone_say_nothing_of_answers_that_differ(traces):
    made = make(300, samples=1, small=(0.97, 0.6), large=(0.97, 0.95))
    verdicts = trace_set(
        replace(trace, answer="right" if trace.correct else "wrong") for trace in made
    )
    file = calibrate(verdicts, CalibrateConfig(max_drop=0.08, prices=PRICES, fitted=False)).file
    assert "differ" not in {each.quantity for each in file.monitors}
