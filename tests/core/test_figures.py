"""Figures out of results: paths into JSON and patterns over text."""

from __future__ import annotations

import pytest

from suffice.core.errors import InputError
from suffice.core.figures import figure_at, printed_figure, steps

RESULT = {"sets": [{"set": "a", "x": [1, 2.5]}, {"set": "b", "part": 1, "x": [3]}]}


def test_a_path_of_keys_places_and_rows() -> None:
    assert figure_at(RESULT, ["sets", 0, "x", 1]) == 2.5
    assert figure_at(RESULT, ["sets", {"set": "b"}, "x", 0]) == 3
    assert figure_at(RESULT, ["sets", {"set": "b", "part": 1}, "x", -1]) == 3
    assert figure_at(RESULT, steps("sets.1.x.0")) == 3
    assert figure_at(RESULT, []) is RESULT


@pytest.mark.parametrize(
    "path",
    [
        ["sets", 2],
        ["nothing"],
        ["sets", {"set": "c"}],
        ["sets", {}],  # both rows fit
        [{"set": "a"}],  # no list
        ["sets", 0, "x", "y"],
    ],
)
def test_a_path_that_leads_nowhere_says_where(path: list[object]) -> None:
    with pytest.raises(InputError, match=r"the result has nothing at"):
        figure_at(RESULT, path)  # type: ignore[arg-type]


def test_printed_figures_are_read_as_they_are_written() -> None:
    assert printed_figure("saved −1,234.5 %", r"saved ([−\d.,]+)") == -1234.5
    with pytest.raises(InputError, match="is not in what was printed"):
        printed_figure("nothing", r"saved (\d+)")
