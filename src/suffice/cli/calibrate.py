"""`suffice calibrate`: recorded traces to a policy file with a certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from suffice.policies.policy_file import PolicyFile


def calibrate(
    traces: Annotated[
        list[Path], typer.Argument(help="Trace files (Parquet).", show_default=False)
    ],
    max_drop: Annotated[
        str, typer.Option("--max-drop", help="Largest loss of accuracy: 1% or 0.01.")
    ] = "1%",
    confidence: Annotated[
        str, typer.Option("--confidence", help="At which it must be shown: 95% or 0.95.")
    ] = "95%",
    method: Annotated[
        str, typer.Option("--method", help="fst (at a confidence) or crc (in expectation).")
    ] = "fst",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="drop (of accuracy, net) or harm (questions that only the safe arm gets right).",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        str, typer.Option("--scope", help="overall, or cluster: the bound in every cluster.")
    ] = "overall",
    safe_arm: Annotated[
        str | None,
        typer.Option(
            "--safe-arm",
            help="The standard, e.g. single@large; by default a vote of the most accurate model.",
            show_default=False,
        ),
    ] = None,
    cheap: Annotated[
        list[str] | None,
        typer.Option(
            "--cheap",
            help="An arm that may answer early, e.g. agreement:models=a+b; may be repeated.",
            show_default=False,
        ),
    ] = None,
    strong: Annotated[
        str | None,
        typer.Option(
            "--strong",
            help="Arm that unsettled votes of the safe arm may be handed to, e.g. single@large.",
            show_default=False,
        ),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option("--clusters", help="Of prompts; by the data's size.", show_default=False),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            help="Cost of a model's token, MODEL=NUMBER; may be repeated.",
            show_default=False,
        ),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="The traces mix data sets on purpose.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="The policy file.")] = Path("policy.json"),
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Folder for page and figures.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and the fit.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Find the cheapest policy whose accuracy is shown to be near the safe arm's.

    Example: [bold]suffice calibrate --max-drop 2% --confidence 95% --safe-arm single@large
    traces.parquet --out policy.json[/bold], then [bold]suffice serve --policy policy.json[/bold].
    """
    from suffice.evals.trace_files import read_traces
    from suffice.recipes.calibrate.config import CalibrateConfig
    from suffice.recipes.calibrate.output import write_calibration
    from suffice.recipes.calibrate.play import TokenWeights
    from suffice.recipes.calibrate.run import calibrate as run

    choices: Any = {
        "method": one_of("--method", method, ("fst", "crc")),
        "loss": None if loss is None else one_of("--loss", loss, ("drop", "harm")),
        "scope": one_of("--scope", scope, ("overall", "cluster")),
    }
    config = CalibrateConfig(
        max_drop=share("--max-drop", max_drop),
        confidence=share("--confidence", confidence),
        safe=safe_arm,
        cheap=tuple(cheap or ()),
        strong=strong,
        clusters=clusters,
        seed=seed,
        weights=TokenWeights(tuple(named_number("--weight", each) for each in weight or ())),
        mixed=mixed,
        **choices,
    )
    found = run(read_traces(traces), config)
    written = write_calibration(found, out, report)
    if as_json:
        table = found.file.certificate.model_dump(mode="json")
        typer.echo(json.dumps(table, indent=2, ensure_ascii=False))
        return
    show(found.file)
    typer.echo(f"wrote {', '.join(map(str, written))}")


def show(file: PolicyFile) -> None:
    """Print a certificate."""
    from rich.console import Console
    from rich.table import Table

    from suffice.recipes.calibrate.output import cluster_rows

    console = Console()
    certificate, got = file.certificate, file.certificate.expected
    console.print(f"[bold]certificate {certificate.id}[/bold]  {file.option} > {file.baseline}")
    console.print(certificate.statement)
    saving = got.saving
    console.print(
        f"saves [bold]{100 * saving.estimate:.1f} %[/bold] "
        f"[{100 * saving.low:.1f}, {100 * saving.high:.1f}] of {got.cost_unit}; accuracy "
        f"{100 * got.accuracy:.1f} %, safe arm {100 * got.baseline_accuracy:.1f} %, "
        f"cheap arm {100 * got.option_accuracy:.1f} %",
        markup=True,
    )
    table = Table("cluster", "rule", "n", "early", "harmed", "helped", "bound", box=None)
    for row in cluster_rows(file):
        table.add_row(*row)
    console.print(table)


def share(option: str, text: str) -> float:
    """A share written as 1% or 0.01."""
    from suffice.core.errors import InputError

    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        raise InputError(f"{option} {text!r} is no share: write 1% or 0.01") from None
    return number / 100.0 if text.strip().endswith("%") else number


def one_of(option: str, text: str, known: tuple[str, ...]) -> str:
    """The text if it is one of the known words."""
    from suffice.core.errors import InputError

    if text not in known:
        raise InputError(f"{option} must be {' or '.join(known)}, got {text!r}")
    return text


def named_number(option: str, text: str) -> tuple[str, float]:
    """NAME=NUMBER."""
    from suffice.core.errors import InputError

    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not equals or not name or not value >= 0.0:
        raise InputError(f"{option} {text!r}: write MODEL=NUMBER with a number of 0 or more")
    return name, value
