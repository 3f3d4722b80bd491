"""A calibration from result files to a hardware file, with what it is worth."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suffice.core.errors import InputError, TableError
from suffice.hardware import Hardware, hardware_names, load_hardware
from suffice.throughput.engines import machine
from suffice.throughput.hardware_calibration import (
    Accuracy,
    StackedPoints,
    accuracy,
    fit_measured,
    leave_one_shape_out,
    measured_points,
    measured_priors,
    predict_measured,
)
from suffice.throughput.records import MeasureRun, Statistic, TimedSample, read_records

# Tokens that the torch engine prefills together; vLLM's is in its run records.
_DEFAULT_BATCHED_TOKENS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Fitted coefficients of one machine and engine, and their errors in and out of sample."""

    hardware: Hardware
    device: str
    engine: str
    statistic: Statistic
    coefficients: Mapping[str, float]
    in_sample: Accuracy
    held_out: Accuracy

    def to_toml(self) -> str:
        """The hardware file, each number with its source."""
        h, scores = self.hardware, self.held_out
        ttft = f", TTFT {scores.ttft:.1%}" if scores.ttft is not None else ""
        lines = [
            f"# {self.engine} on {self.device}: {scores.points} points of {scores.shapes} shapes.",
            f"# Leaving one shape out: decode tokens/s {scores.decode:.1%} off{ttft}.",
            f"name = {_quoted(h.name)}",
            f"title = {_quoted(h.title)}",
            f'kind = "{h.kind}"',
            f"memory_bytes = {h.memory_bytes:.0f}",
            f"memory_bytes_per_s = {h.memory_bytes_per_s:.5g}",
            f"interconnect_bytes_per_s = {h.interconnect_bytes_per_s:.5g}",
            f"usd_per_hour = {h.usd_per_hour:g}",
            "",
            "[peak_flops]",
            *(f"{dtype} = {peak:.5g}" for dtype, peak in h.peak_flops.items()),
            "",
            "[sources]",
            *(f"{field} = {_quoted(text)}" for field, text in h.sources),
            "",
            "[utilisation]",
            *(f"{coefficient} = {value:.5g}" for coefficient, value in self.coefficients.items()),
        ]
        return "\n".join(lines) + "\n"


def calibrate_files(
    paths: Sequence[Path], *, base: str | None, name: str, engine: str | None, statistic: str
) -> Calibration:
    """Fit to the samples of result files; raises TableError or InputError."""
    chosen: Statistic
    if statistic == "least":
        chosen = "least"
    elif statistic == "median":
        chosen = "median"
    else:
        raise InputError(f"--statistic {statistic!r} is unknown; known: least, median")
    records = [record for path in paths for record in read_records(path)]
    samples = [
        record
        for record in records
        if isinstance(record, TimedSample) and engine in (None, record.engine)
    ]
    points = measured_points(samples, chosen)
    origin = samples[0]
    used = {sample.run for sample in samples}
    runs = [record for record in records if isinstance(record, MeasureRun) and record.run in used]
    hardware = _hardware(origin.device, runs, base=base, name=name)
    evidence = StackedPoints.of(points, hardware, max_batched_tokens=_batched_tokens(runs))
    priors = measured_priors(hardware)
    held_out = accuracy(evidence, leave_one_shape_out(evidence, priors))
    coefficients = fit_measured(evidence, priors)
    return Calibration(
        hardware=hardware,
        device=origin.device,
        engine=origin.engine,
        statistic=chosen,
        coefficients=coefficients,
        in_sample=accuracy(evidence, predict_measured(evidence, coefficients)),
        held_out=held_out,
    )


def _hardware(device: str, runs: Sequence[MeasureRun], *, base: str | None, name: str) -> Hardware:
    """The machine's limits: those of a known GPU, or a CPU's ceilings as the runs measured them."""
    known = base or _known_as(device) or "cpu"
    found = load_hardware(known)
    if found.kind == "gpu":
        return replace(found, name=name, title=f"{device}, calibrated")
    copies = [run.copy_bytes_per_s for run in runs if run.copy_bytes_per_s]
    products = [run.matmul_flops_per_s for run in runs if run.matmul_flops_per_s]
    if not copies or not products:
        raise TableError(
            "the runs hold no measured ceilings of the CPU: measure where torch is installed, or "
            "name a hardware file with --base"
        )
    how = f"largest that {len(copies)} runs of `suffice measure` found"
    sources = dict(found.sources) | {
        "memory_bytes_per_s": f"{how}: a large copy, bytes read plus bytes written",
        "peak_flops": f"{how}: a matrix product in 16 bits, as the engine ran",
    }
    memory = found.memory_bytes
    if device == machine.processor_name() and (here := machine.total_memory_bytes()):
        memory, sources["memory_bytes"] = float(here), "that the operating system reports"
    rate = max(products)
    return replace(
        found,
        name=name,
        title=device,
        memory_bytes=memory,
        memory_bytes_per_s=max(copies),
        peak_flops=dict.fromkeys(("fp32", "bf16", "fp16"), rate),
        sources=tuple(sources.items()),
    )


def _known_as(device: str) -> str | None:
    """The embedded machine that a device's own name contains, the most specific first."""
    words = device.lower().replace(" ", "-")
    fitting = [name for name in hardware_names() if name.split("-")[-1] in words or name in words]
    exact = [name for name in fitting if all(part in words for part in name.split("-"))]
    return max(exact, key=len) if exact else None


def _batched_tokens(runs: Sequence[MeasureRun]) -> int:
    """Token budget of one pass, as the runs recorded it; they must agree."""
    budgets = {int(run.software.get("max_batched_tokens", _DEFAULT_BATCHED_TOKENS)) for run in runs}
    if len(budgets) > 1:
        raise TableError(f"the runs differ in max_batched_tokens: {sorted(budgets)}")
    return statistics.mode(budgets) if budgets else _DEFAULT_BATCHED_TOKENS


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
