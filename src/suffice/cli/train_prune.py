"""`suffice train prune`: which tokens of a reasoning trace are worth their cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.cli.training_view import phases, settings_of
from suffice.core.files import write_bytes, write_text

if not HELP_ONLY:
    from rich.console import Console
    from rich.table import Table

    from suffice.report.style import to_png, to_svg
    from suffice.training.extras import require_torch


def prune(
    out: Annotated[Path, typer.Option()],
    config: Path | None = None,
    keep: float | None = None,
    per_step: int | None = None,
    seed: int | None = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Prune reasoning traces and train students on what is left (experimental).

    Greedy likelihood-preserving deletion with three objectives against random, uniform,
    truncation, surprisal, entropy and gradient importance, at the same number of tokens.

    Example: [bold]suffice train prune --seed 0 --out pruned/[/bold]

    Options:
        out: Folder for the result; resumed if interrupted.
        config: TOML file; options given here win.
        keep: Share of each trace's tokens that students see.
        per_step: Tokens deleted a greedy step.
        seed: Seed of all that is drawn.
        threads: CPU threads.
    """
    require_torch()
    import torch  # noqa: PLC0415 - heavy

    from suffice.recipes.pruning.plots import pruning_figure  # noqa: PLC0415 - torch
    from suffice.recipes.pruning.run import PruneTraining, train_prune  # noqa: PLC0415

    torch.set_num_threads(threads)
    asked = settings_of(PruneTraining, config, keep=keep, per_step=per_step, seed=seed)
    result = train_prune(asked, out, tell=phases(as_json))
    figure = pruning_figure(result)
    write_text(out / "pruning.svg", to_svg(figure))
    write_bytes(out / "pruning.png", to_png(figure))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    _print(result)
    typer.echo(f"written: {out}/pruning.json, pruning.svg, pruning.png")


def _print(result: Any) -> None:
    from suffice.recipes.pruning.run import SHARES  # noqa: PLC0415 - torch

    console = Console(width=max(120, Console().width))
    shown = [share for share in SHARES if share in (1.0, 0.7, 0.5, 0.33, 0.2, 0.0)]
    curves = Table("method", *(f"P(answer) at {share:g}" for share in shown), "tokens computed")
    for curve in result.curves:
        by_share = dict(curve.p_answer)
        curves.add_row(
            curve.method, *(str(by_share[share]) for share in shown),
            f"{curve.computed_tokens:.0f}",
        )  # fmt: skip
    console.print(curves)
    half = Table("method", "P(answer) at half over random", "symbols over words, left at half")
    for method, difference in result.against_random_at_half.items():
        half.add_row(method, str(difference), str(result.symbolic_over_filler_at_half[method]))
    console.print(half)
    students = Table("student of", "trace tokens learned from", "right", "tokens of a response")
    for student in (*result.students, result.untaught):
        students.add_row(
            student.arm, f"{student.tokens_learned_from:.1f}", str(student.accuracy),
            f"{student.tokens:.1f}",
        )  # fmt: skip
    console.print(students)
    typer.echo(f"surrogate: rank correlation {result.surrogate_rank_correlation} with the greedy")
