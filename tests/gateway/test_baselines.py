"""Which baseline a request is compared with, and what is known of one that was not asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from suffice.core.completions import Completion, Cost, Outcome, SampleRecord, Usage
from suffice.core.coverage import Coverage
from suffice.core.errors import ConfigError
from suffice.core.prices import Prices
from suffice.core.savings import Saving
from suffice.gateway.baselines import (
    ENOUGH,
    Baselines,
    Lengths,
    baseline_in_words,
    price_notes,
)
from suffice.gateway.config import GatewayConfig, ModelsConfig
from suffice.gateway.policy_router import PolicyRouter
from suffice.gateway.wire.requests import SufficeFields
from suffice.policies.registry import parse_policy
from tests.policies.policy_table import policy_table

SMALL, LARGE = "small", "large"
TABLE = policy_table(
    f"single@{SMALL}", f"single@{LARGE}", model=SMALL, models=(SMALL, LARGE)
)  # fmt: skip
CASCADE = f"single:accept=.9@{SMALL} > single@{LARGE}"


def config(**settings: Any) -> GatewayConfig:
    return GatewayConfig(policies={"careful": TABLE}, **settings)


def text_of(settings: GatewayConfig, named: str, wishes: dict[str, Any]) -> str:
    arm = PolicyRouter(settings).choose(named, SufficeFields(**wishes))
    policy = arm.policy or PolicyRouter.plain
    found = Baselines(settings).of(asked=arm.asked, target=arm.model or SMALL, policy=policy)
    return found.text


@pytest.mark.parametrize(
    ("settings", "model", "wishes", "text"),
    [
        ({}, SMALL, {"policy": "self_consistency"}, f"single@{SMALL}"),
        ({}, "suffice/auto", {}, f"single@{SMALL}"),  # the first upstream's first model
        ({"model": LARGE}, "suffice/auto", {}, f"single@{LARGE}"),
        ({}, "suffice/auto", {"model": LARGE}, f"single@{LARGE}"),
        ({}, "suffice/careful", {}, f"single@{LARGE}"),  # the file's own baseline
        ({"baseline": f"single@{SMALL}"}, "suffice/careful", {}, f"single@{SMALL}"),
        ({"baseline": f"single@{LARGE}"}, "suffice/auto", {}, f"single@{LARGE}"),
        # Who asks for the small model would get the small one without us.
        ({"baseline": f"single@{LARGE}"}, SMALL, {"policy": "esc"}, f"single@{SMALL}"),
        ({"baseline": f"single@{LARGE}"}, LARGE, {"policy": "esc"}, f"single@{LARGE}"),
        ({"baseline": "self_consistency:samples=4"}, SMALL, {"policy": "esc"},
         f"self_consistency:samples=4@{SMALL}"),
    ],
)  # fmt: skip
def test_what_a_request_is_compared_with(
    settings: dict[str, Any], model: str, wishes: dict[str, Any], text: str
) -> None:
    assert text_of(config(**settings), model, wishes) == text


def test_a_baseline_that_is_no_policy_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match="baseline: unknown policy 'singel'; did you mean single"):
        Baselines(config(baseline="singel@x"))


def test_a_policy_over_two_models_is_for_its_own_name() -> None:
    """An operator's policy leaves a request for one model alone; a request that names it errs."""
    arms = PolicyRouter(config(policy="careful"))
    assert arms.choose(SMALL, SufficeFields()).policy is None
    assert arms.choose("suffice/auto", SufficeFields()).policy is not None
    wished = arms.choose(SMALL, SufficeFields(answer_format="number")).policy
    assert wished is not None and wished.name == "single"  # it runs, on the model that was named
    for text in ("careful", CASCADE):
        with pytest.raises(ValueError, match=f"asks .*{LARGE}, and the request is for {SMALL}"):
            arms.choose(SMALL, SufficeFields(policy=text))


def test_by_name_the_operator_may_allow_it() -> None:
    allowed = ModelsConfig(may_answer_for={SMALL: (LARGE,)})
    arms = PolicyRouter(config(policy="careful", models=allowed))
    large = arms.choose(LARGE, SufficeFields())
    assert large.policy is not None and large.policy.name == "certified"
    assert arms.choose(SMALL, SufficeFields()).policy is None
    assert arms.choose("other", SufficeFields()).policy is None


