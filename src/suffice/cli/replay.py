"""`suffice replay`: policies over recorded samples, and how they would queue."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, BaselineOption, PriceOption, prices_of
from suffice.core.completions import Budget
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.core.quantities import parse_rate
from suffice.core.savings import Saving, saved_in_words

if not HELP_ONLY:
    import numpy as np

    from suffice.architecture.catalog import load_model
    from suffice.evals.statistics.binomial import Interval
    from suffice.evals.traces.files import read_traces
    from suffice.evals.traces.trace_set import TraceSet
    from suffice.hardware import load_hardware
    from suffice.policies.auto import Auto
    from suffice.policies.registry import parse_policy
    from suffice.recipes.replay.needs import score_source
    from suffice.recipes.replay.queueing import Timeline
    from suffice.recipes.replay.run import ReplayConfig, Replayed, replay_traces
    from suffice.recipes.replay.serve import LoadConfig, replay_under_load, speed_of
    from suffice.throughput.serving import Serving


def replay(
    traces: Annotated[list[Path], typer.Argument()],
    policy: Annotated[list[str], typer.Option()],
    draws: Annotated[int, typer.Option(min=1)] = 4,
    seed: int = 0,
    model: str | None = None,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    max_samples: Annotated[int | None, typer.Option(min=1)] = None,
    max_tokens: Annotated[int | None, typer.Option("--budget-tokens", min=1)] = None,
    rate: str | None = None,
    hardware: str | None = None,
    shape: str | None = None,
    replicas: Annotated[int, typer.Option("--replicas", min=1)] = 1,
    requests: Annotated[int, typer.Option(min=1)] = 1000,
    spend: float | None = None,
    queue_target: float | None = None,
    price: PriceOption = None,
    baseline: BaselineOption = None,
    as_json: AsJson = False,
) -> None:
    """Play recorded samples through policies, as if a model drew them now.

    With --rate, --hardware and --shape also in time: queue, latency, GPU-seconds.

    Example: [bold]suffice replay data/traces/stepwise.parquet --policy self_consistency:samples=8
    --policy adaptive_consistency:max_samples=16[/bold]

    Options:
        traces: Trace files, taken as one set.
        policy: Policy with options; may be repeated.
        draws: How often each question is asked, with other samples.
        max_samples: Samples of a question at most, whatever the policy asks.
        seed: Random seed of orders and arrivals.
        model: Where a policy names none; the first.
        limit: First questions only.
        max_tokens: Per request.
        rate: Requests that arrive, e.g. 50/s.
        replicas: Replicas of --shape that share the requests.
        hardware: Machine of a replica, e.g. h100.
        shape: The model that is served.
        requests: Requests that arrive in all.
        spend: auto: mean samples' worth a request to aim at.
        queue_target: auto: waiting requests that double lambda.
    """  # fmt: skip
    timed = (rate, hardware, shape)
    if any(timed) and not all(timed):
        raise InputError("a replay in time needs --rate, --hardware and --shape together")
    found = read_traces(traces)
    config = ReplayConfig(
        draws=draws,
        seed=seed,
        model=model,
        limit=limit,
        budget=Budget(samples=max_samples, completion_tokens=max_tokens),
    )
    parsed = [(text, parse_policy(text)) for text in policy]
    prices = prices_of(price)
    prices.check(found.models, where="recorded")
    today = baseline or f"single@{model or found.models[0]}"
    compared: Replayed | None = None
    try:
        compared = replay_traces(found, parse_policy(today), config)
    except InputError:
        if baseline is not None:
            raise  # one call of a model is what was recorded, or it is not: nobody asked for it
    rows: list[_Row] = []
    for text, each in parsed:
        played = replay_traces(found, each, config)
        saving = None
        if compared is not None:
            saving = played.saving(compared, text=today, prices=prices)
        rows.append((text, played, saving))
    perfect = {
        text
        for text, each in parsed
        if score_source(each, found, model=model or found.models[0]) == "perfect"
    }
    warnings = _warnings(rows, compared, prices, perfect)
    timelines: list[Any] = []
    if rate is not None and hardware is not None and shape is not None:
        if not all(played.counts_tokens for _, played, _ in rows):
            raise InputError("a replay in time needs token counts, which this recording lacks")
        load = LoadConfig(
            rate_per_s=parse_rate(rate),
            requests=requests,
            replicas=replicas,
            spend=spend,
            queue_target=queue_target,
            seed=seed,
        )
        timelines = _timelines(found, parsed, config, load, hardware=hardware, shape=shape)
    if as_json:
        told = {
            "digest": found.digest,
            "baseline": today,
            "warnings": warnings,
            "policies": [_row(*each) for each in rows],
            "timelines": [_time_row(text, each) for text, each in timelines],
        }
        typer.echo(json.dumps(told, indent=2))
        return
    for line in warnings:
        typer.echo(f"warning: {line}", err=True)
    _print(rows, timelines, _against(today, rows, compared), perfect)


def _timelines(
    found: TraceSet,
    parsed: list[tuple[str, AnyPolicy]],
    config: ReplayConfig,
    load: LoadConfig,
    *,
    hardware: str,
    shape: str,
) -> list[tuple[str, Timeline]]:
    """Each policy in time; the price of `auto` alone follows a target of spend."""
    means = [_mean_tokens(found.prompt_tokens), _mean_tokens(found.completion_tokens)]
    speed = speed_of(load_model(shape), Serving(hardware=load_hardware(hardware)), *means)
    if load.spend is not None and not any(isinstance(each, Auto) for _, each in parsed):
        raise InputError("--spend steers the price of auto: add --policy auto")
    return [
        (
            text,
            replay_under_load(
                found,
                each,
                config,
                load if isinstance(each, Auto) else replace(load, spend=None),
                speed=speed,
            ),
        )
        for text, each in parsed
    ]


def _against(baseline: str, rows: list[_Row], compared: Replayed | None) -> str:
    """What `saved` is measured against, in which unit; or why it is not known."""
    known = [saving for _, _, saving in rows if saving is not None]
    if known:
        unit = {"usd": "USD", "tokens": "tokens, prompts included"}[known[0].unit]
        return f"saved: against {baseline}, in {unit}"
    if compared is None:
        return f"saved: not known: {baseline} cannot be played on this recording (--baseline)"
    if not compared.counts_tokens or not all(found.counts_tokens for _, found, _ in rows):
        return "saved: not known: the recording does not count the tokens of every sample"
    return "saved: not known: the models' tokens have no price (--price)"


def _warnings(
    rows: list[_Row], compared: Replayed | None, prices: Prices, perfect: set[str]
) -> list[str]:
    """What a reader would take for more than it is, a line each."""
    lines = []
    played = [found for _, found, _ in rows] + ([] if compared is None else [compared])
    spent = [each.spent or () for found in played for each in found.requests]
    models = sorted({name for samples in spent for name, _ in samples})
    if len(models) > 1 and not prices:
        lines.append(
            f"no prices: the column tokens adds those of {', '.join(models)} as if they cost the "
            "same; give --price MODEL=PROMPT/COMPLETION for each"
        )
    if perfect:
        lines.append(
            f"{PERFECT} its scores are right and wrong as recorded: a perfect verifier, which live "
            "traffic does not have"
        )
    return lines


PERFECT = "(*)"


def _mean_tokens(column: Any) -> float:
    return 1.0 if np.isnan(column).all() else float(np.nanmean(column))


_Row = tuple[str, "Replayed", "Saving | None"]


def _row(text: str, found: Replayed, saving: Saving | None) -> dict[str, Any]:
    def interval(each: Interval | None) -> Any:
        return None if each is None else [each.estimate, each.low, each.high]

    return {
        "policy": text,
        "requests": len(found.requests),
        "accuracy": interval(found.mean("correct")),
        "samples": interval(found.mean("samples")),
        "tokens": interval(found.mean("tokens")),
        "no_answer": interval(found.mean("gave_up")),
        "sent_to_large": interval(found.mean("to_large")),
        "saved": None if saving is None else saving.saved,
        "saving": None if saving is None else asdict(saving),
    }


def _time_row(text: str, found: Timeline) -> dict[str, Any]:
    prices = [each.price for each in found.served if each.price is not None]
    right = [each.answered.correct for each in found.served]
    names = ("p50", "p90", "p99")
    return {
        "policy": text,
        "requests": len(found.served),
        "accuracy": float(np.nanmean(right)) if not np.isnan(right).all() else None,
        "e2e_s": dict(zip(names, found.percentiles("e2e_s"), strict=True)),
        "wait_s": dict(zip(names, found.percentiles("wait_s"), strict=True)),
        "gpu_s_per_request": found.gpu_s / len(found.served),
        "utilisation": found.utilisation,
        "price": float(np.mean(prices)) if prices else None,
    }


def _print(rows: list[_Row], timelines: list[Any], against: str, perfect: set[str]) -> None:
    def said(each: Interval | None, scale: float = 1.0, digits: int = 1) -> str:
        if each is None:
            return "–"
        low, high = each.low * scale, each.high * scale
        return f"{each.estimate * scale:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    table = Table(box=None)
    table.add_column("policy", overflow="fold")
    for name in ("accuracy %", "samples", "tokens", "saved", "sent to large %", "no answer %"):
        table.add_column(name, justify="right")
    for text, found, saving in rows:
        saved = "–" if saving is None or saving.saved is None else saved_in_words(saving.saved)
        table.add_row(
            f"{text} {PERFECT}" if text in perfect else text,
            said(found.mean("correct"), 100),
            said(found.mean("samples")),
            said(found.mean("tokens")),
            f"[red]{saved}[/red]" if saved.startswith("costs") else saved,
            said(found.mean("to_large"), 100),
            said(found.mean("gave_up"), 100),
        )
    console.print(table)
    console.print(against)
    if not timelines:
        return
    timed = Table("policy", box=None)
    for name in ("accuracy %", "p50 s", "p90 s", "p99 s", "wait p90 s", "GPU-s/request", "busy %"):
        timed.add_column(name, justify="right")
    for text, found in timelines:
        row = _time_row(text, found)
        accuracy = "–" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
        timed.add_row(
            text if row["price"] is None else f"{text} (mean lambda {row['price']:.3g})",
            accuracy,
            *(f"{row['e2e_s'][name]:.3g}" for name in ("p50", "p90", "p99")),
            f"{row['wait_s']['p90']:.3g}",
            f"{row['gpu_s_per_request']:.3g}",
            f"{100 * row['utilisation']:.0f}",
        )
    console.print()
    console.print(timed)
