"""The committed model: easy at once, hard only by thinking, and p(think) tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from suffice.backends.nano.runtime import NanoModel
from suffice.recipes.modes.evaluate import answer_both
from suffice.tasks.puzzles import Mixture

FOLDER = Path(__file__).parents[2] / "data" / "models" / "hidden-depth"


@pytest.mark.parametrize("task", ["restarts", "zeros"])
def test_what_the_page_says_of_the_model(task: str) -> None:
    mixture = Mixture(tasks=(task,), difficulties=(1, 3))
    cells = mixture.distinct(16, seed=7, split="held_out")
    model = NanoModel(FOLDER)
    easy, hard = (answer_both(model, cells[task, n], max_tokens=32) for n in (1, 3))
    assert sum(a.short_right for a in easy) >= 0.9 * len(easy)
    assert sum(a.short_right for a in hard) <= 0.4 * len(hard)
    assert all(a.think_right for a in (*easy, *hard))
    assert max(a.think_logit for a in easy) < min(a.think_logit for a in hard)
    assert {len(a.prompt) for a in (*easy, *hard)} == {len(easy[0].prompt)}
