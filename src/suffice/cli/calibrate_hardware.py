"""`suffice calibrate-hardware`: a hardware file out of measurements."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.files import write_text

if not HELP_ONLY:
    from suffice.throughput.hardware_report import Calibration, calibrate_files


def calibrate_hardware(
    results: Annotated[list[Path], typer.Argument()],
    out: Path = Path("calibrated.toml"),
    base: str | None = None,
    name: str | None = None,
    engine: str | None = None,
    statistic: str = "least",
    as_json: AsJson = False,
) -> None:
    """Fit how much of a machine's limits an engine reaches there, and say how well that predicts.

    Example: [bold]suffice calibrate-hardware results.jsonl --out my-cpu.toml[/bold], then
    [bold]suffice design --hardware my-cpu.toml ...[/bold]

    Options:
        results: JSONL files of `suffice measure`.
        out: Hardware file to write.
        base: Machine whose peaks and price to keep; default: found by its name.
        name: Name in the file; default: its file name.
        engine: Use only samples of this engine.
        statistic: least disturbed step (shared machines) or median of repeats.
    """
    found = calibrate_files(
        results, base=base, name=name or out.stem, engine=engine, statistic=statistic
    )
    write_text(out, found.to_toml())
    if as_json:
        typer.echo(json.dumps(facts(found), indent=2))
        return
    _print(found)
    typer.echo(f"wrote {out}", err=True)


def facts(found: Calibration) -> dict[str, Any]:
    """A calibration as JSON values."""
    return {
        "hardware": found.hardware.name,
        "device": found.device,
        "engine": found.engine,
        "statistic": found.statistic,
        "coefficients": dict(found.coefficients),
        "in_sample": asdict(found.in_sample),
        "leave_one_shape_out": asdict(found.held_out),
    }


def _print(found: Calibration) -> None:
    console = Console()
    table = Table(
        title=f"{found.engine} on {found.device}: {found.held_out.points} points of "
        f"{found.held_out.shapes} shapes, {found.statistic} of the repeats",
        title_justify="left",
    )
    for heading in ("", "decode tokens/s off", "TTFT off", "rank"):
        table.add_column(heading, justify="left" if not heading else "right")
    for title, scores in (
        ("in sample", found.in_sample),
        ("leaving one shape out", found.held_out),
    ):
        table.add_row(
            title,
            f"{scores.decode:.1%}",
            f"{scores.ttft:.1%}" if scores.ttft is not None else "–",
            f"{scores.rank:.3f}",
        )
    console.print(table)
    for load, rank in found.held_out.ranks.items():
        console.print(f"  rank of the shapes at {load}, held out: {rank:.3f}", highlight=False)
    for coefficient, value in found.coefficients.items():
        console.print(f"  {coefficient:18} {value:.3g}", highlight=False)
