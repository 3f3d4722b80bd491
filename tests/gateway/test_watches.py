"""A watch that several processes move is the watch of one that saw everything."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from suffice.gateway.watches import SharedWatch, _cells
from suffice.ledger.rows import Batch
from suffice.ledger.store import Store
from suffice.policies.certified import Certified
from suffice.policies.drift import Monitor, Observation, Watch
from tests.policies.test_certified import OPEN, SHUT, certified

MONITORS = (
    Monitor(quantity="stopped", low=0.5, high=0.7),
    Monitor(quantity="confidence", low=0.0, high=1.0),
    Monitor(quantity="harm", low=0.0, high=0.05),
)


def policy() -> Certified:
    return replace(certified(OPEN, SHUT), monitors=MONITORS)


class Process:
    """One process's watch and its own connection to the ledger."""

    def __init__(self, path: Path) -> None:
        self.watch = SharedWatch(policy())
        self.store = Store(str(path / "ledger.db"))
        self.batches = 0

    def exchange(self) -> None:
        name = self.watch.certificate
        moved, void = self.watch.take()
        batch = Batch(
            id=f"{id(self)}-{self.batches}", at_s=1.0, watches={name: moved},
            voided={} if void is None else {name: void},
        )  # fmt: skip
        self.batches += 1
        told = self.store.write(batch)
        self.watch.told(told.watches[name], told.voided.get(name))


def observations(seed: int, harm: float) -> list[Observation]:
    dice = random.Random(seed)
    return [
        Observation(
            stopped=dice.random() < 0.6,
            confidence=dice.random(),
            harm=dice.random() < harm if dice.random() < 0.5 else None,
        )
        for _ in range(120)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_what_two_saw_adds_up(tmp_path: Path, seed: int) -> None:
    dice, alone = random.Random(seed), Watch(monitors=MONITORS)
    both = [Process(tmp_path), Process(tmp_path)]
    for observation in observations(seed, harm=0.03):
        alone = alone.after(observation)
        one = dice.choice(both)
        one.watch.observe(observation)
        if dice.random() < 0.3:
            dice.choice(both).exchange()
    for one in both * 2:
        one.exchange()
    assert alone.void is None
    assert alone.n == 120
    for one in both:
        assert _cells(one.watch._watch) == pytest.approx(_cells(alone), abs=1e-9)
        assert one.watch.void is None
        one.store.close()


def test_the_verdict_reaches_all_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = SharedWatch(policy())
    needed = 0
    while alone.void is None:
        alone.observe(Observation(harm=True))
        needed += 1
    caplog.clear()
    both = [Process(tmp_path), Process(tmp_path)]
    for number in range(needed):
        assert all(one.watch.void is None for one in both)
        both[number % 2].watch.observe(Observation(harm=True))
        for one in both * 2:
            one.exchange()
    assert both[0].watch.void == both[1].watch.void == alone.void
    assert caplog.text.count("is void") == 2  # each process says it once
    for _ in range(1000):  # good ones afterwards change nothing
        both[0].watch.observe(Observation(harm=False))
        both[0].exchange()
    later = Process(tmp_path)
    assert later.watch.void is None
    later.exchange()
    assert later.watch.void == alone.void
    for one in (*both, later):
        one.store.close()


def test_a_verdict_that_could_not_be_written_is_sent_again(tmp_path: Path) -> None:
    one = Process(tmp_path)
    while one.watch.void is None:
        one.watch.observe(Observation(harm=True))
    assert one.watch.take()[1] is not None  # this batch is lost
    assert one.watch.take()[1] is not None
    one.exchange()
    assert one.watch.take()[1] is None
    one.store.close()
