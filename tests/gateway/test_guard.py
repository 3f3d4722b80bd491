"""A certificate in service: named on every outcome, voided by drift, then the safe arm answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.errors import InputError
from suffice.gateway.arms import Arms
from suffice.gateway.config import GatewayConfig
from suffice.gateway.guard import Guard, certificate_of
from suffice.gateway.receipt import receipt
from suffice.gateway.watches import Watches
from suffice.policies.drift import Monitor
from suffice.policies.fixed import Single
from tests.policies.scripted import FREE_FORM, play
from tests.policies.test_certified import OPEN, SHUT, SUM, ask, certified, says

MONITORS = (
    Monitor(quantity="stopped", low=0.9, high=1.0),
    Monitor(quantity="harm", low=0.0, high=0.02),
)


def guard() -> Guard:
    found = Guard.over(replace(certified(OPEN, SHUT), monitors=MONITORS), Watches())
    assert isinstance(found, Guard)
    return found


def test_receipt_names_the_certificate_and_its_status():
    outcome = play(guard(), says(a="4", b="4", big="5"), request=ask(SUM)).outcome
    assert receipt(outcome)["certificate"] == {"id": "abc", "status": "valid"}
    assert "at most 1 points lost at 95 %" in outcome.why
    free = play(guard(), says(a="4", b="4", big="5"), request=FREE_FORM).outcome
    assert certificate_of(free.why) == {"id": "abc", "status": "not covered"}
    assert certificate_of("one sample") is None


def test_drift_voids_and_the_safe_arm_takes_over(caplog):
    watched = guard()
    for _ in range(60):
        play(watched, says(a="4", b="3", big="5"), request=ask(SUM))  # nothing agrees any more
    assert watched.watch.void is not None
    assert caplog.text.count("is void") == 1
    after = play(watched, says(a="4", b="4", big="5"), request=ask(SUM))
    assert (after.answer, after.drawn) == ("5", 1)
    assert certificate_of(after.outcome.why) == {"id": "abc", "status": "void"}


def test_feedback_counts_and_other_policies_pass_through():
    watched = guard()
    for _ in range(6):
        watched.feedback(True)
    assert watched.watch.void is not None
    assert Guard.over(Single(), Watches()) == Single()


def test_an_audit_reaches_the_one_certified_policy_in_service():
    arms, watched = Arms(GatewayConfig()), guard()
    with pytest.raises(InputError, match="there are 0"):
        arms.audited(harm=True)
    arms._tables["careful"] = watched
    for _ in range(6):
        arms.audited(harm=True)
    assert watched.watch.void is not None
    arms._tables["other"] = guard()
    with pytest.raises(InputError, match="there are 2"):
        arms.check_audit()
