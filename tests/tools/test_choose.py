"""choose: the cheaper way by the token formula, and what it predicts against what is played."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.errors import InputError
from suffice.core.prices import TokenPrice
from suffice.core.requests import Message, ToolMeasured
from suffice.policies.registry import parse_policy
from suffice.policies.tool_plan.choose import Choose
from suffice.tools.measured import ToolTimes
from suffice.tools.toolbox import Toolbox
from tests.tools.scripted import TOOLS, Recorded, ask, echo, question, tool
from tests.tools.virtual_time import run_in_virtual_time

ASKED_BARE = question("q" * 400)
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


def test_calls_may_be_forecast_from_the_length_of_the_question() -> None:
    line = {"steps": -1.0, "steps_per_char": 0.05, "depth": -1.0, "depth_per_char": 0.05}
    chooser = Choose(cached_price=1.0, **line)
    chosen = [
        chooser.choose(replace(question("q" * length), tools=TOOLS))[1].partition(":")[0]
        for length in (10, 20, 120)  # no call, none, five in a row
    ]
    assert chosen == ["react", "react", "rewoo"]


def test_a_way_that_is_right_more_often_is_taken_if_wrong_answers_have_a_price() -> None:
    plan = {"cached_price": 1.0, "steps": 4.0, "depth": 4.0, "rewoo_right": 0.6, "react_right": 0.9}
    assert way(**plan) == "rewoo"
    gap = Choose(**plan).cost("react", ASKED) - Choose(**plan).cost("rewoo", ASKED)
    ways = ("react", "rewoo")
    assert way(**plan, ways=ways, wrong_price=gap / 0.3 * 0.99) == "rewoo"
    assert way(**plan, ways=ways, wrong_price=gap / 0.3 * 1.01) == "react"


def test_only_what_is_allowed_is_chosen() -> None:
    assert way(cached_price=1.0, steps=5.0, ways=("react",)) == "react"
    assert way(ways=("none", "react")) == "none"  # it is always cheapest, and knows no tools
    assert Choose().choose(replace(ASKED, tools=()))[1] == "no tools"
    with pytest.raises(
        InputError, match="ways must be some of none\\+react\\+rewoo\\+dag\\+program\\+abstraction"
    ):
        Choose(ways=("plan",))
    with pytest.raises(InputError, match="tool_s must be 0 or more"):
        Choose(tool_s=-1.0)


def dearer(**options: float) -> float:
    """What a plan costs more than an answer with names."""
    policy = Choose(**options)
    return policy.cost("rewoo", ASKED) - policy.cost("abstraction", ASKED)


def test_an_answer_with_names_costs_least_and_is_chosen_only_where_it_is_allowed() -> None:
    """It reads the conversation once; one that is often wrong loses at a price of wrong answers."""
    plan = {"cached_price": 1.0, "steps": 4.0, "depth": 2.0}
    ways = ("rewoo", "dag", "abstraction")
    assert way(**plan) in ("react", "rewoo", "dag")
    assert way(**plan, ways=ways) == "abstraction"
    gap = dearer(**plan)
    # The second sample is saved: what it reads and its wait, no token that is written.
    assert dearer(**plan, completion_price=50.0) == pytest.approx(gap)
    assert dearer(**plan, second_price=1.0, first_s=0.3) == pytest.approx(gap + 0.3)
    rarely = {**plan, "ways": ways, "abstraction_right": 0.5}
    assert way(**rarely, wrong_price=gap / 0.5 * 0.99) == "abstraction"
    assert way(**rarely, wrong_price=gap / 0.5 * 1.01) == "rewoo"


def test_the_chosen_way_runs() -> None:
    policy = parse_policy("choose:cached_price=1,steps=4,depth=4,ways=react+rewoo")
    request = replace(question("q" * 400), messages=(Message(role="user", content="q" * 400),))
    ran = ask(policy, ["#E1 = search[a]", "done"], request=request, server=Recorded(echo))
    assert ran.tools_called == ["search"]
    assert ran.outcome.why == "answered by 1 step of a plan"


def measured(seconds: float, chars: float):
    seen = ToolMeasured(calls=9, seconds=seconds, result_chars=chars)
    return replace(ASKED, tools=tuple(replace(tool, measured=seen) for tool in TOOLS))


def test_what_calls_take_is_measured() -> None:
    """Slow tools are planned for, where time is dear; options come before measurements."""
    dear = {"steps": 4.0, "depth": 4.0, "cached_price": 0.0, "second_price": 100.0}
    chosen = [Choose(**dear).choose(measured(s, 400.0))[1].partition(":")[0] for s in (0.01, 9.0)]
    assert chosen == ["react", "dag"]
    said = Choose(**dear, tool_s=0.01)
    assert said.choose(measured(9.0, 400.0))[1].startswith("react")
    short, long = (Choose().cost("rewoo", measured(1.0, chars)) for chars in (40.0, 4_000.0))
    assert long - short == pytest.approx(3 * (4_000 - 40) / 4)


def test_a_toolbox_measures_its_calls_and_tells_the_next_request() -> None:
    times = ToolTimes()
    server = Recorded(echo, delay_s=lambda tool, arguments: 3.0)

    async def main(clock) -> None:
        for word in ("a", "bb"):
            await Toolbox([server], times=times).call("search", {"query": word})

    run_in_virtual_time(main)
    told = {
        tool.name: tool.measured for tool in Toolbox([server], times=times).equip(ASKED_BARE).tools
    }
    assert told["search"] == ToolMeasured(calls=2, seconds=3.0, result_chars=11.5)
    assert told["look_up"] is None


def test_prices_are_the_upstreams_unless_options_say_them() -> None:
    price = TokenPrice(prompt_usd=2.0, completion_usd=6.0, cached_usd=0.5)
    found = Choose().priced(price)
    assert (found.cached_price, found.completion_price) == (0.25, 3.0)
    assert Choose().priced(replace(price, cached_usd=None)).cached_price == 1.0  # it has no cache
    assert Choose(cached_price=0.0).priced(price).cached_price == 0.0
    assert Choose().priced(None) == Choose()


def test_a_program_is_chosen_only_where_one_can_be_run() -> None:
    policy = Choose(ways=("react", "program"), steps=6.0, depth=1.0, cached_price=1.0)
    assert policy.choose(ASKED)[1].startswith("react")
    able = replace(ASKED, tools=(*TOOLS, tool("run_python")))
    assert policy.choose(able)[1].startswith("program")
