"""What the baseline would have cost: exact where its calls were made, an estimate elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.completions import Completion, Cost, Outcome, SampleRecord, Usage
from suffice.core.prices import Prices
from suffice.core.requests import Message, Request
from suffice.core.savings import Saving, saved_in_words, together
from suffice.core.thinking import Thinking
from suffice.executors.baseline import Baseline, Length, compare
from suffice.policies.registry import parse_policy

SMALL, LARGE = "small", "large"
ASKED = Request(
    messages=(Message(role="user", content="1 + 1?"),), model=LARGE, answer_format="number"
)
PRICES = Prices.parse(["small=1/2/0.5", "large=4/8/2"])


def record(number: int, model: str = SMALL, *, prompt: int = 10, drawn: int = 5, **how):
    usage = Usage(prompt_tokens=prompt, completion_tokens=drawn, cached_tokens=how.pop("hit", None))
    kept = {"purpose": "answer", "status": "finished", "answer": "2", **how}
    return SampleRecord(sample=number, model=model, usage=usage, **kept)


def outcome(*records: SampleRecord, accepted: int = 0) -> Outcome:
    usage = sum((each.usage for each in records), Usage())
    return Outcome(
        completion=Completion(text="2", finish_reason="stop", usage=usage, model="m"),
        sample=accepted, arm="any", why="", confidence=None, usage=usage, cost=Cost(),
        records=records, elapsed_s=0.0, overhead_s=0.0,
    )  # fmt: skip


def baseline(text: str = f"single@{LARGE}") -> Baseline:
    return Baseline.of(text, parse_policy(text), LARGE)


def against(found: Outcome, text: str = f"single@{LARGE}", **how) -> Saving | None:
    return compare(found, ASKED, baseline(text), **{"cost_model": PRICES, **how})


def usd(*records: SampleRecord) -> float:
    return sum(PRICES.amount(each.model, each.usage) for each in records)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("single", True), (f"single@{LARGE}", True), ("single:logprobs=no", True),
        (f"single@{SMALL}", False), ("single:effort=low", False), ("single:max_tokens=5", False),
        ("self_consistency:samples=1", True), ("self_consistency:samples=2", False),
        ("adaptive_consistency", False), ("answer_stability", False),
        (f"single@{SMALL} > single@{LARGE}", False),
    ],
)  # fmt: skip
def test_one_plain_call_is_told_by_what_a_policy_does(text: str, one: bool) -> None:
    assert Baseline.of(text, parse_policy(text), LARGE).one_call == one


def test_an_escalated_answer_is_held_against_the_large_models_own_call() -> None:
    small, large = record(0), record(1, LARGE, drawn=20)
    saving = against(outcome(small, large, accepted=1))
    assert saving is not None
    assert (saving.basis, saving.method, saving.unit) == ("measured", "calls", "usd")
    assert saving.cost == pytest.approx(usd(small, large))
    assert saving.baseline_cost == pytest.approx(usd(large))
    assert saving.saved == pytest.approx(-usd(small) / usd(large))


def test_the_same_call_is_no_saving() -> None:
    saving = against(outcome(record(0, LARGE)))
    assert saving is not None
    assert (saving.basis, saving.saved) == ("same", None)
    assert saving.cost == saving.baseline_cost


def test_a_vote_is_held_against_its_first_sample() -> None:
    drawn = [record(n, LARGE, drawn=5 + n) for n in range(4)]
    saving = against(outcome(*drawn))
    assert saving is not None
    assert saving.baseline_cost == pytest.approx(usd(drawn[0]))
    assert saving.cost == pytest.approx(usd(*drawn))


def test_the_baselines_call_reads_the_prompt_whoever_of_the_siblings_did() -> None:
    """The engine says that sample 0 found the prompt in the cache, where sample 1 had put it."""
    drawn = [record(0, LARGE, hit=10), record(1, LARGE, hit=0), record(2, LARGE, hit=10)]
    saving = against(outcome(*drawn))
    assert saving is not None
    assert saving.baseline_cost == pytest.approx(usd(record(0, LARGE, hit=0)))


def test_a_first_sample_that_was_stopped_is_estimated_by_the_others() -> None:
    stopped = record(0, LARGE, drawn=2, status="cancelled")
    saving = against(outcome(stopped, record(1, LARGE, drawn=6), record(2, LARGE, drawn=8)))
    assert saving is not None
    assert (saving.basis, saving.method) == ("estimated", "mean_sample")
    assert saving.baseline_cost == pytest.approx(usd(record(0, LARGE, drawn=7)))


def test_a_baseline_that_was_not_asked_is_estimated_and_says_how() -> None:
    found = outcome(record(0, drawn=12))
    saving = against(found)
    assert saving is not None
    assert (saving.basis, saving.method) == ("estimated", "same_length")
    assert saving.baseline_cost == pytest.approx(usd(record(0, LARGE, drawn=12)))
    known = Length(30.0, "recorded", "calibration")
    saving = against(found, length_of=lambda outcome, baseline: known)
    assert saving is not None
    assert (saving.basis, saving.method) == ("recorded", "calibration")
    assert saving.baseline_cost == pytest.approx(usd(record(0, LARGE, drawn=30)))


def test_a_short_answer_without_thinking_says_nothing_of_one_with_it() -> None:
    """The baseline thinks as the request says; nothing here tells how long."""
    found = outcome(record(0, thinking=Thinking(enabled=False)))
    assert against(found) is None


def test_samples_of_another_question_are_none_of_the_baselines() -> None:
    changed = record(0, LARGE, plain=False)
    assert against(outcome(changed)) is None
    probe = record(1, LARGE, purpose="probe")
    saving = against(outcome(record(0, drawn=9), probe))
    assert saving is not None
    assert saving.method == "same_length"


def test_two_models_without_prices_are_not_compared_and_one_is_in_tokens() -> None:
    free = Prices()
    assert against(outcome(record(0)), cost_model=free) is None
    saving = against(outcome(record(0, LARGE), record(1, LARGE)), cost_model=free)
    assert saving is not None
    assert (saving.unit, saving.cost, saving.baseline_cost) == ("tokens", 30.0, 15.0)


def test_prices_of_a_policy_file_weigh_tokens_where_no_money_is_known() -> None:
    saving = against(outcome(record(0, drawn=12)), cost_model=Prices(), relative=PRICES)
    assert saving is not None
    assert saving.unit == "tokens"  # in completion tokens of the baseline's model
    assert saving.cost == pytest.approx((10 * 1 + 12 * 2) / 8)
    assert saving.baseline_cost == pytest.approx((10 * 4 + 12 * 8) / 8)


def test_a_vote_as_the_baseline_is_played_over_what_was_drawn() -> None:
    text = f"self_consistency:samples=3@{LARGE}"
    drawn = [record(n, LARGE, drawn=5 + n) for n in range(3)]
    whole = against(outcome(*drawn), text)
    assert whole is not None
    assert whole.basis == "same"
    more = against(outcome(record(9), *drawn), text)
    assert more is not None
    assert (more.basis, more.baseline_cost) == ("measured", pytest.approx(usd(*drawn)))
    fewer = against(outcome(*drawn[:2]), text)
    assert fewer is not None
    assert (fewer.basis, fewer.method) == ("estimated", "mean_sample")
    assert fewer.baseline_cost == pytest.approx(usd(*drawn[:2], record(0, LARGE, drawn=6)))
    none = against(outcome(record(0, drawn=7)), text)
    assert none is not None
    assert none.baseline_cost == pytest.approx(3 * usd(record(0, LARGE, drawn=7)))
    known = Length(30.0, "recorded", "calibration")
    said = against(outcome(record(0)), text, length_of=lambda outcome, baseline: known)
    assert said is not None
    assert said.baseline_cost == pytest.approx(3 * usd(record(0, LARGE, drawn=10)))


def test_early_stopping_as_the_baseline_stops_where_it_would() -> None:
    text = f"adaptive_consistency:max_samples=8@{LARGE}"
    drawn = [record(n, LARGE) for n in range(8)]
    saving = against(outcome(*drawn), text)
    assert saving is not None
    assert saving.baseline_cost == pytest.approx(usd(*drawn[:4]))  # 4 equal answers are enough
    assert saving.saved == pytest.approx(-1.0)


USAGES = st.builds(record, st.just(0), st.just(LARGE), prompt=st.integers(1, 500),
                   drawn=st.integers(1, 500))  # fmt: skip


@given(st.lists(USAGES, min_size=1, max_size=6))
def test_against_one_call_of_itself_a_vote_never_saves(drawn: list[SampleRecord]) -> None:
    numbered = [replace(each, sample=number) for number, each in enumerate(drawn)]
    saving = against(outcome(*numbered))
    assert saving is not None
    if len(drawn) == 1:
        assert saving.saved is None
    else:
        assert saving.saved is not None and saving.saved < 0.0
        assert 1.0 - saving.saved == pytest.approx(usd(*numbered) / usd(numbered[0]))


@given(st.lists(st.tuples(USAGES, USAGES), min_size=1, max_size=5))
def test_choices_together_are_their_sums(pairs: list[tuple[SampleRecord, SampleRecord]]) -> None:
    each = [against(outcome(a, replace(b, sample=1))) for a, b in pairs]
    whole = together(each)
    assert whole is not None
    assert whole.cost == pytest.approx(sum(one.cost for one in each if one is not None))
    assert together([*each, None]) is None


@pytest.mark.parametrize(
    ("saved", "said"),
    [(0.216, "22% saved"), (0.0, "0% saved"), (-3.79, "costs 4.8x"), (-0.04, "costs 1.04x")],
)
def test_what_is_said_of_it(saved: float, said: str) -> None:
    assert saved_in_words(saved) == said
