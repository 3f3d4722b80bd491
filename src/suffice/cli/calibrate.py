"""`suffice calibrate`: recorded traces to a policy file with a certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.ceiling import show_ceiling
from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, PriceOption, TraceFiles, WeightOption, prices_of
from suffice.core.errors import InputError
from suffice.core.quantities import parse_share

if not HELP_ONLY:
    from suffice.evals.traces.files import read_traces
    from suffice.policies.policy_file import PolicyFile
    from suffice.recipes.calibrate.config import CalibrateConfig
    from suffice.recipes.calibrate.earlier_calibrations import new_questions, noted
    from suffice.recipes.calibrate.output import (
        ONLY_THE_BOUND,
        baseline_line,
        group_rows,
        limit_rows,
        only_the_bound,
        plain_rows,
        write_calibration,
    )
    from suffice.recipes.calibrate.run import Survey, calibration_of, survey


def calibrate(
    traces: TraceFiles,
    max_drop: str = "1%",
    confidence: str = "95%",
    baseline: str | None = None,
    option: list[str] | None = None,
    large: str | None = None,
    price: PriceOption = None,
    loss: str | None = None,
    method: str = "fst",
    test: str = "auto",
    scope: str = "overall",
    groups: int | None = None,
    fitted: bool | None = None,
    ceiling: Flag = False,
    mixed: Flag = False,
    out: Path = Path("policy.json"),
    report: Path | None = None,
    seed: int = 0,
    tries: int = 1,
    new: Annotated[bool, typer.Option("--new-questions")] = False,
    as_json: AsJson = False,
    safe_arm: Annotated[str | None, typer.Option("--safe-arm", hidden=True)] = None,
    cheap: Annotated[list[str] | None, typer.Option("--cheap", hidden=True)] = None,
    strong: Annotated[str | None, typer.Option("--strong", hidden=True)] = None,
    clusters: Annotated[int | None, typer.Option("--clusters", hidden=True)] = None,
    weight: WeightOption = None,
) -> None:
    """Find the cheapest rule that is shown to lose no more than a limit against what you run today.

    Example: [bold]suffice calibrate --max-drop 2% --baseline single@large --price small=.1/.2
    --price large=1/2 traces.parquet --out policy.json[/bold], then
    [bold]suffice serve --policy policy.json[/bold].

    Options:
        max_drop: Accuracy limit: largest loss, in points (2%).
        confidence: How sure it must be: 95% or 0.95.
        baseline: What you run today, e.g. single@large. Default: one call of the dearest or largest
            model; with one model recorded, a vote over its samples.
        option: What may answer in its place, e.g. single@small or agreement:models=a+b; may be
            repeated. Default: everything sensible.
        large: Where the baseline is a vote: whom an unsettled vote may be handed to, e.g.
            single@large.
        loss: drop (accuracy lost, net) or harm (answers that only the baseline gets right).
        method: fst (at a confidence) or crc (in expectation).
        test: means (of each question's samples), paired (one sample of each), or auto: by how often
            questions were sampled.
        scope: overall, or group: the bound in every question group.
        groups: Question groups; by the number of questions.
        fitted: Try rules that are fitted on a third of the questions, or do not.
        ceiling: Only show how much any vote or router could gain at all.
        mixed: The traces mix data sets on purpose.
        out: The policy file.
        report: Folder for page and figures.
        seed: Order of samples and split; part of the certificate.
        tries: Calibrations of these questions that you will make in all, named before the first:
            they share the error probability.
        new: Leave out questions that an earlier calibration has tested.
        as_json: Print the certificate as JSON.
    """
    del weight  # refused, with what to write instead
    if scope == "cluster":
        scope = "group"
    choices: Any = {
        "method": one_of("--method", method, ("fst", "crc")),
        "test": one_of("--test", test, ("auto", "paired", "means")),
        "loss": None if loss is None else one_of("--loss", loss, ("drop", "harm")),
        "scope": one_of("--scope", scope, ("overall", "group")),
    }
    config = CalibrateConfig(
        max_drop=parse_share(max_drop, what="--max-drop"),
        confidence=parse_share(confidence, what="--confidence"),
        baseline=baseline or safe_arm,
        options=tuple(option or cheap or ()),
        large=large or strong,
        groups=groups or clusters,
        fitted=fitted,
        seed=seed,
        tries=tries,
        prices=prices_of(price),
        mixed=mixed,
        **choices,
    )
    recorded = read_traces(traces)
    if ceiling:
        show_ceiling(recorded, config, as_json=as_json)
        return
    if new:
        recorded = new_questions(out, recorded)
    found = survey(recorded, config)
    noted(out, found)
    if not as_json:
        show_survey(found)
    calibration = calibration_of(found)
    written = write_calibration(calibration, out, report)
    if as_json:
        table = calibration.file.certificate.model_dump(mode="json")
        typer.echo(json.dumps(table, indent=2, ensure_ascii=False))
        return
    show(calibration.file)
    typer.echo(f"wrote {', '.join(map(str, written))}")


def show_survey(found: Survey) -> None:
    """Print baseline, the table limit -> saved, and plain rules beside it."""
    console = Console()
    console.print(f"[bold]baseline[/bold] {baseline_line(found)}", highlight=False)
    for warning in found.warnings:
        console.print(f"[yellow]note[/yellow] {warning}", highlight=False)
    table = Table("accuracy limit", "saved", "right", box=None)
    table.add_column("cheapest rule that is shown", overflow="fold")
    for row in limit_rows(found):
        table.add_row(*row)
    console.print(table)
    if found.plain:
        plain = Table(box=None)
        plain.add_column("plain rule, nothing certified", overflow="fold")
        for column in ("saved", "points lost", "right"):
            plain.add_column(column, no_wrap=True)
        for row in plain_rows(found):
            plain.add_row(*row)
        console.print(plain)
    if only_the_bound(found):
        console.print(ONLY_THE_BOUND, highlight=False)
    for remedy in found.advice.remedies:
        console.print(f"[bold]what would help[/bold] {remedy.said}", highlight=False)


def show(file: PolicyFile) -> None:
    """Print a certificate."""
    console = Console()
    certificate, got = file.certificate, file.certificate.expected
    console.print(f"[bold]certificate {certificate.id}[/bold]  {file.option}, else {file.baseline}")
    console.print(certificate.statement)
    saving = got.saving
    console.print(
        f"saves [bold]{100 * saving.estimate:.1f} %[/bold] "
        f"[{100 * saving.low:.1f}, {100 * saving.high:.1f}] of what the baseline costs "
        f"({'USD' if got.cost_unit == 'usd' else got.cost_unit}); "
        f"right: {100 * got.accuracy:.1f} %, baseline {100 * got.baseline_accuracy:.1f} %",
        markup=True,
    )
    table = Table(box=None)
    for column in ("questions", "rule"):
        table.add_column(column, overflow="fold")
    for column in ("n", "without baseline", "lost", "won", "bound"):
        table.add_column(column, no_wrap=column != "without baseline")
    for row in group_rows(file):
        table.add_row(*row)
    console.print(table)


def one_of(option: str, text: str, known: tuple[str, ...]) -> str:
    """The text if it is one of the known words."""
    if text not in known:
        raise InputError(f"{option} must be {' or '.join(known)}, got {text!r}")
    return text
