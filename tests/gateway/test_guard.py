"""A certificate in service: named on every outcome, voided by drift, then the safe arm answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.errors import InputError
from suffice.gateway.arms import Arms
from suffice.gateway.config import GatewayConfig
from suffice.gateway.guard import Guard
from suffice.gateway.receipt import receipt
from suffice.gateway.watches import Watches
from suffice.policies.drift import Monitor
from suffice.policies.fixed import Single
from suffice.policies.registry import parse_policy
from tests.policies.scripted import FREE_FORM, play
from tests.policies.test_certified import OPEN, PROOF, SHUT, SUM, ask, certified, says

MONITORS = (
    Monitor(quantity="stopped", low=0.9, high=1.0),
    Monitor(quantity="harm", low=0.0, high=0.02),
)


def guard() -> Guard:
    found = Guard.over(replace(certified(OPEN, SHUT), monitors=MONITORS), Watches())
    assert isinstance(found, Guard)
    return found


def serve(guarded: Guard, script, *, request):
    """Play one request as the gateway does, which tells the monitor how it was settled."""
    played = play(guarded, script, request=request)
    guarded.observe(played.outcome)
    return played


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


def test_drift_voids_and_the_safe_arm_takes_over(caplog):
    watched = guard()
    for _ in range(60):
        serve(watched, says(a="4", b="3", big="5"), request=ask(SUM))  # nothing agrees any more
    assert watched.monitor.void is not None
    assert caplog.text.count("is void") == 1
    after = play(watched, says(a="4", b="4", big="5"), request=ask(SUM))
    assert (after.answer, after.drawn) == ("5", 1)
    standing = after.outcome.certificate
    assert standing is not None
    assert (standing.status, standing.reason) == ("void", watched.monitor.void)
    assert after.outcome.exit == "safe"


SAFE_ARMS = (
    "single@big",
    "self_consistency:samples=4@big",
    "adaptive_consistency:max_samples=8@big",
    "adaptive_consistency:max_samples=3,accept=.9@mid > single@big",
    "single@mid > adaptive_consistency:max_samples=3@mid > single@big",
)
ALIKE = says(a="4", b="4", mid="5", big="5")


def over(safe: str, low: float, high: float) -> Guard:
    policy = replace(
        certified(OPEN, SHUT),
        safe=parse_policy(safe),
        monitors=(Monitor(quantity="stopped", low=low, high=high),),
    )
    found = Guard.over(policy, Watches())
    assert isinstance(found, Guard)
    return found


@pytest.mark.parametrize("safe", SAFE_ARMS)
def test_what_the_safe_arm_is_made_of_is_no_early_exit(safe):
    """Certified where nothing ends early, and nothing does: the safe arm answers every time."""
    guarded = over(safe, 0.0, 0.1)
    for _ in range(300):
        serve(guarded, ALIKE, request=ask(PROOF))
    assert guarded.monitor.void is None


@pytest.mark.parametrize("safe", SAFE_ARMS)
def test_drift_is_seen_whatever_the_safe_arm_is_made_of(safe):
    """Certified where the cheap arm answers 90 % or more, and now it never agrees."""
    guarded = over(safe, 0.9, 1.0)
    needed = 0
    while guarded.monitor.void is None and needed < 100:
        serve(guarded, says(a="4", b="3", mid="5", big="5"), request=ask(SUM))
        needed += 1
    assert needed < 20


def test_feedback_counts_and_other_policies_pass_through():
    watched = guard()
    for _ in range(6):
        watched.feedback(True)
    assert watched.monitor.void is not None
    assert Guard.over(Single(), Watches()) == Single()


def test_an_audit_reaches_the_one_certified_policy_in_service():
    arms, watched = Arms(GatewayConfig()), guard()
    with pytest.raises(InputError, match="there are 0"):
        arms.audited(harm=True)
    arms._tables["careful"] = watched
    for _ in range(6):
        arms.audited(harm=True)
    assert watched.monitor.void is not None
    arms._tables["other"] = guard()
    with pytest.raises(InputError, match="there are 2"):
        arms.check_audit()
