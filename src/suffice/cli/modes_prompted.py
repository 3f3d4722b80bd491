"""`suffice train modes` where the TOML says how a pretrained model is asked in either mode."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.modes_compare_view import print_comparison
from suffice.cli.training_view import phases, settings_of

if not HELP_ONLY:
    from suffice.core.files import read_toml
    from suffice.recipes.modes.prompted import PromptedTraining, train_prompted


def is_prompted(config: Path) -> bool:
    """Whether the file holds the two ways of asking, `[short]` and `[think]`."""
    values, _ = read_toml(config, what="config")
    return "short" in values or "think" in values


def run_prompted(
    config: Path,
    out: Path,
    model: str | None,
    problems: Path | None,
    seed: int | None,
    *,
    device: str,
    as_json: bool,
) -> None:
    """Train the gate, print its table."""
    asked = settings_of(
        PromptedTraining, config,
        model=model, problems=None if problems is None else str(problems), seed=seed,
    )  # fmt: skip
    result = train_prompted(asked, out, device=device, tell=phases(as_json))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    print_comparison(result.comparison)
    typer.echo(
        f"gate on {result.parameters:,} frozen weights: {out}/gate.json, modes.json, answers.jsonl"
    )
