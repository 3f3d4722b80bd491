from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.completions import Cost, Usage, total_cost
from suffice.core.errors import InputError, UnknownName
from suffice.core.prices import Prices, TokenPrice, parse_price

RATES = st.floats(min_value=0, max_value=1e6, allow_nan=False)
PRICE = st.builds(
    TokenPrice, prompt_usd=RATES, completion_usd=RATES, cached_usd=st.none() | RATES
)  # fmt: skip


def test_prompt_completion_and_cached_tokens_each_have_their_price() -> None:
    model, price = parse_price("Qwen/Qwen3-8B=0.5/2/0.05")
    assert model == "Qwen/Qwen3-8B"
    usage = Usage(prompt_tokens=1000, cached_tokens=600, completion_tokens=100)
    assert price.usd(usage) == pytest.approx((400 * 0.5 + 600 * 0.05 + 100 * 2) / 1e6)
    without = parse_price("Qwen/Qwen3-8B=0.5/2")[1]
    assert without.usd(usage) == pytest.approx((1000 * 0.5 + 100 * 2) / 1e6)


def test_more_cached_tokens_than_the_prompt_has_never_make_a_refund() -> None:
    price = TokenPrice(prompt_usd=1.0, completion_usd=1.0, cached_usd=0.0)
    assert price.usd(Usage(prompt_tokens=10, cached_tokens=50)) == 0.0


def test_a_models_name_may_hold_an_equals_sign() -> None:
    assert parse_price("a=b=1/2")[0] == "a=b"


@pytest.mark.parametrize(
    "text",
    ["a", "a=", "a=1", "a=1/2/3/4", "=1/2", "a=1/x", "a=-1/2", "a=nan/1", "a=inf/1", "a=1/2/", ""],
)
def test_what_is_no_price_is_refused_with_the_notation(text: str) -> None:
    with pytest.raises(InputError, match="PROMPT/COMPLETION") as caught:
        parse_price(text)
    assert repr(text) in str(caught.value)


def test_a_model_with_two_prices_is_refused() -> None:
    with pytest.raises(InputError, match="two prices"):
        Prices.parse(["a=1/2", "a=2/3"])


@given(st.dictionaries(st.text(min_size=1), PRICE, max_size=4))
def test_a_table_reads_back_as_it_was_written(known: dict[str, TokenPrice]) -> None:
    prices = Prices(tuple(known.items()))
    assert Prices.of_table(prices.table()) == prices


def test_a_star_is_every_model_without_a_price_of_its_own() -> None:
    prices = Prices.parse(["a=1/2", "*=3/4"])
    assert prices.of("b") == TokenPrice(prompt_usd=3, completion_usd=4)
    assert prices.of("a") == TokenPrice(prompt_usd=1, completion_usd=2)
    assert Prices.parse(["a=1/2"]).lacking(["a", "b", "b"]) == ("b",)


def test_without_prices_tokens_are_counted_and_with_some_none_may_lack() -> None:
    usage = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3)
    assert (Prices().amount("any", usage), Prices().unit) == (12.0, "tokens")
    priced = Prices.parse(["a=1e6/1e6"])
    assert (priced.amount("a", usage), priced.unit) == (12.0, "usd")
    with pytest.raises(InputError, match="b has no price"):
        priced.amount("b", usage)
    assert priced("b", usage).usd is None  # as a cost model it only leaves money unknown


def test_prices_of_unknown_models_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean large"):
        Prices.parse(["larg=1/2"]).check(("small", "large"), where="recorded")


@given(PRICE, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_costs_are_never_negative_and_grow_with_tokens(
    price: TokenPrice, prompt: int, cached: int, drawn: int
) -> None:
    usage = Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=drawn)
    more = Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=drawn + 1)
    assert 0.0 <= price.usd(usage) <= price.usd(more)


def test_money_that_is_not_known_of_one_sample_is_not_known_of_all() -> None:
    priced = Prices.parse(["a=1/2"])
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    known, unknown = priced("a", usage), priced("b", usage)
    assert total_cost([known, known]).usd == pytest.approx(2 * (known.usd or 0.0))
    assert total_cost([known, unknown]).usd is None
    assert total_cost([known, unknown]).tokens == 10
    assert total_cost([]) == Cost()
