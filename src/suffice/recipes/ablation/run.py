"""Carry out an ablation: measured on an engine, predicted for a machine, or both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

from suffice.core.errors import DoesNotFit, InputError
from suffice.hardware import Hardware
from suffice.recipes.ablation.plan import AblationSetting
from suffice.throughput.analytic import predict
from suffice.throughput.measure import Measurement, MeasurePlan, Spread
from suffice.throughput.records import TimedSample, dimensions, step_s
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPoint:
    """Decode tokens per second of one setting; None where not measured or not possible.

    `measured` is by repeats; `speed` stands for all: their median, or by the least disturbed step.
    """

    setting: AblationSetting
    measured: Spread | None
    speed: float | None
    predicted: float | None


def measured_samples(
    settings: Sequence[AblationSetting], measurement: Measurement, *, repeats: int,
    prefill_repeats: int, dtype: str, together: int, tags: dict[str, str],
) -> list[TimedSample]:  # fmt: skip
    """Samples of all settings; at most `together` shapes take turns."""
    samples: list[TimedSample] = []
    by_lengths = itertools.groupby(
        sorted(settings, key=lambda s: s.lengths.input_tokens), key=lambda s: s.lengths
    )
    for lengths, group in by_lengths:
        members = list(group)
        batches = tuple(sorted({setting.batch for setting in members}))
        shapes = list(dict.fromkeys(setting.shape for setting in members))
        for at in range(0, len(shapes), together):
            samples += measurement.carry_out(
                MeasurePlan(
                    shapes=tuple(shapes[at : at + together]), lengths=lengths, batches=batches,
                    repeats=repeats, prefill_repeats=prefill_repeats, dtype=dtype, tags=tags,
                )
            )  # fmt: skip
    return samples


def points(
    settings: Sequence[AblationSetting],
    samples: Sequence[TimedSample],
    hardware: Hardware | None,
    *,
    statistic: str = "median",
) -> list[AblationPoint]:
    """Measured and predicted side by side, one per setting."""
    if statistic not in ("least", "median"):
        raise InputError(f"--statistic {statistic!r} is unknown; known: least, median")
    found = []
    for setting in settings:
        repeats = _repeats(setting, samples)
        speed = None
        if repeats:
            speed = setting.batch / step_s(repeats, "least" if statistic == "least" else "median")
        found.append(
            AblationPoint(
                setting=setting,
                measured=Spread.of(setting.batch / step_s([one], "median") for one in repeats)
                if repeats
                else None,
                speed=speed,
                predicted=_predicted(setting, hardware) if hardware else None,
            )
        )
    return found


def _repeats(setting: AblationSetting, samples: Sequence[TimedSample]) -> list[TimedSample]:
    lengths = setting.lengths
    return [
        sample
        for sample in samples
        if sample.batch == setting.batch
        and sample.input_tokens == lengths.input_tokens
        and sample.output_tokens == lengths.output_tokens
        and dimensions(sample.shape) == dimensions(setting.shape)
    ]


def _predicted(setting: AblationSetting, hardware: Hardware) -> float | None:
    serving = Serving(hardware=hardware, max_batch=max(256, setting.batch))
    workload = Workload.single(setting.lengths.input_tokens, setting.lengths.output_tokens)
    try:
        found = predict(setting.shape, serving, workload, batch=setting.batch)
    except DoesNotFit:
        return None
    # A batch that memory cannot hold would be measured as "does not fit", not at a smaller batch.
    return found.decode_tokens_per_s if found.batch == setting.batch else None


def direction(found: Sequence[AblationPoint], *, measured: bool) -> float | None:
    """Spearman rank correlation of speed with the axis, over one series; None below 3 points."""
    pairs = [
        (point.setting.value, speed)
        for point in found
        if (speed := point.speed if measured else point.predicted) is not None
    ]
    if len(pairs) < 3:
        return None

    return float(spearmanr([x for x, _ in pairs], [y for _, y in pairs]).statistic)
