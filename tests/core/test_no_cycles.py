"""No file imports itself, by whatever way round: each can be read with what is below it."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp


def test_no_file_imports_itself() -> None:
    graph = grimp.build_graph("suffice", exclude_type_checking_imports=True)
    below = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    assert circle(below) == []


def circle(below: dict[str, set[str]]) -> list[str]:
    """Files that import one another, in order; empty where none do."""
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": {"c"}}) == []
