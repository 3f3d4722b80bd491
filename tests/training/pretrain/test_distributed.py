"""One rung over two processes equals the same rung in one, up to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

from suffice.training.pretrain.run_store import RunStore  # noqa: E402
from suffice.training.pretrain.trainer import Machine, load_training_data, train_rung  # noqa: E402
from suffice.training.rung import LadderRung, Recipe, ladder_shape  # noqa: E402

SCRIPT = """
import sys
from pathlib import Path
from suffice.training.pretrain.distributed import process_group, run_distributed, under_torchrun
from suffice.training.rung import LadderRung, Recipe, ladder_shape
from suffice.training.pretrain.run_store import RunStore
from suffice.training.pretrain.trainer import Machine

assert under_torchrun()
recipe = Recipe(**{recipe!r})
rung = LadderRung(shape=ladder_shape(**{shape!r}), tokens={tokens})
with process_group(Machine()) as machine:
    store = RunStore(Path({store!r}), writes=machine.rank == 0)
    run_distributed(
        [rung], recipe, Path({data!r}), machine,
        threads=1, on_record=store.append, on_tick=lambda _: None,
    )
"""


def test_two_processes_equal_one(data_folder: Path, tmp_path: Path) -> None:
    settings = {"sequence_length": 32, "aimed_steps": 30, "evaluation_sequences": 8}
    shape = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 257,
    }  # fmt: skip
    tokens = 30 * 4 * 32
    script = tmp_path / "train.py"
    store = tmp_path / "runs.jsonl"
    script.write_text(
        SCRIPT.format(
            recipe=settings, shape=shape, tokens=tokens, store=str(store), data=str(data_folder)
        )
    )
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(script)],
        check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (record,) = RunStore(store).read()
    alone = train_rung(
        LadderRung(shape=ladder_shape(**shape), tokens=tokens), Recipe(**settings),
        load_training_data(data_folder, "cpu"), Machine(),
    )  # fmt: skip
    assert record.world_size == 2
    assert record.run_id == alone.run_id
    assert record.loss == pytest.approx(alone.loss, abs=1e-3)
