"""How `suffice size` prints its answer."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.quantities import format_bytes, format_count

if not HELP_ONLY:
    from suffice.architecture.model_counts import parameters
    from suffice.recipes.size.config import SizeConfig
    from suffice.recipes.size.output import layout_in_short, layout_in_words
    from suffice.recipes.size.result import Sized, SizeResult
    from suffice.recipes.size.traffic import Traffic


SHOWN_NOTES = 6


def print_size(
    result: SizeResult,
    traffic: Traffic | None,
    peer: dict[str, float] | None,
    why_no_peer: str | None,
) -> None:
    """A table of machines where there are several, then the first of them in full."""
    console = Console()
    model, best = result.model, result.best
    counts = parameters(model)
    active = f", {format_count(counts.active)} active" if counts.active != counts.total else ""
    console.print(
        f"{model.name or model.model_type}: {format_count(counts.total)} parameters{active}, "
        f"{model.weights}",
        highlight=False,
    )
    console.print(_asked(result.config, traffic), highlight=False)
    console.print()
    if len(result.answers) > 1:
        console.print(_machines(result))
        console.print()
    _print_one(console, best, result.config)
    for one in result.unfit:
        console.print(f"{one.hardware}: {one.reason}", highlight=False)
    if peer is not None:
        console.print(
            f"aiconfigurator, one replica at {max(1, round(best.batch))} in flight: "
            f"{peer['output_tokens_per_s']:,.0f} tok/s, TTFT {_ms(peer['ttft_s'])}, TPOT "
            f"{_ms(peer['tpot_s'])}",
            highlight=False,
        )
    elif why_no_peer is not None:
        console.print(f"cross-check: {why_no_peer}", highlight=False)
    console.print()
    if best.replicas > 1:
        console.print(f"Each of the {best.replicas} replicas:", highlight=False)
    console.print(best.command, highlight=False, soft_wrap=True, markup=False)


def _asked(config: SizeConfig, traffic: Traffic | None) -> str:
    """The question in one line."""
    parts = [str(config.requests)]
    if config.requests.cached_share:
        parts.append(f"{config.requests.cached_share:.0%} of prompts cached")
    if traffic is not None:
        hours = traffic.span_s / 3600.0
        parts.append(f"{traffic.calls:,} calls in {hours:.1f} h of the ledger")
    if config.rate_per_s is not None:
        busiest = " (the busiest 5 minutes)" if traffic is not None else ""
        parts.append(f"{config.rate_per_s:.3g} requests/s at random{busiest}")
    if config.speculative > 1.0:
        parts.append(f"{config.speculative:g} tokens per step")
    limits = [
        f"{name} <= {_ms(limit)}"
        for name, limit in (("TTFT", config.max_ttft_s), ("TPOT", config.max_tpot_s))
        if limit is not None
    ]
    if limits:
        share = "" if config.rate_per_s is None else f" for {config.within:.0%}"
        parts.append(" and ".join(limits) + share)
    return ", ".join(parts)


def _machines(result: SizeResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("machine", overflow="fold")
    for name in ("GPUs", "tok/s", "TTFT", "TPOT", "$/h", "$/M out"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("replica", overflow="fold")
    for one in result.answers:
        table.add_row(
            one.serving.hardware.name,
            str(one.devices),
            f"{one.output_tokens_per_s:,.0f}",
            _ms(one.ttft_within_s),
            _ms(one.tpot_within_s),
            f"{one.usd_per_hour:.2f}",
            f"{one.usd_per_million_tokens:.2f}",
            layout_in_short(one.serving) + ("" if one.meets else " [red]misses[/red]"),
        )
    return table


def _print_one(console: Console, one: Sized, config: SizeConfig) -> None:
    machine = one.serving.hardware
    replicas = f"{one.replicas} replicas of " if one.replicas > 1 else ""
    console.print(
        f"[bold]{one.devices} x {machine.name}[/bold]: {replicas}{layout_in_words(one.serving)}, "
        f"{one.serving.engine}",
        highlight=False,
    )
    if one.reason is not None:
        console.print(f"[red]not within the limits[/red]: {one.reason}", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("predicted", justify="right", no_wrap=True)
    table.add_column("floor", justify="right", no_wrap=True)
    for row in _figures(one, config):
        table.add_row(*row)
    console.print(table)
    if one.confirmed is not None:
        found = one.confirmed
        more = ""
        if found.replicas != found.replicas_by_formula:
            more = f" (formulas alone said {found.replicas_by_formula})"
        console.print(
            f"simulated: {found.requests:,} random arrivals on {found.replicas} "
            f"replica{'s' if found.replicas > 1 else ''}{more}: {config.within:.0%} within TTFT "
            f"{_ms(found.ttft_s)} and TPOT {_ms(found.tpot_s)}",
            highlight=False,
        )
    if one.pools is not None:
        pools = one.pools
        console.print(
            f"two pools: {pools.devices} x {machine.name}: {pools.prefill.replicas} x "
            f"({layout_in_words(pools.prefill.serving)}) prefill, {pools.decode.replicas} x "
            f"({layout_in_words(pools.decode.serving)}) decode, TTFT {_ms(pools.ttft_s)}, TPOT "
            f"{_ms(pools.tpot_s)} for {config.within:.0%}, ${pools.usd_per_hour:.2f}/h",
            highlight=False,
        )
    elif config.disaggregated:
        console.print("two pools: no number of replicas keeps the limits", highlight=False)
    for note in one.notes[:SHOWN_NOTES]:
        console.print(f"note: {note}", highlight=False)


def _figures(one: Sized, config: SizeConfig) -> list[tuple[str, str, str]]:
    """Name, prediction, and what the machine's peaks allow at best."""
    context = config.context or config.requests.longest_tokens
    floor = one.floor
    rows = [
        ("weights per GPU", format_bytes(one.weight_bytes), ""),
        (f"KV cache of {context:,} tokens", format_bytes(one.kv_bytes), ""),
        ("room for KV tokens per replica", f"{one.kv_tokens:,}", ""),
        ("requests that fit per replica", f"{one.largest_batch:,}", ""),
        ("in flight per replica", f"{one.batch:,.4g}", ""),
        (
            "output tokens/s",
            f"{one.output_tokens_per_s:,.0f}",
            f"{floor.output_tokens_per_s:,.0f}" if config.rate_per_s is None else "",
        ),
        ("prompt and output tokens/s", f"{one.total_tokens_per_s:,.0f}", ""),
        ("TTFT, mean", _ms(one.ttft_s), _ms(floor.ttft_s)),
        ("TPOT, mean", _ms(one.tpot_s), _ms(floor.tpot_s)),
    ]
    if config.rate_per_s is not None:
        share = f"{config.within:.0%}"
        rows += [
            (f"TTFT for {share}", _ms(one.ttft_within_s), ""),
            (f"TPOT for {share}", _ms(one.tpot_within_s), ""),
        ]
    rows += [
        ("GPUs", str(one.devices), str(floor.devices)),
        ("price per hour", f"${one.usd_per_hour:,.2f}", ""),
        (
            "price per million output tokens",
            f"${one.usd_per_million_tokens:,.2f}",
            _floor_price(one) if config.rate_per_s is None else "",
        ),
    ]
    return rows


def _floor_price(one: Sized) -> str:
    return f"${one.usd_per_hour / 3600.0 / one.floor.output_tokens_per_s * 1e6:,.2f}"


def _ms(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    if seconds >= 10.0:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"