# --- lengths of answers that the baseline did not give


def outcome(tokens: int, *, large: int = 0, valid: bool = True) -> Outcome:
    records = [record(0, SMALL, tokens)] + ([record(1, LARGE, large)] if large else [])
    usage = sum((each.usage for each in records), Usage())
    return Outcome(
        completion=Completion(text="", finish_reason="stop", usage=usage), sample=0,
        arm="certified", why="", confidence=None, usage=usage, cost=Cost(),
        records=tuple(records), elapsed_s=0.0, overhead_s=0.0,
        certificate=Coverage(id="c", status="valid" if valid else "not covered"),
    )  # fmt: skip


def record(number: int, model: str, tokens: int) -> SampleRecord:
    usage = Usage(prompt_tokens=3, completion_tokens=tokens)
    return SampleRecord(
        sample=number, model=model, purpose="answer", status="finished", usage=usage
    )


def guard(unasked_tokens: float | None, questions: int = 0) -> Any:
    found: Any = PolicyRouter(config())._tables["careful"]
    certified = replace(
        found.policy, unasked_tokens=unasked_tokens, unasked_questions=questions
    )  # fmt: skip
    return replace(found, policy=certified)


def test_a_recording_tells_and_audits_correct_it() -> None:
    lengths, certified = Lengths(), guard(30.0, questions=60)
    against = Baselines(config()).of(asked=None, target=SMALL, policy=certified)

    def length() -> tuple[float, str]:
        found = lengths.of(outcome(5), against, certified)
        assert found is not None and found.basis == "recorded"
        return found.tokens, found.method

    assert length() == (30.0, "calibration")
    for _ in range(ENOUGH):
        lengths.audited(certified, outcome(0, large=50))
    assert length() == (pytest.approx((60 * 30 + 20 * 50) / 80), "audits")
    assert lengths.of(outcome(5, valid=False), against, certified) is None
    other = Baselines(config(baseline=f"single@{SMALL}")).of(
        asked=None, target=SMALL, policy=certified
    )
    assert lengths.of(outcome(5), other, certified) is None  # it was recorded of another baseline


def test_audits_alone_tell_where_nothing_was_recorded() -> None:
    lengths, certified = Lengths(), guard(None)
    against = Baselines(config()).of(asked=None, target=SMALL, policy=certified)
    for count in range(ENOUGH):
        assert lengths.of(outcome(5), against, certified) is None, count
        lengths.audited(certified, outcome(0, large=40))
    found = lengths.of(outcome(5), against, certified)
    assert found is not None and (found.tokens, found.method) == (40.0, "audits")


def test_earlier_requests_that_asked_both_give_a_ratio() -> None:
    lengths, policy = Lengths(), parse_policy(CASCADE)
    against = Baselines(config(baseline=f"single@{LARGE}")).of(
        asked=None, target=SMALL, policy=policy
    )
    measured = Saving(
        baseline=against.text, cost=1, baseline_cost=1, unit="usd", basis="measured", method="calls"
    )
    for number in range(ENOUGH):
        assert lengths.of(outcome(6), against, policy) is None, number
        lengths.learn(outcome(4, large=10), against, measured)
    found = lengths.of(outcome(6), against, policy)
    assert found is not None
    assert (found.tokens, found.basis, found.method) == (15.0, "estimated", "both_asked")


# --- what is said at the start


def test_the_start_says_what_is_compared_and_what_lacks_a_price() -> None:
    assert baseline_in_words(config(baseline=f"single@{LARGE}")) == "single@large; costs in tokens"
    assert "costs in USD" in baseline_in_words(config(prices=Prices.parse(["a=1/2"])))
    (note,) = price_notes(config(prices=Prices.parse([f"{SMALL}=1/2"])))
    assert f"no price for {LARGE}" in note and "careful" in note and "--price" in note
    assert not price_notes(config(prices=Prices.parse(["*=1/2"])))
