"""The model inside the package: small, whole, licensed, and as good as its card says."""

from __future__ import annotations

import json

import numpy as np

from suffice.backends.nano.backend import NAME, shipped_folder
from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.vocabulary import SHORT, THINK
from suffice.backends.nano.weights import weights_sha256
from suffice.tasks.puzzles import Mixture

FOLDER = shipped_folder()
RECORD = json.loads((FOLDER / "record.json").read_text())


def test_it_is_small_and_has_card_record_and_licence() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 2_000_000
    assert RECORD["name"] == NAME
    assert RECORD["weights_sha256"] == weights_sha256(FOLDER)
    assert "Apache-2.0" in (FOLDER / "LICENSE").read_text()
    card = (FOLDER / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "suffice train nano" in card
    assert f"{RECORD['parameters']:,} parameters" in card


def test_its_heads_are_ones_that_vllm_computes_on_a_cpu() -> None:
    assert NanoModel(FOLDER).config.head_dim % 32 == 0


def test_it_answers_new_problems_as_its_card_says() -> None:
    model = NanoModel(FOLDER)
    words = model.vocabulary
    modes = [words.id(SHORT), words.id(THINK)]
    cells = {(c["task"], c["difficulty"]): c for c in RECORD["evaluation"]["cells"]}
    mixture = Mixture(
        tasks=tuple(RECORD["config"]["tasks"]),
        difficulties=tuple(RECORD["config"]["difficulties"]),
    )
    for cell, problems in mixture.distinct(20, seed=99, split="held_out").items():
        right = 0
        for problem in problems:
            drawn = greedy(model, words.prompt(problem.prompt), max_tokens=48)
            # Whatever is drawn freely begins with a mode.
            assert drawn[0] in modes, problem.prompt
            thinks = drawn[0] == words.id(THINK)
            right += problem.is_right(words.decode(drawn[1:-1]), think=thinks)
        thinks = cells[cell]["p_think"] > 0.5
        due = cells[cell]["think_accuracy" if thinks else "short_accuracy"]
        # 20 problems: within four standard errors of the recorded share.
        error = np.sqrt(max(due["mean"] * (1 - due["mean"]), 0.01) / len(problems))
        assert right / len(problems) >= due["mean"] - 4 * error, cell
