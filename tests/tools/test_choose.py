"""choose: the cheaper way by the token formula, and what it predicts against what is played."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.errors import InputError
from suffice.core.requests import Message
from suffice.policies.registry import parse_policy
from suffice.policies.tool_plan.choose import Choose
from tests.tools.scripted import TOOLS, Recorded, ask, echo, question

ASKED = replace(question("q" * 400), tools=TOOLS)


def way(**options) -> str:
    return Choose(**options).choose(ASKED)[1].partition(":")[0]


def test_a_free_cache_makes_turns_cheaper_and_a_dear_one_plans() -> None:
    """As the recorded episodes have it (docs/tools.md): break-even lies between 0 and 1."""
    chain = {"steps": 4.0, "depth": 4.0}
    assert way(cached_price=0.0, **chain) == "react"
    assert way(cached_price=1.0, **chain) == "rewoo"
    prices = [n / 100 for n in range(101)]
    chosen = [way(cached_price=price, **chain) for price in prices]
    assert chosen == sorted(chosen)  # turns up to a price, a plan from there on
    at = prices[chosen.index("rewoo")]
    react, rewoo = (
        [Choose(cached_price=price, **chain).cost(name, ASKED) for price in (at - 0.01, at)]
        for name in ("react", "rewoo")
    )
    assert react[0] <= rewoo[0] and react[1] >= rewoo[1]


def test_time_that_is_dear_plans_and_starts_early() -> None:
    assert way(cached_price=0.0, second_price=2000.0, steps=6.0, depth=6.0, tool_s=5.0) == "dag"


def test_one_call_is_made_in_turns() -> None:
    assert way(steps=1.0, depth=1.0) == "react"


def test_only_what_is_allowed_is_chosen() -> None:
    assert way(cached_price=1.0, steps=5.0, ways=("react",)) == "react"
    assert way(ways=("none", "react")) == "none"  # it is always cheapest, and knows no tools
    assert Choose().choose(replace(ASKED, tools=()))[1] == "no tools"
    with pytest.raises(InputError, match="ways must be some of none\\+react\\+rewoo\\+dag"):
        Choose(ways=("plan",))
    with pytest.raises(InputError, match="tool_s must be 0 or more"):
        Choose(tool_s=-1.0)


def test_the_chosen_way_runs() -> None:
    policy = parse_policy("choose:cached_price=1,steps=4,depth=4,ways=react+rewoo")
    request = replace(question("q" * 400), messages=(Message(role="user", content="q" * 400),))
    ran = ask(policy, ["#E1 = search[a]", "done"], request=request, server=Recorded(echo))
    assert ran.tools_called == ["search"]
    assert ran.outcome.why == "answered by 1 step of a plan"
