"""How rules that choose between two modes are printed."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY

if not HELP_ONLY:
    from suffice.recipes.modes.compare import Comparison


def print_comparison(found: Comparison) -> None:
    """Cells, rules, and what tells a wrong short answer."""
    console = Console(width=max(130, Console().width))
    cells = Table("task", "steps", "n", "short right", "think right", "tokens")
    for cell in found.cells:
        cells.add_row(
            cell.task, str(cell.difficulty), str(cell.questions), str(cell.short_right),
            str(cell.think_right), f"{cell.short_tokens:.1f} / {cell.think_tokens:.1f}",
        )  # fmt: skip
    console.print(cells)
    lead = "" if found.lead is None else f"{found.lead}'s reward over it, paired"
    rules = Table("rule", "right", "tokens", "of always-think", "thinks", "reward", lead)
    for rule in found.rules:
        share = rule.token_share
        rules.add_row(
            rule.rule, str(rule.right), f"{rule.tokens.mean:.1f}",
            f"{share.mean:.1%} [{share.low:.1%}, {share.high:.1%}]",
            "" if rule.thinks is None else f"{rule.thinks:.1%}",
            str(rule.reward), "" if rule.leads_by is None else str(rule.leads_by),
        )  # fmt: skip
    console.print(rules)
    for name, value in found.auroc_at_equal_length.items():
        typer.echo(f"{name}: AUROC for a wrong short answer at equal prompt length {value}")
    typer.echo(
        f"{found.questions} questions; 95 % intervals by bootstrap over them; a token costs "
        f"{found.token_price:g} of what a right answer is worth"
    )
