"""The demonstration's live half, small: what is told is what the engines and the labels say."""

from __future__ import annotations

from pathlib import Path

import pytest

from suffice.demo.live import live_sentences, run_live_demo


def test_it_is_certified_without_labels_and_saves(tmp_path: Path) -> None:
    told: list[str] = []
    # At so large a target a few dozen shadowed requests are enough.
    found = run_live_demo(tmp_path, tell=told.append, asked=300, target=0.25)
    assert found.certified_after is not None and 10 < found.certified_after < 120
    assert found.right_safe[1] + found.right_certified[1] == found.requests == 300
    assert found.right_certified[0] / found.right_certified[1] > 0.8
    assert 0.1 < found.saved < 0.95
    assert found.cost / found.cost_of_safe == pytest.approx(1.0 - found.saved)
    assert any("certified, the small models answer" in line for line in told)
    assert "without a label" in live_sentences(found, 0.25)[0]
