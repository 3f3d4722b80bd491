"""`suffice train tool-calls`: what preference adds to demonstrated tool calls."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.cli.training_view import phases, settings_of

if not HELP_ONLY:
    from rich.console import Console
    from rich.table import Table

    from suffice.training.extras import require_torch


def tool_calls(
    out: Annotated[Path, typer.Option(help="Folder for the result; resumed if interrupted.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file; options given here win.", show_default=False)
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Strength of the preference.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train a small model to call tools, by demonstration and by preference (experimental).

    Pairs are mined from the model's own chains. DPO with and without an SFT term is held against
    SFT on demonstrations, on new ones and on the right chains, for the same tokens computed.

    Example: [bold]suffice train tool-calls --seed 0 --out calls/[/bold]
    """
    require_torch()
    import torch  # noqa: PLC0415 - heavy

    from suffice.recipes.tool_calls.run import (  # noqa: PLC0415 - torch
        ToolCallTraining,
        train_tool_calls,
    )

    torch.set_num_threads(threads)
    asked = settings_of(ToolCallTraining, config, beta=beta, seed=seed)
    result = train_tool_calls(asked, out, tell=phases(as_json))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    _print(result)
    typer.echo(f"written: {out}/tool-calls.json and a folder for each model")


def _print(result: Any) -> None:
    console = Console(width=max(140, Console().width))
    for temperature in ("greedy", "sampled"):
        table = Table(
            temperature, "right", "wrong arguments", "wrong function", "refused wrongly",
            "refuses rightly", "wrong where preference errs", "million tokens computed",
        )  # fmt: skip
        for outcome in (result.before, *result.arms):
            s = getattr(outcome, temperature)
            table.add_row(
                outcome.arm, str(s.right), str(s.wrong_arguments), str(s.wrong_function),
                str(s.refused_wrongly), str(s.refuses), str(s.preference_errors),
                f"{outcome.computed_tokens / 1e6:.2f}",
            )  # fmt: skip
        console.print(table)
    rejected = ", ".join(f"{fault} {count}" for fault, count in result.rejected_for.items())
    typer.echo(f"{result.parameters:,} weights; {result.pairs} pairs, rejected for: {rejected}")
