"""`suffice hardware`: the machines that predictions know, and this CPU measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.files import write_text

if not HELP_ONLY:
    from suffice.hardware import hardware_names, hardware_text, load_hardware
    from suffice.hardware.cpu import measure_cpu_ceilings


hardware = typer.Typer(
    help="The machines that predictions know, with the source of every number.",
    invoke_without_command=True,
)


@hardware.callback()
def list_hardware(context: typer.Context, as_json: AsJson = False) -> None:
    """List the machines; `show` prints one with its sources.

    Example: [bold]suffice hardware show h100[/bold]
    """
    if context.invoked_subcommand is not None:
        return

    machines = [load_hardware(name) for name in hardware_names()]
    if as_json:
        typer.echo(json.dumps([_facts(machine) for machine in machines], indent=2))
        return

    table = Table(title="Hardware", title_justify="left")
    for heading in ("name", "memory", "bandwidth", "bf16", "fp8", "$/hour"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    for machine in machines:
        fp8 = machine.peak_flops.get("fp8")
        table.add_row(
            machine.name,
            f"{machine.memory_bytes / 1e9:.0f} GB",
            f"{machine.memory_bytes_per_s / 1e9:,.0f} GB/s",
            f"{machine.peak_flops['bf16'] / 1e12:,.1f} TFLOP/s",
            f"{fp8 / 1e12:,.1f} TFLOP/s" if fp8 else "–",
            f"{machine.usd_per_hour:.2f}",
        )
    Console().print(table)


@hardware.command()
def show(
    name: Annotated[str, typer.Argument()],
    as_json: AsJson = False,
    toml: Flag = False,
) -> None:
    """Print one machine: its limits, how much of them is reached, and where each number is from.

    Example: [bold]suffice hardware show a100-40gb --toml > mine.toml[/bold]

    Options:
        name: A name from the list, or a .toml file.
        toml: Print the embedded file, to edit and load.
    """
    machine = load_hardware(name)
    if toml:
        typer.echo(hardware_text(name), nl=False)
        return
    facts = _facts(machine)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{machine.name}: {machine.title}")
    for key in ("memory_bytes", "memory_bytes_per_s", "interconnect_bytes_per_s", "usd_per_hour"):
        typer.echo(f"  {key:26} {facts[key]:<12.4g} {facts['sources'].get(key, '')}")
    for dtype, peak in machine.peak_flops.items():
        typer.echo(f"  {'peak_flops ' + dtype:26} {peak:<12.4g} {facts['sources']['peak_flops']}")
    typer.echo(f"utilisation ({machine.utilisation.source})")
    for key, value in facts["utilisation"].items():
        if key != "source":
            typer.echo(f"  {key:26} {value:.3g}")


@hardware.command("measure-cpu")
def measure_cpu(
    out: Path | None = None,
) -> None:
    """Measure this CPU's memory bandwidth and fp32 peak, as a hardware file (a few seconds).

    Example: [bold]suffice hardware measure-cpu --out this-cpu.toml[/bold]

    Options:
        out: Write the hardware file here instead of printing it.
    """
    text = measure_cpu_ceilings().to_toml()
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"wrote {out}")


def _facts(machine: Any) -> dict[str, Any]:
    return {
        "name": machine.name,
        "title": machine.title,
        "kind": machine.kind,
        "memory_bytes": machine.memory_bytes,
        "memory_bytes_per_s": machine.memory_bytes_per_s,
        "interconnect_bytes_per_s": machine.interconnect_bytes_per_s,
        "usd_per_hour": machine.usd_per_hour,
        "peak_flops": dict(machine.peak_flops),
        "sources": dict(machine.sources),
        "utilisation": asdict(machine.utilisation),
    }
