"""`suffice ledger`: what the gateway wrote down, summed up, exported, or thrown away."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.keys import Ledger
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.quantities import counted, format_count, format_seconds, parse_duration
from suffice.core.savings import saved_in_words

if not HELP_ONLY:
    from suffice.ledger import audits as kept
    from suffice.ledger import queries
    from suffice.ledger.default_url import default_url
    from suffice.ledger.export import export_file, records, write_jsonl
    from suffice.ledger.store import open_existing

ledger = typer.Typer(
    name="ledger", help="Requests, samples and judgements on record.", no_args_is_help=True
)
Since = Annotated[
    str | None,
    typer.Option(
        "--since", help="Only the last 90m, 24h, 7d …; all by default.", show_default=False
    ),
]


@ledger.command("stats")
def stats(since: Since = None, ledger: Ledger = None, as_json: AsJson = False) -> None:
    """Requests, tokens, cost beside the baseline's, judgements and money by arm and by key.

    Saved is one minus the cost over the baseline's, red where more was spent than it would have;
    what certificates have saved stands beside what their policy files promised.

    Example: [bold]suffice ledger stats --since 24h[/bold]
    """
    with closing(open_existing(ledger or default_url())) as store:
        began_s = _began_s(since)
        arms = queries.arms_since(store, began_s)
        found = {
            "rows": queries.counts(store),
            "arms": arms,
            "total": queries.total_of(arms),
            "latency": queries.latency_since(store, began_s),
            "certificates": queries.certificates_since(store, began_s),
            "keys": queries.keys_since(store, began_s),
        }
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _print(found)


def _began_s(since: str | None) -> float:
    return 0.0 if since is None else time.time() - parse_duration(since, what="--since")


def _print(found: dict[str, Any]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("arm", overflow="fold")
    for name in ("requests", "failed", "client left", "tokens", "saved", "USD", "right"):
        table.add_column(name, justify="right", no_wrap=True)
    priced = bool(found["total"]["usd"])
    for one in [*found["arms"], found["total"] | {"arm": "all"}]:
        table.add_row(
            one["arm"],
            f"{one['requests']:.0f}",
            f"{one['failed']:.0f}",
            f"{one['left_early']:.0f}",
            format_count(one["prompt_tokens"] + one["completion_tokens"]),
            _saved(one["saved"], one["estimated"], one["compared"]),
            f"{one['usd']:.3g}" if priced else "-",
            "-" if one["score"] is None else f"{one['score']:.0%}",
        )
    console.print(table)
    if not priced:
        console.print("USD: -, no prices are set ([prices] in suffice.toml, or serve --price)")
    if found["total"]["estimated"]:
        console.print("~: the baseline's cost was estimated for some of the requests")
    for one in found["certificates"]:
        console.print(_certificate(one))
    for phase, times in found["latency"].items():
        shown = [f"{n[:-2]} {format_seconds(v)}" for n, v in times.items() if v is not None]
        console.print(f"{phase.replace('_', ' ')}: {', '.join(shown)}")
    if any(one["id"] for one in found["keys"]):
        table = Table("key", "requests", "tokens", "USD", box=None, pad_edge=False)
        for one in found["keys"]:
            tokens = format_count(one["tokens"])
            usd = f"{one['usd']:.4g}" if priced else "-"
            table.add_row(one["key"], str(one["requests"]), tokens, usd)
        console.print(table)


def _saved(saved: float | None, estimated: float, compared: float) -> str:
    """`22%`, or in red `costs 4.8x`; ~ where the baseline was mostly estimated."""
    if saved is None:
        return "-"
    text = ("~" if estimated * 2 > compared else "") + saved_in_words(saved).removesuffix(" saved")
    return f"[red]{text}[/red]" if saved < 0 else text


def _certificate(one: dict[str, Any]) -> str:
    """What a certificate has saved, beside what its file promised."""
    seen, promised = one["seen"], one["promised"]
    text = f"certificate {one['certificate']}: "
    if seen is None or seen["saved"] is None:
        text += "nothing compared yet"
    else:
        text += saved_in_words(seen["saved"])
        text += f" on {counted(seen['requests'], 'request')} against {seen['baseline']}"
    if promised is None:
        return text
    said = f"{saved_in_words(promised['saved'])} [{promised['low']:.0%}, {promised['high']:.0%}]"
    if not promised["comparable"]:
        return f"{text}; promised against {promised['baseline']}: {said}"
    return f"{text}; promised {said}"


@ledger.command("export")
def export(
    out: Path | None = None,
    since: Since = None,
    ledger: Ledger = None,
) -> None:
    """Write one record per request, with samples, cost beside the baseline's and judgement.

    Example: [bold]suffice ledger export --out requests.parquet --since 7d[/bold]

    Options:
        out: File that ends in .jsonl or .parquet; standard output without one.
    """
    with closing(open_existing(ledger or default_url())) as store:
        found = records(store, since_s=_began_s(since))
        if out is None:
            write_jsonl(found, sys.stdout)
            return
        count = export_file(found, out)
    typer.echo(f"{counted(count, 'request')} written to {out}")


@ledger.command("audits")
def audits(
    waiting: Flag = False,
    since: Since = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """What the gateway's audits of certified answers found and cost, by certificate.

    Example: [bold]suffice ledger audits --waiting[/bold]

    Options:
        waiting: Answers that differ from the baseline's, not yet judged.
    """
    with closing(open_existing(ledger or default_url())) as store:
        began_s = _began_s(since)
        ask = kept.waiting if waiting else kept.audits_since
        found = ask(store, began_s)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif waiting:
        for one in found:
            typer.echo(f"{one['request_id']}  {one['certificate']}  {_utc(one['at_s'])}")
    else:
        _print_audits(found)


def _utc(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s))


def _print_audits(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    counts = ("compared", "differ", "waiting", "judged", "harmed", "helped", "failed")
    table.add_column("certificate", overflow="fold")
    for name in (*counts, "tokens", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        tokens = format_count(one["prompt_tokens"] + one["completion_tokens"])
        usd = "-" if one["usd"] is None else f"{one['usd']:.3g}"
        table.add_row(one["certificate"], *(str(one[name]) for name in counts), tokens, usd)
    Console().print(table)


@ledger.command("prune")
def prune(
    older_than: Annotated[str, typer.Option()],
    texts_only: Flag = False,
    ledger: Ledger = None,
) -> None:
    """Delete old requests with all that belongs to them. Keys and what they used stay.

    Example: [bold]suffice ledger prune --older-than 90d[/bold]

    Options:
        older_than: Age of what goes: 90d, 12h …
        texts_only: Delete prompts and outputs, keep the rest.
    """
    before_s = time.time() - parse_duration(older_than, what="--older-than")
    with closing(open_existing(ledger or default_url())) as store:
        if texts_only:
            store.prune(before_s=0.0, texts_before_s=before_s)
            typer.echo(f"prompts and outputs older than {older_than} are deleted")
            return
        gone = store.prune(before_s=before_s)
    typer.echo(f"{counted(gone, 'request')} older than {older_than} deleted")
