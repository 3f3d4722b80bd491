from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

from suffice.core.errors import SufficeError  # noqa: E402
from suffice.training.pretrain import pool  # noqa: E402
from suffice.training.pretrain.pool import PoolConfig, run_pool  # noqa: E402
from suffice.training.pretrain.run_store import RunRecord  # noqa: E402
from suffice.training.pretrain.trainer import Machine, Tick  # noqa: E402
from suffice.training.rung import LadderRung, Recipe, ladder_shape  # noqa: E402

RECIPE = Recipe(
    sequence_length=32, aimed_steps=100, min_batch_sequences=4, evaluation_sequences=8,
    peak_learning_rate=2e-3,
)  # fmt: skip
RUNG = LadderRung(
    shape=ladder_shape(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=257,
    ),
    tokens=100 * 4 * 32,
)  # fmt: skip
RUNGS = [replace(RUNG, seed=seed) for seed in range(3)]


def test_a_killed_worker_costs_nothing(data_folder: Path, tmp_path: Path) -> None:
    """The first worker dies in its first rung; the rung is repeated from its checkpoint."""
    records: list[RunRecord] = []
    killed: list[int] = []

    def kill_once(tick: Tick) -> None:
        # The second report comes after the first checkpoint.
        if not killed and 25 < tick.step < tick.steps:
            victim = next(p for p in pool.mp.active_children())
            killed.append(victim.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    run_pool(
        RUNGS, RECIPE, data_folder, Machine(work=tmp_path, checkpoint_every_s=0.0),
        PoolConfig(workers=1), on_record=records.append, on_tick=kill_once,
    )  # fmt: skip
    assert killed
    assert sorted(r.seed for r in records) == [0, 1, 2]
    assert {r.status for r in records} == {"finished"}
    assert [r.resumes for r in records] == [1, 0, 0]


def test_rungs_that_do_not_fit_before_the_deadline_are_left(data_folder: Path) -> None:
    skipped: list[LadderRung] = []
    run_pool(
        RUNGS, RECIPE, data_folder, Machine(), PoolConfig(workers=1, deadline_s=60, start_s=1e6),
        on_record=lambda _: pytest.fail("nothing fits"), on_skip=skipped.append,
    )  # fmt: skip
    assert skipped == RUNGS


def test_a_workers_error_is_the_pools(tmp_path: Path) -> None:
    with pytest.raises(SufficeError, match=r"holds no data\.json"):
        run_pool(
            RUNGS, RECIPE, tmp_path, Machine(), PoolConfig(workers=2), on_record=lambda _: None
        )


def test_an_unknown_error_in_a_worker_is_its_rungs_record(
    data_folder: Path, tmp_path: Path
) -> None:
    """A work folder that is a file: an OSError, which no handler of the trainer names."""
    blocked = tmp_path / "work"
    blocked.write_text("a file where a folder should be")
    records: list[RunRecord] = []
    run_pool(
        RUNGS[:1], RECIPE, data_folder, Machine(work=blocked, checkpoint_every_s=0.0),
        PoolConfig(workers=1), on_record=records.append,
    )  # fmt: skip
    assert [r.status for r in records] == ["failed"]
    assert "Error" in (records[0].error or "")
