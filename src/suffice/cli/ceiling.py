"""`suffice calibrate --ceiling`: what could be gained at all, and whether votes help."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY

if not HELP_ONLY:
    from suffice.evals.traces.trace_set import TraceSet
    from suffice.recipes.calibrate.ceiling import ceiling_of
    from suffice.recipes.calibrate.config import CalibrateConfig


ADVICE = {
    "gains": "a vote helps",
    "no difference shown": "a vote gains nothing that is shown: one sample is enough",
    "hurts": "do not vote: the majority is wrong where single samples are right",
}


def show_ceiling(traces: TraceSet, config: CalibrateConfig, *, as_json: bool) -> None:
    """Print the ceiling of a recording."""
    found = ceiling_of(traces, config)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    console = Console()
    sure = f"at {100 * found.confidence:g} % confidence"
    console.print(
        f"[bold]ceiling[/bold] over {found.questions} distinct questions, {found.samples} recorded "
        f"samples each: on {found.all_wrong} all are wrong, so no vote, router or cascade of them "
        f"is right on more than [bold]{100 * found.most_accuracy:.1f} %[/bold] ({sure})",
        highlight=False,
    )
    console.print(
        f"baseline {found.baseline}: {100 * found.baseline_accuracy:.1f} % right; on "
        f"{found.rescuable} of the others some sample is right, so at most "
        f"[bold]{100 * found.most_gain:.1f} points[/bold] can be gained over it ({sure})",
        highlight=False,
    )
    if not found.votes:
        return
    table = Table("model", "one sample", "vote", "gain, points", "lowers, raises", "", box=None)
    for each in found.votes:
        gain = each.gain
        table.add_row(
            each.model,
            f"{100 * each.single:.1f} %",
            f"{100 * each.vote:.1f} % of {each.samples}",
            f"{100 * gain.estimate:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
            f"{100 * each.lowered:.0f} %, {100 * each.raised:.0f} % of questions",
            ADVICE[each.verdict],
        )
    console.print(table)
