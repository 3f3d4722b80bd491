"""A local Ray cluster of two workers that are killed in the middle of their rungs."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("torch")
pytest.importorskip("transformers")
psutil = pytest.importorskip("psutil")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    # Ray's own clients warn about their defaults.
    pytest.mark.filterwarnings("default"),
]

from suffice.training.pretrain.ray_runner import RayConfig, run_on_ray  # noqa: E402
from suffice.training.pretrain.run_store import RunRecord  # noqa: E402
from suffice.training.pretrain.trainer import Machine, load_training_data, train_rung  # noqa: E402
from suffice.training.rung import LadderRung, Recipe, ladder_shape  # noqa: E402

RECIPE = Recipe(sequence_length=32, aimed_steps=100, evaluation_sequences=8)
RUNG = LadderRung(
    shape=ladder_shape(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=257,
    ),
    tokens=100 * 4 * 32,
)  # fmt: skip


def _kill_trainers(work: Path, killed: list[int]) -> None:
    """Wait for a first checkpoint, then kill every process that trains: one of them wrote it."""
    end = time.monotonic() + 300
    while time.monotonic() < end and not killed:
        if any(work.glob("*.pt")):
            for process in psutil.process_iter(["cmdline"]):
                if "ray::_train_here" in " ".join(process.info["cmdline"] or []):
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
        time.sleep(0.2)


def test_killed_workers_lose_nothing(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray starts its workers at the lowest priority, which on a busy machine means hardly at all.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    rungs = [replace(RUNG, seed=seed) for seed in range(2)]
    records: list[RunRecord] = []
    killed: list[int] = []
    machine = Machine(work=tmp_path / "work", checkpoint_every_s=0.0)
    killer = threading.Thread(target=_kill_trainers, args=(tmp_path / "work", killed))
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        killer.start()
        run_on_ray(
            rungs, RECIPE, data_folder, machine, RayConfig(address=None),
            on_record=records.append,
        )  # fmt: skip
    finally:
        ray.shutdown()
        killer.join()
    assert killed
    assert sorted(r.seed for r in records) == [0, 1]
    assert {r.status for r in records} == {"finished"}
    assert max(r.resumes for r in records) >= 1
    data = load_training_data(data_folder, "cpu")
    resumed = next(r for r in records if r.resumes)
    alone = train_rung(replace(RUNG, seed=resumed.seed), RECIPE, data, Machine())
    assert resumed.loss == alone.loss
