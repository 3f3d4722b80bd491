"""Monitors that several processes move are those of one that saw everything."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from suffice.gateway.certificates.monitors import SharedMonitor, sums_of
from suffice.ledger.records import Batch
from suffice.ledger.store import Store
from suffice.policies.certified import Certified
from suffice.policies.monitor import Answered, Compared, Judged, Monitor, Monitoring, Observation
from tests.policies.test_certified import OPEN, SHUT, certified

MONITORS = (
    Monitor(quantity="stopped", low=0.5, high=0.7),
    Monitor(quantity="confidence", low=0.0, high=1.0),
    Monitor(quantity="harm", low=0.0, high=0.05),
    Monitor(quantity="differ", low=0.0, high=0.3),
)


def policy() -> Certified:
    return replace(certified(OPEN, SHUT), monitors=MONITORS)


class Process:
    """One process's watch and its own connection to the ledger."""

    def __init__(self, path: Path) -> None:
        self.monitor = SharedMonitor(policy())
        self.store = Store(str(path / "ledger.db"))
        self.batches = 0

    def exchange(self) -> None:
        name = self.monitor.certificate
        moved, alarm = self.monitor.take()
        batch = Batch(
            id=f"{id(self)}-{self.batches}", at_s=1.0, monitors={name: moved},
            alarms={} if alarm is None else {name: alarm},
        )  # fmt: skip
        self.batches += 1
        told = self.store.write(batch)
        self.monitor.confirm(told.monitors[name], told.alarms.get(name))


def observations(seed: int, harm: float) -> list[Observation]:
    dice = random.Random(seed)
    found: list[Observation] = []
    for _ in range(120):
        found.append(Answered(early=dice.random() < 0.6, confidence=dice.random()))
        if dice.random() < 0.4:
            found.append(Compared(differs=dice.random() < 0.2, zeros=dice.randrange(3)))
        if dice.random() < 0.3:
            found.append(Judged(harmed=dice.random() < harm, helped=False))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_two_saw_adds_up(tmp_path: Path, seed: int) -> None:
    dice, alone = random.Random(seed), Monitoring(monitors=MONITORS)
    both = [Process(tmp_path), Process(tmp_path)]
    for observation in observations(seed, harm=0.03):
        alone = alone.after(observation)
        one = dice.choice(both)
        one.monitor.observe(observation)
        if dice.random() < 0.3:
            dice.choice(both).exchange()
    for one in both * 2:
        one.exchange()
    assert alone.alarm is None
    assert alone.above[0].n == 120
    for one in both:
        assert sums_of(one.monitor.state) == pytest.approx(sums_of(alone), abs=1e-9)
        assert one.monitor.alarm is None
        one.store.close()


def test_the_alarm_reaches_all_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = SharedMonitor(policy())
    needed = 0
    while alone.alarm is None:
        alone.observe(Judged(harmed=True, helped=False))
        needed += 1
    caplog.clear()
    both = [Process(tmp_path), Process(tmp_path)]
    for number in range(needed):
        assert all(one.monitor.alarm is None for one in both)
        both[number % 2].monitor.observe(Judged(harmed=True, helped=False))
        for one in both * 2:
            one.exchange()
    assert both[0].monitor.alarm == both[1].monitor.alarm == alone.alarm
    assert caplog.text.count("is switched off") == 2  # each process says it once
    for _ in range(1000):  # good ones afterwards change nothing
        both[0].monitor.observe(Judged(harmed=False, helped=False))
        both[0].exchange()
    later = Process(tmp_path)
    assert later.monitor.alarm is None
    later.exchange()
    assert later.monitor.alarm == alone.alarm
    for one in (*both, later):
        one.store.close()


def test_an_alarm_that_could_not_be_written_is_sent_again(tmp_path: Path) -> None:
    one = Process(tmp_path)
    while one.monitor.alarm is None:
        one.monitor.observe(Judged(harmed=True, helped=False))
    assert one.monitor.take()[1] is not None  # this batch is lost
    assert one.monitor.take()[1] is not None
    one.exchange()
    assert one.monitor.take()[1] is None
    one.store.close()
