"""`suffice ablate`: how speed answers to one choice, measured and predicted together."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.measure import batch_sizes
from suffice.cli.options import AsJson
from suffice.core.errors import InputError, MeasurementError
from suffice.core.files import write_bytes, write_text

if not HELP_ONLY:
    from suffice.hardware import load_hardware
    from suffice.recipes.ablation.plan import LABELS, settings
    from suffice.recipes.ablation.plots import ablation_figure
    from suffice.recipes.ablation.run import AblationPoint, direction, measured_samples
    from suffice.recipes.ablation.run import points as both
    from suffice.report.style import to_png
    from suffice.throughput.engines.choose import EngineOptions, make_engine
    from suffice.throughput.measure import Measurement, begin_run
    from suffice.throughput.records import ResultFile, read_samples


_ENGINE = "Engine"


def ablate(
    axis: Annotated[str, typer.Argument()],
    family: str = "1b",
    hardware: str | None = None,
    predict_only: Flag = False,
    engine: str = "torch",
    batch: str = "1,16,64",
    input_tokens: str = "4096",
    output_tokens: int = 1024,
    points: int = 5,
    span: float = 2.0,
    shrink: int = 1,
    repeat: int = 3,
    prefill_repeats: int = 1,
    together: int = 6,
    threads: int | None = None,
    clock: str = "wall",
    device: str | None = None,
    vllm_python: str | None = None,
    results: Path | None = None,
    statistic: str = "median",
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Vary one thing at fixed parameters: hidden size, MLP share, GQA, batch or context.

    Example: [bold]suffice ablate gqa --family 1b --predict-only --hardware h100 --out run/[/bold]

    Options:
        axis: d, r, gqa, batch or context.
        family: 1b, 3b, 8b, qwen3-0.6b, qwen3-1.7b, qwen3-4b or qwen3-8b.
        hardware: Predict for this machine; default a100-40gb unless measured
        predict_only: Measure nothing; show what --results holds already.
        batch: Batch sizes; default 1,16,64.
        input_tokens: Prompt tokens; several, with commas, for `context`.
        output_tokens: Tokens to generate per sequence.
        points: Shapes along d, r or gqa, at most.
        span: Factor by which d may leave the reference's.
        shrink: Divide all widths; r, x and GQA stay.
        results: JSONL to append to and resume from.
        statistic: median of repeats, or least disturbed step on a shared machine.
        out: Folder for the table and the plot.
    Engine:
        engine: vllm or torch.
        repeat: Repeats.
        prefill_repeats: Repeats that time the prefill too.
        together: Shapes loaded at once, that take turns.
        threads: CPU threads.
        clock: wall, or cpu for a shared CPU.
        device: torch: cpu or cuda.
        vllm_python: vllm: its interpreter.
    """
    chosen = settings(
        axis, family, batches=batch_sizes(batch), contexts=batch_sizes(input_tokens),
        output_tokens=output_tokens, points=points, span=span, shrink=shrink,
    )  # fmt: skip
    samples: list[Any] = []
    if not predict_only:
        samples = _measure(
            chosen, engine, {"device": device, "threads": threads, "clock": clock,
                             "vllm_python": vllm_python},
            axis=axis, repeat=repeat, prefill_repeats=prefill_repeats, together=together,
            results=results or (out or Path()) / "measurements.jsonl",
        )  # fmt: skip
    elif results is not None:
        samples = list(read_samples(results))
    name = hardware or ("a100-40gb" if predict_only else None)
    machine = load_hardware(name) if name else None
    found = both(chosen, samples, machine, statistic=statistic)
    if as_json:
        typer.echo(json.dumps([_facts(point) for point in found], indent=2))
    else:
        _print(axis, found, unpredicted="does not fit" if machine else "–")
    if out is None:
        return
    where = f"{samples[0].engine}, {samples[0].device}" if samples else f"predicted for {name}"
    size = f" / {shrink}" if shrink > 1 else ""
    figure = ablation_figure(
        axis, found, title=f"{family}{size} along {axis} ({where})", statistic=statistic
    )
    write_bytes(out / f"ablate-{axis}.png", to_png(figure))
    write_text(out / f"ablate-{axis}.csv", _csv(found))
    typer.echo(f"wrote {out}/ablate-{axis}.csv and .png", err=True)


def _measure(
    chosen: list[Any], engine: str, options: dict[str, Any], *, axis: str, repeat: int,
    prefill_repeats: int, together: int, results: Path,
) -> list[Any]:  # fmt: skip

    if engine not in ("torch", "vllm"):
        raise InputError(f"an ablation builds its shapes: --engine torch or vllm, got {engine!r}")
    if repeat < 1 or together < 1:
        raise InputError("--repeat and --together must be at least 1")
    runner = make_engine(engine, EngineOptions(**options))
    file = ResultFile(results)
    run, environment, _ = begin_run(runner, file, command=" ".join(["suffice", *sys.argv[1:]]))
    measurement = Measurement(
        runner, file, run=run, environment=environment, held=read_samples(results),
        progress=lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    samples = measured_samples(
        chosen, measurement, repeats=repeat, prefill_repeats=prefill_repeats, dtype="bf16",
        together=together,
        tags={"study": axis},
    )  # fmt: skip
    if not samples:
        raise MeasurementError(f"nothing could be measured; the reasons are above and in {results}")
    return samples


def _facts(point: AblationPoint) -> dict[str, Any]:
    setting, measured = point.setting, point.measured
    return {
        "series": setting.series,
        "value": setting.value,
        "shape": setting.shape.name,
        "batch": setting.batch,
        "input_tokens": setting.lengths.input_tokens,
        "output_tokens": setting.lengths.output_tokens,
        "measured_tokens_per_s": point.speed,
        "measured_median": measured.median if measured else None,
        "measured_least": measured.least if measured else None,
        "measured_largest": measured.largest if measured else None,
        "repeats": measured.n if measured else 0,
        "predicted_tokens_per_s": point.predicted,
    }


def _csv(found: list[AblationPoint]) -> str:
    rows = [_facts(point) for point in found]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _print(axis: str, found: list[AblationPoint], *, unpredicted: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    for series in dict.fromkeys(point.setting.series for point in found):
        members = [point for point in found if point.setting.series == series]
        trends = [
            f"{what} rank correlation with {axis} {value:+.2f}"
            for what, value in (
                ("measured", direction(members, measured=True)),
                ("predicted", direction(members, measured=False)),
            )
            if value is not None
        ]
        table = Table(
            title=f"{series}, decode tokens/s", title_justify="left",
            caption="; ".join(trends), caption_justify="left",
        )  # fmt: skip
        for heading in (LABELS[axis], "shape", "measured", "range", "predicted"):
            table.add_column(heading, justify="left" if heading == "shape" else "right")
        for point in members:
            measured = point.measured
            table.add_row(
                f"{point.setting.value:,.4g}",
                point.setting.shape.name or "",
                f"{point.speed:,.1f}" if point.speed is not None else "–",
                f"{measured.least:,.1f}–{measured.largest:,.1f}" if measured else "–",
                f"{point.predicted:,.1f}" if point.predicted is not None else unpredicted,
            )  # fmt: skip
        console.print(table)
