"""How fast a machine trains small shapes: measured here, or a share of a named one's peak."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from suffice.hardware import load_hardware
from suffice.training.extras import require_torch
from suffice.training.pretrain.flops import training_flops
from suffice.training.rung import LadderRung, Recipe

# Share of the bf16 peak that shapes of a few million parameters reach: an assumption to plan with,
# until runs on the machine itself replace it (`ladder plan --hardware here`).
SMALL_SHAPE_SHARE = 0.1
_MEASURED_STEPS = 8


def named_flops_per_s(hardware: str) -> float:
    """FLOP/s to plan with on a machine of the catalogue: a tenth of its bf16 peak."""
    return SMALL_SHAPE_SHARE * load_hardware(hardware).peak_flops["bf16"]


def measured_flops_per_s(
    rungs: Sequence[LadderRung], recipe: Recipe, data_folder: Path, device: str, *, threads: int
) -> float:
    """FLOP/s of training the middle one of `rungs` on `device`, over a few real steps."""
    require_torch()
    from suffice.training.pretrain.pool import limit_threads  # noqa: PLC0415
    from suffice.training.pretrain.trainer import (  # noqa: PLC0415
        Machine,
        load_training_data,
        train_rung,
    )

    limit_threads(threads)
    rung = sorted(rungs, key=lambda r: training_flops(r, recipe))[len(rungs) // 2]
    batch = recipe.batch_sequences(rung.tokens)
    tokens = _MEASURED_STEPS * batch * recipe.sequence_length
    short = replace(
        recipe, aimed_steps=_MEASURED_STEPS, min_batch_sequences=batch, evaluation_sequences=1
    )
    data = load_training_data(data_folder, device)
    probe = replace(rung, tokens=tokens)
    train_rung(probe, short, data, Machine(device=device))
    began = time.perf_counter()
    train_rung(probe, short, data, Machine(device=device))
    return training_flops(probe, short) / (time.perf_counter() - began)
