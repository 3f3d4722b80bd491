"""Engine time: shares add up to the time in which an engine had work, counted another way."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from suffice.executors.engine_time import EngineTime

Span = tuple[str, int, int]  # model, from, to


def counted(spans: list[Span], sample: int) -> Fraction:
    """A sample's share by the definition, tick by tick."""
    model, begun, ended = spans[sample]
    return sum(
        (Fraction(1, sum(m == model and a <= t < b for m, a, b in spans))
         for t in range(begun, ended)), Fraction(0),
    )  # fmt: skip


def measured(spans: list[Span], others: float = 0.0) -> list[float]:
    now = [0.0]
    engines = EngineTime(lambda: now[0])
    found, begun = [0.0] * len(spans), {}
    moments = sorted({t for _, a, b in spans for t in (a, b)})
    for moment in moments:
        now[0] = float(moment)
        for i, (model, a, b) in enumerate(spans):
            if b == moment and b > a:
                found[i] = engines.end(model, begun[i])
        for i, (model, a, b) in enumerate(spans):
            if a == moment and b > a:
                begun[i] = engines.begin(model)
        if others:
            engines.hear({"x": others})
    return found


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_those_of_the_definition_and_sum_to_busy_time(seed: int) -> None:
    chance = random.Random(seed)
    spans = []
    for _ in range(chance.randrange(1, 14)):
        begun = chance.randrange(40)
        spans.append((chance.choice("xy"), begun, begun + chance.randrange(1, 12)))
    found = measured(spans)
    assert found == pytest.approx([float(counted(spans, i)) for i in range(len(spans))])
    for model in "xy":
        busy = {t for m, a, b in spans if m == model for t in range(a, b)}
        shares = sum(each for each, span in zip(found, spans, strict=True) if span[0] == model)
        assert shares == pytest.approx(len(busy))


def test_what_other_processes_run_takes_its_part() -> None:
    assert measured([("x", 0, 10), ("x", 10, 20)], others=3.0) == pytest.approx([2.5, 2.5])


def test_what_ran_in_the_mean_is_told_once() -> None:
    now = [0.0]
    engines = EngineTime(lambda: now[0])
    first, second = engines.begin("x"), engines.begin("x")
    now[0] = 2.0
    engines.end("x", first)
    now[0] = 4.0
    assert engines.take() == {"x": pytest.approx(1.5)}
    engines.end("x", second)
    now[0] = 5.0
    assert engines.take() == {}
