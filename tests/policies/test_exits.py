"""By which exit an answer left, and under which certificate: fields, whatever it is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.coverage import Coverage
from suffice.policies.cascade import Cascade, Rung
from suffice.policies.registry import parse_policy
from tests.policies.scripted import FREE_FORM, play
from tests.policies.test_certified import OPEN, PROOF, SHUT, SUM, ask, certified, says

COMPOSED = (
    "single@big",
    "self_consistency:samples=4@big",
    "adaptive_consistency:max_samples=8@big",
    "two_sided:max_samples=12,patience=4,hopeless=.5@big",
    "vote_table:answer=-+2+00@big",
    "esc:window=2,max_samples=6@big",
    "agreement:models=mid+big",
    "adaptive_consistency:max_samples=3,accept=.9@mid > single@big",
    "single@mid > adaptive_consistency:max_samples=3,accept=.9@mid > single@big",
    "auto",
)


@pytest.mark.parametrize("safe", COMPOSED)
@pytest.mark.parametrize(
    ("text", "a", "b", "due"),
    [(SUM, "4", "4", "accepted"), (SUM, "4", "3", "safe"), (PROOF, "4", "4", "safe")],
)
def test_the_exit_is_the_certified_rules_own_whatever_the_safe_arm_is(safe, text, a, b, due):
    policy = replace(certified(OPEN, SHUT), safe=parse_policy(safe))
    found = play(policy, says(a=a, b=b, mid="5", big="5", m="5"), request=ask(text)).outcome
    assert found.exit == due
    assert found.certificate == Coverage(id="abc", status="valid")


@pytest.mark.parametrize("safe", COMPOSED)
def test_free_form_text_is_not_covered(safe):
    policy = replace(certified(OPEN, SHUT), safe=parse_policy(safe))
    found = play(policy, says(a="4", b="4", mid="5", big="5", m="5"), request=FREE_FORM).outcome
    assert found.certificate is not None
    assert (found.certificate.status, found.exit) == ("not covered", "safe")


@pytest.mark.parametrize(
    ("text", "script", "due"),
    [
        ("adaptive_consistency:max_samples=8", ["7"] * 8, "accepted"),
        ("adaptive_consistency:max_samples=4", ["1", "2", "3", "4"], "safe"),
        # It is settled by the last sample: as many were drawn as a whole vote draws.
        ("adaptive_consistency:max_samples=5,threshold=.89", ["1", "2", "1", "1", "1"], "safe"),
        ("two_sided:max_samples=8,patience=4,hopeless=.3", list("12345678"), "hopeless"),
        ("two_sided:max_samples=4,patience=4,hopeless=.3", list("1234"), "safe"),
        ("vote_table:answer=-+2+00", ["1", "1"], "accepted"),
        ("vote_table:answer=-+2+00", ["1", "2", "1"], "safe"),
        ("esc:window=2,max_samples=6", ["1", "1"], "accepted"),
        ("esc:window=2,max_samples=4", ["1", "2", "1", "1"], "safe"),
        ("self_consistency:samples=3", ["1", "1", "1"], None),
        ("single", ["1"], None),
        ("single > single", ["1"], "accepted"),
        ("single:accept=.5 > single", ["1", "1"], "safe"),
        ("two_sided:max_samples=8,patience=4,hopeless=.3 > single", list("12345678"), "hopeless"),
        # The last rung settles it early: the cascade left nothing out all the same.
        ("single:accept=.5 > adaptive_consistency:max_samples=9", ["1"] * 9, "safe"),
        # A vote at its cap is an earlier step's answer where another step stands behind it.
        ("vote_table:answer=-+2+00 > single", ["1", "2", "1", "9"], "accepted"),
    ],
)
def test_exits_of_policies_by_themselves(text, script, due):
    found = play(parse_policy(text), script).outcome
    assert found.exit == due
    assert found.certificate is None


def test_a_certified_rung_does_not_certify_the_cascade():
    inside = Cascade(
        rungs=(
            Rung(policy=certified(OPEN, SHUT)),
            Rung(policy=parse_policy("single")),
        )
    )
    found = play(inside, says(a="4", b="4", big="5"), request=ask(SUM)).outcome
    assert found.certificate is not None
    assert found.certificate.status == "not covered"
