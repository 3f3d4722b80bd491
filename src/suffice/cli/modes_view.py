"""How training and evaluation of modes look in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY

if not HELP_ONLY:
    from suffice.recipes.modes.evaluate import ModesResult

# Figures of a line of progress in the order shown, with their form; those that a phase lacks are
# left out.
_SHOWN = {
    "reward": ".3f", "accuracy": ".3f", "tokens": ".1f", "think_share": ".2f",
    "cut_share": ".2f", "groups_without_spread": ".2f", "gradient_norm": ".2g",
    "choice_entropy": ".2f", "kl": ".3g", "clip_share": ".2f", "tokens_per_s": ".0f",
}  # fmt: skip


def progress(quiet: bool) -> Callable[[dict[str, Any]], None]:
    """Prints a line of progress; nothing if `quiet`."""

    def tell(line: dict[str, Any]) -> None:
        if quiet:
            return
        if line["phase"] == "shape":
            typer.echo(f"shape: {line['shape']}, {line['parameters']:,} parameters")
            return
        parts = [f"{line['phase']} step {line['step']}", f"loss {line['loss']:.4f}"]
        for name, form in _SHOWN.items():
            if line.get(name) is not None:
                parts.append(f"{name.replace('_', ' ')} {line[name]:{form}}")
        parts.append("p(think) " + _by_task(line["p_think"]))
        parts += [
            f"{mode} right {_by_task(found)}" for mode, found in line.get("right", {}).items()
        ]
        left = line.get("left_s")
        parts.append(
            f"{line['elapsed_s']:.0f} s" + ("" if left is None else f", {left:.0f} s left")
        )
        typer.echo(" · ".join(parts))

    return tell


def print_result(result: ModesResult) -> None:
    """Both tables."""
    console = Console(width=max(110, Console().width))  # intervals need the room
    cells = Table("task", "steps", "n", "short right", "think right", "tokens", "p(think)", "best")
    for cell in result.cells:
        cells.add_row(
            cell.task, str(cell.difficulty), str(cell.problems), str(cell.short_accuracy),
            str(cell.think_accuracy), f"{cell.short_tokens:.1f} / {cell.think_tokens:.1f}",
            f"{cell.p_think:.3f}", "think" if cell.optimum_thinks else "short",
        )  # fmt: skip
    console.print(cells)
    cut = sum(cell.cut_share * 2 * cell.problems for cell in result.cells)
    if cut:
        asked = 2 * sum(cell.problems for cell in result.cells)
        typer.echo(
            f"{cut:.0f} of {asked} responses were cut at max_tokens and count as wrong: raise it"
        )
    routers = Table("router", "accuracy", "tokens", "of always-think", "thinks", "reward")
    for router in result.routers:
        tokens, share = router.tokens, router.token_share
        routers.add_row(
            router.router, str(router.accuracy),
            f"{tokens.mean:.2f} [{tokens.low:.2f}, {tokens.high:.2f}]",
            f"{share.mean:.1%} [{share.low:.1%}, {share.high:.1%}]",
            f"{router.think_share:.1%}", str(router.reward),
        )  # fmt: skip
    console.print(routers)
    if result.auroc_at_equal_length is not None:
        typer.echo(
            "p(think) tells wrong short answers from right ones at equal prompt length: AUROC "
            f"{result.auroc_at_equal_length}"
        )
    if result.policies:
        _print_policies(result, console)
    for easy, saving, lost in result.saving_by_easy_share:
        typer.echo(
            f"{easy:.0%} easy problems: {saving:.1%} of always-think's tokens saved, "
            f"{100 * lost:+.2f} points of accuracy lost"
        )


def _print_policies(result: ModesResult, console: Console) -> None:
    table = Table("gateway's policy", "accuracy", "tokens", "of always-think", "samples")
    for row in result.policies:
        if row.accuracy is None or row.tokens is None or row.token_share is None:
            continue
        tokens, share = row.tokens, row.token_share
        table.add_row(
            row.policy, str(row.accuracy),
            f"{tokens.mean:.2f} [{tokens.low:.2f}, {tokens.high:.2f}]",
            f"{share.mean:.1%} [{share.low:.1%}, {share.high:.1%}]", f"{row.samples:.2f}",
        )  # fmt: skip
    console.print(table)
    for row in result.policies:
        if row.refused:
            typer.echo(f"{row.policy}: {row.refused}")


def _by_task(p_think: dict[str, float]) -> str:
    rows: dict[str, list[str]] = {}
    for name, value in p_think.items():
        rows.setdefault(name.partition("/")[0], []).append(f"{value:.2f}")
    return ", ".join(f"{task} {' '.join(values)}" for task, values in rows.items())
