"""No file imports itself, by whatever way round: each can be read with what is below it."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_no_file_imports_itself() -> None:
    graph = grimp.build_graph("suffice", exclude_type_checking_imports=True)
    below = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' > '.join(error.args[1])}")
