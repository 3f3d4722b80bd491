"""Sums of several processes: nothing counts twice, nothing is missed, whatever is late."""

from __future__ import annotations

from operator import add

from hypothesis import given
from hypothesis import strategies as st

from suffice.ledger.replicated import Replicated

STEPS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["add", "take", "confirm"]),
        st.sampled_from("ab"), st.integers(-5, 5), st.booleans(),
    ),
    max_size=60,
)  # fmt: skip


@given(STEPS)
def test_every_process_knows_its_own_and_what_was_written(
    steps: list[tuple[int, str, str, int, bool]],
) -> None:
    database: dict[str, int] = {}
    processes: list[Replicated[str, int]] = [Replicated(add) for _ in range(3)]
    on_their_way: list[dict[str, int] | None] = [None] * 3
    heard = [dict[str, int]() for _ in range(3)]  # what the database last told each
    unheard = [dict[str, int]() for _ in range(3)]  # what each added and has not heard back

    for number, step, key, change, named in steps:
        process, taken = processes[number], on_their_way[number]
        if step == "add":
            process.add(key, change)
            unheard[number][key] = unheard[number].get(key, 0) + change
        elif step == "take" and taken is None:
            on_their_way[number] = process.take()
        elif step == "confirm" and taken is not None:
            for name, value in taken.items():
                database[name] = database.get(name, 0) + value
                unheard[number][name] -= value
                heard[number][name] = heard[number].get(name, 0) + value
            totals = {n: v for n, v in database.items() if named or n == key}
            process.confirm(totals)
            heard[number] |= totals
            on_their_way[number] = None
        for name in "ab":
            expected = heard[number].get(name, 0) + unheard[number].get(name, 0)
            assert process.value(name, 0) == expected
            assert sum(v for n, v in process.parts() if n == name) == expected


def test_a_value_that_nobody_confirmed_starts_from_its_default() -> None:
    sums: Replicated[str, float] = Replicated(add)
    sums.add("lambda", 0.5)
    assert sums.value("lambda", 2.0) == 2.5
    sums.take()
    sums.confirm({"lambda": 7.0})
    assert sums.value("lambda", 2.0) == 7.0
