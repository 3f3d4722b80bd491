"""`suffice keys`: make, list, rotate and revoke the keys that clients of the gateway use."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.quantities import format_count, parse_duration, parse_integer

if not HELP_ONLY:
    from suffice.ledger.api_keys import (
        BudgetWindow,
        Limits,
        add_key,
        load_ring,
        make_key,
        revoke_key,
        rotate_key,
    )
    from suffice.ledger.default_url import default_url
    from suffice.ledger.quotas import Meter, shown
    from suffice.ledger.store import Store, open_existing

keys = typer.Typer(
    name="keys",
    help="Keys of the gateway's clients, with their budgets and rate limits.",
    no_args_is_help=True,
)

Ledger = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        help="File or postgresql:// URL; SUFFICE_LEDGER, else the user's own file, by default.",
        show_default=False,
    ),
]


@keys.command("add")
def add(
    name: Annotated[str, typer.Argument()],
    admin: Flag = False,
    audit: Flag = False,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    parallel_requests: int | None = None,
    models: Annotated[list[str] | None, typer.Option("--model")] = None,
    expires_in: str | None = None,
    budget_tokens: str | None = None,
    budget_usd: float | None = None,
    window: str = "month",
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once: only its hash is kept. The first key that is made turns
    keys on for every gateway on this ledger, within a second.

    Example: [bold]suffice keys add alice --requests-per-minute 60 --budget-usd 20[/bold]

    Options:
        name: Whom it is for; shown in lists and reports.
        admin: May see the dashboard, metrics and all feedback.
        audit: May judge answers under a certificate.
        requests_per_minute: Requests started per minute.
        tokens_per_minute: Tokens per minute, of prompt and completion.
        parallel_requests: Requests at a time, in each process.
        models: It may ask for this model alone; repeat for more, * as in file names.
        expires_in: Refused after, e.g. 30d.
        budget_tokens: Tokens per window, e.g. 2M.
        budget_usd: USD per window.
        window: The budgets': hour, day, month or total.
    """
    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        parallel_requests=parallel_requests,
        budget_tokens=parse_integer(budget_tokens, what="budget") if budget_tokens else None,
        budget_usd=budget_usd,
        budget_window=cast(BudgetWindow, window),
    )
    lasts_s = parse_duration(expires_in, what="--expires-in") if expires_in else None
    key, text = make_key(
        name,
        admin=admin,
        audit=audit,
        limits=limits,
        models=models or (),
        expires_s=None if lasts_s is None else time.time() + lasts_s,
    )
    with closing(Store(ledger or default_url())) as store:
        first = not load_ring(store)
        add_key(store, key)
    if as_json:
        made = {"id": key.id, "name": key.name, "admin": admin, "audit": audit, "key": text}
        made |= {"models": list(key.models), "expires_s": key.expires_s}
        typer.echo(json.dumps(made))
        return
    typer.echo(text)
    typer.echo(f"key {key.id} of {key.name}: shown this once, only its hash is kept", err=True)
    if first:
        typer.echo("from now on the gateway answers nobody without a key", err=True)
        if not admin:
            typer.echo("the dashboard needs an admin key: suffice keys add NAME --admin", err=True)


@keys.command("list")
def list_keys(ledger: Ledger = None, as_json: AsJson = False) -> None:
    """List keys with what they used in their budget's window.

    Example: [bold]suffice keys list[/bold]
    """
    with closing(open_existing(ledger or default_url())) as store:
        found = load_ring(store).keys
        meter = Meter()
        meter.confirm(store.used_lately(time.time()))
    rows = [shown(key, meter) for key in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "id", "name", "models", "made", "per minute", "budget", "used", box=None, pad_edge=False
    )
    for row in rows:
        rates = [
            f"{format_count(row[f'{unit}_per_minute'])} {unit}"
            for unit in ("requests", "tokens")
            if row[f"{unit}_per_minute"]
        ]
        rates += [f"{row['parallel_requests']} at a time"] if row["parallel_requests"] else []
        budgets = [f"{format_count(row['budget_tokens'])} tokens"] if row["budget_tokens"] else []
        budgets += [f"${row['budget_usd']:g}"] if row["budget_usd"] else []
        used = f"{format_count(row['used_tokens'])} tokens"
        used += f", ${row['used_usd']:.2f}" if row["used_usd"] else ""
        table.add_row(
            row["id"],
            row["name"]
            + (" (admin)" if row["admin"] else " (audit)" if row["audit"] else "")
            + (" [red]revoked[/red]" if row["revoked_s"] else _ends(row["expires_s"])),
            ", ".join(row["models"]) or "all",
            time.strftime("%Y-%m-%d", time.gmtime(row["created_s"])),
            ", ".join(rates) or "no limit",
            f"{', '.join(budgets)} a {row['budget_window']}".replace("a total", "in total")
            if budgets
            else "no limit",
            f"{used} this {row['budget_window']}".replace("this total", "in total"),
        )
    Console().print(table)
    if not rows:
        typer.echo("no keys: the gateway asks for none")


def _ends(expires_s: float | None) -> str:
    if expires_s is None:
        return ""
    if expires_s <= time.time():
        return " [red]expired[/red]"
    return f" [dim]until {time.strftime('%Y-%m-%d', time.gmtime(expires_s))}[/dim]"


@keys.command("rotate")
def rotate(
    key: Annotated[str, typer.Argument()],
    grace: str = "0s",
    ledger: Ledger = None,
) -> None:
    """Print a new secret for a key; its id, limits and what it has used stay.

    Example: [bold]suffice keys rotate alice --grace 1d[/bold]

    Options:
        key: Its id, or its name if only one has it.
        grace: The old secret is taken for so long, e.g. 1d.
    """
    grace_s = parse_duration(grace, what="--grace")
    with closing(open_existing(ledger or default_url())) as store:
        rotated, text = rotate_key(store, key, grace_s=grace_s)
    typer.echo(text)
    until = f"for {grace} more" if grace_s else "no more"
    typer.echo(f"key {rotated.id} of {rotated.name}: the old secret is taken {until}", err=True)


@keys.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument()],
    ledger: Ledger = None,
) -> None:
    """Revoke a key; gateways refuse it within a second. What it used stays on record.

    Example: [bold]suffice keys revoke alice[/bold]

    Options:
        key: Its id, or its name if only one has it.
    """
    with closing(open_existing(ledger or default_url())) as store:
        revoked = revoke_key(store, key)
    typer.echo(f"revoked key {revoked.id} of {revoked.name}")
