"""A certificate in service: named on every outcome, switched off by an alarm, then the baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.gateway.certificates.guarded_policy import GuardedPolicy
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.wire.receipt import receipt
from suffice.policies.fixed import Single
from suffice.policies.monitor import Judged, Monitor
from suffice.policies.registry import parse_policy
from tests.policies.scripted import FREE_FORM, play
from tests.policies.test_certified import OPEN, PROOF, SHUT, SUM, ask, certified, says

MONITORS = (
    Monitor(quantity="stopped", low=0.9, high=1.0),
    Monitor(quantity="harm", low=0.0, high=0.02),
)


def guard() -> GuardedPolicy:
    found = GuardedPolicy.over(replace(certified(OPEN, SHUT), monitors=MONITORS), Monitors())
    assert isinstance(found, GuardedPolicy)
    return found


def serve(guarded: GuardedPolicy, script, *, request):
    """Play one request as the gateway does, which tells the monitor how it was settled."""
    played = play(guarded, script, request=request)
    return played, guarded.observe(played.outcome)


def test_receipt_names_the_certificate_and_its_status():
    outcome = play(guard(), says(a="4", b="4", big="5"), request=ask(SUM)).outcome
    told = receipt([outcome])
    assert told["certificate"] == {
        "id": "abc", "status": "valid", "not_covered": None, "reason": "",
    }  # fmt: skip
    assert told["exit"] == "accepted"
    assert "at most 1 points lost at 95 %" in outcome.why
    free = receipt([play(guard(), says(a="4", b="4", big="5"), request=FREE_FORM).outcome])
    assert free["certificate"]["status"] == "not covered"
    assert free["certificate"]["not_covered"] == "free_form"
    assert free["exit"] == "safe"
    alone = receipt([play(Single(), ["4"]).outcome])
    assert (alone["certificate"], alone["exit"]) == (None, None)


def test_an_alarm_switches_off_and_the_baseline_takes_over(caplog):
    guarded = guard()
    for _ in range(60):
        serve(guarded, says(a="4", b="3", big="5"), request=ask(SUM))  # nothing agrees any more
    assert guarded.monitor.alarm is not None
    assert caplog.text.count("is switched off") == 1
    after = play(guarded, says(a="4", b="4", big="5"), request=ask(SUM))
    assert (after.answer, after.drawn) == ("5", 1)
    standing = after.outcome.certificate
    assert standing is not None
    assert (standing.status, standing.reason) == ("switched off", guarded.monitor.alarm)
    assert after.outcome.exit == "safe"


def test_answers_carry_the_baselines_right_before_them():
    """One stretch for every answer that is not the baseline's; free-form text is not counted."""
    guarded = guard()
    agree, not_agree = says(a="4", b="4", big="5"), says(a="4", b="3", big="5")
    told = [
        serve(guarded, script, request=request)[1]
        for script, request in (
            (not_agree, ask(SUM)), (not_agree, ask(SUM)), (agree, FREE_FORM), (agree, ask(SUM)),
            (agree, ask(SUM)), (agree, ask(PROOF)), (agree, ask(SUM)),
        )
    ]  # fmt: skip
    assert told == [None, None, None, 2, 0, None, 1]


SAFE_ARMS = (
    "single@big",
    "self_consistency:samples=4@big",
    "adaptive_consistency:max_samples=8@big",
    "adaptive_consistency:max_samples=3,accept=.9@mid > single@big",
    "single@mid > adaptive_consistency:max_samples=3@mid > single@big",
)
ALIKE = says(a="4", b="4", mid="5", big="5")


def over(safe: str, low: float, high: float) -> GuardedPolicy:
    policy = replace(
        certified(OPEN, SHUT),
        safe=parse_policy(safe),
        monitors=(Monitor(quantity="stopped", low=low, high=high),),
    )
    found = GuardedPolicy.over(policy, Monitors())
    assert isinstance(found, GuardedPolicy)
    return found


@pytest.mark.parametrize("safe", SAFE_ARMS)
def test_what_the_baseline_is_made_of_is_no_early_exit(safe):
    """Certified where nothing ends early, and nothing does: the baseline answers every time."""
    guarded = over(safe, 0.0, 0.1)
    for _ in range(300):
        serve(guarded, ALIKE, request=ask(PROOF))
    assert guarded.monitor.alarm is None


@pytest.mark.parametrize("safe", SAFE_ARMS)
def test_a_change_is_seen_whatever_the_baseline_is_made_of(safe):
    """Certified where 90 % or more end early, and now the small models never agree."""
    guarded = over(safe, 0.9, 1.0)
    needed = 0
    while guarded.monitor.alarm is None and needed < 100:
        serve(guarded, says(a="4", b="3", mid="5", big="5"), request=ask(SUM))
        needed += 1
    assert needed < 20


def test_harm_switches_off_and_other_policies_pass_through():
    guarded = guard()
    for _ in range(4):
        guarded.monitor.observe(Judged(harmed=True, helped=False))
    assert guarded.monitor.alarm is not None
    assert GuardedPolicy.over(Single(), Monitors()) == Single()
