"""`suffice train soft-thoughts`: whether vectors from an assistant say anything."""

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


def soft_thoughts(
    out: Annotated[Path, typer.Option(help="Folder for the result; resumed if interrupted.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file; options given here win.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Put a frozen assistant's states in front of a frozen model's answer (experimental).

    A projector alone is trained. Beside it: no slots, zero vectors, noise, trained constants, the
    states of another problem, the assistant's answer as a token, LoRA.

    Example: [bold]suffice train soft-thoughts --seed 0 --out soft/[/bold]
    """
    require_torch()
    import torch  # noqa: PLC0415 - heavy

    from suffice.recipes.soft_thoughts.run import (  # noqa: PLC0415 - torch
        SoftThoughtTraining,
        train_soft_thoughts,
    )

    torch.set_num_threads(threads)
    asked = settings_of(SoftThoughtTraining, config, seed=seed)
    result = train_soft_thoughts(asked, out, tell=phases(as_json))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    _print(result)
    typer.echo(f"written: {out}/soft-thoughts.json, backbone/, projector-*.pt")


def _print(result: Any) -> None:
    table = Table(
        "in the slots", "learned weights", "right, 2 steps", "3 steps", "4 steps", "3 and 4",
        "the other task",
    )  # fmt: skip
    for arm in result.arms:
        table.add_row(
            arm.arm, f"{arm.parameters:,}", *(str(arm.by_steps[n]) for n in (2, 3, 4)),
            str(arm.target), str(arm.held_out_task),
        )  # fmt: skip
    Console(width=max(140, Console().width)).print(table)
    typer.echo(
        f"backbone of {result.parameters:,} weights; with the true result in its slots it is right "
        f"on {result.hinted}, the assistant on {result.assistant_right} of what it is asked"
    )
    moved = "" if result.lora_moved is None else f", LoRA's by up to {result.lora_moved:.3g}"
    typer.echo(f"logits on the other task moved by {result.backbone_moved:g}{moved}")
