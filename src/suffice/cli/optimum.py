"""`suffice optimum`: how large a model a compute budget trains best, by a law in N and D."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.quantities import format_count, parse_count

if not HELP_ONLY:
    from suffice.architecture.law_file import load_law
    from suffice.architecture.laws import Law
    from suffice.architecture.optimum import (
        FLOPS_PER_TOKEN,
        ComputeOptimum,
        Estimate,
        compute_optimum,
    )


def optimum(
    law: Annotated[str, typer.Option()],
    flops: Annotated[list[str], typer.Option()],
    served: str | None = None,
    flops_per_token: float | None = None,
    confidence: float = 0.9,
    extrapolate: bool = False,
    as_json: AsJson = False,
) -> None:
    """How large a model a budget trains best, and on how many tokens, with intervals.

    Example: [bold]suffice optimum --law besiroglu2024 --flops 1e21 --served 1T[/bold]

    Options:
        law: A law's name (see `suffice laws`) or a law file.
        flops: Budget in FLOPs, e.g. 1e21; repeatable.
        served: Tokens served over the model's life: 2 N FLOPs each.
        flops_per_token: Training FLOPs per token and parameter; 6 by default.
        confidence: Confidence of the two-sided intervals.
        extrapolate: Answer outside the law's evidence.
    """
    loaded = load_law(law)
    found = [
        compute_optimum(
            loaded,
            parse_count(each, what="--flops"),
            flops_per_token=FLOPS_PER_TOKEN if flops_per_token is None else flops_per_token,
            served_tokens=0.0 if served is None else parse_count(served, what="--served"),
            confidence=confidence,
            extrapolate=extrapolate,
        )
        for each in flops
    ]
    if as_json:
        records = [{"law": loaded.name, **asdict(each)} for each in found]
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        _print_optima(loaded, found)


def _print_optima(law: Law, found: list[ComputeOptimum]) -> None:
    console = Console()
    per_token, served = found[0].flops_per_token, found[0].served_tokens
    serving = f" + 2 N x {format_count(served)} served" if served else ""
    table = Table(
        title=f"By law {law.name}, C = {per_token:g} N D{serving}",
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption=f"intervals: {100 * found[0].confidence:.0f} %; N counts {law.parameter_count} "
        "parameters",
    )
    for column in ("FLOPs", "N*", "D*", "D*/N*", "loss, nats", "N* ~ C^"):
        table.add_column(column, justify="right")
    for each in found:
        table.add_row(
            f"{each.flops:.3g}",
            _shown(each.N, lambda value: format_count(value, 4)),
            _shown(each.D, lambda value: format_count(value, 4)),
            _shown(each.tokens_per_parameter, lambda value: f"{value:.1f}"),
            _shown(each.loss, lambda value: f"{value:.4f}"),
            _shown(each.exponent, lambda value: f"{value:.3f}"),
        )
    console.print(table)
    for each in found:
        for note in each.notes:
            console.print(f"  • at {each.flops:.3g} FLOPs: {note}", markup=False, highlight=False)


def _shown(estimate: Estimate, text: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return text(estimate.value)
    return f"{text(estimate.value)}\n{text(estimate.low)} … {text(estimate.high)}"
