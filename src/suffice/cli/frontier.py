"""`suffice frontier`: accuracy against cost of every policy on recorded samples."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, BaselineOption, PriceOption, Seed, TraceFiles, prices_of
from suffice.core.completions import CostModel
from suffice.core.errors import InputError, UnknownName

if not HELP_ONLY:
    from suffice.architecture.catalog import load_model
    from suffice.evals.traces.files import read_traces
    from suffice.evals.traces.trace_set import TraceSet
    from suffice.hardware import load_hardware
    from suffice.recipes.frontier.compound import compound
    from suffice.recipes.frontier.output import (
        UNITS,
        against,
        buy_rows,
        gain_rows,
        policy_rows,
        write_frontier,
    )
    from suffice.recipes.frontier.plots import short_name
    from suffice.recipes.frontier.run import FrontierConfig
    from suffice.recipes.frontier.run import frontier as run
    from suffice.throughput.pricing import OwnModel, cost_model
    from suffice.throughput.serving import Serving


def frontier(
    traces: TraceFiles,
    policies: Annotated[list[str] | None, typer.Option("--policies", "--policy")] = None,
    axis: str | None = None,
    price: PriceOption = None,
    baseline: BaselineOption = None,
    shape: list[str] | None = None,
    versus: str | None = None,
    hardware: str | None = None,
    batch: int | None = None,
    shuffles: Annotated[int, typer.Option("--draws", "--shuffles")] = 4,
    seed: Seed = 0,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy against tokens, FLOPs, GPU-seconds and money, with intervals, hull and oracle.

    Example: [bold]suffice frontier traces.parquet --shape meta-llama/Llama-3.2-1B --versus
    Surefire-1B --hardware h100 --out run/[/bold]

    Options:
        policies: A policy, e.g. adaptive_consistency:max_samples=8@model; may be repeated. By
            default a set that fits the traces.
        axis: Cost of the best buys: tokens, samples, flops, gpu_s or usd; by what is known.
        shape: MODEL=SHAPE, or SHAPE for every model: FLOPs and GPU-seconds.
        versus: Another shape for the same samples.
        hardware: Where the shapes run.
        batch: Sequences together; all that fit by default.
        shuffles: How often each question is asked, with other samples.
        out: Folder for page, pictures and table.
    """  # fmt: skip
    recorded = read_traces(traces)
    config = FrontierConfig(
        policies=tuple(policies or ()), shuffles=shuffles, seed=seed, axis=axis, baseline=baseline
    )
    costs, own = costs_of(recorded, price or [], shape or [], hardware, batch)
    shapes = None
    if versus is not None:
        base, other = two_shapes(own, versus, recorded, hardware, batch)
        names = (base.shape.name or "base", other.shape.name or versus)
        shapes = compound(recorded, config, base, other, names)
    found = run(recorded, config, cost_model=costs)
    written = [] if out is None else write_frontier(found, out, shapes)
    if as_json:
        typer.echo(json.dumps(as_table(found), indent=2, ensure_ascii=False))
        return
    show(found, shapes)
    if written:
        typer.echo(f"wrote {', '.join(map(str, written))}")


def as_table(found: Any) -> dict[str, Any]:
    """A frontier as JSON: what the table shows, by name."""
    points = [
        {
            "policy": point.policy,
            "samples": point.samples,
            "accuracy": asdict(point.accuracy),
            **{name: asdict(point.cost(name)) for name in found.axes},
            "saved": None if point.saved is None else asdict(point.saved),
            "shuffled": None if point.control is None else asdict(point.control),
        }
        for point in (*found.points, found.oracle)
    ]
    return {
        "questions": found.questions,
        "baseline": found.baseline or None,
        "unit": found.unit,
        "points": points,
        "buys": [asdict(b) for b in found.buys],
    }


def show(found: Any, shapes: Any) -> None:
    """Print the tables."""
    console = Console()
    header, rows, strong = policy_rows(found)
    table = Table(header[0], box=None, pad_edge=False)
    for name in header[1:]:
        table.add_column(name, no_wrap=True, justify="right")
    for number, row in enumerate(rows):
        if row[-1].startswith("costs"):
            row[-1] = f"[red]{row[-1]}[/red]"
        table.add_row(short_name(row[0]), *row[1:], style="bold" if number in strong else "")
    console.print(table)
    console.print(against(found))
    best = Table(UNITS[found.axis], "best within it", "accuracy", "best in resamples", box=None,
                 pad_edge=False)  # fmt: skip
    for row in buy_rows(found):
        best.add_row(*row)
    console.print()
    console.print(best)
    if shapes is not None:
        console.print(
            f"\n{shapes.other_name} against {shapes.base_name}: a sample costs "
            f"{shapes.speedup:.2f}x less GPU time, so the same time buys "
            f"{100 * (shapes.speedup - 1):.0f} % more samples"
        )
        gains = Table("GPU ms", "samples", "samples", "accuracy", "accuracy", box=None,
                      pad_edge=False)  # fmt: skip
        gains.add_row("", shapes.base_name, shapes.other_name, shapes.base_name, shapes.other_name)
        for row in gain_rows(shapes):
            gains.add_row(*row)
        console.print(gains)


def costs_of(
    traces: TraceSet, prices: list[str], shapes: list[str], hardware: str | None,
    batch: int | None,
) -> tuple[CostModel, dict[str, OwnModel]]:  # fmt: skip
    """The cost model of prices and shapes, and the models that have a shape."""
    if bool(shapes) != (hardware is not None):
        raise InputError("FLOPs and GPU-seconds need both --shape and --hardware")
    given = prices_of(prices)
    given.check(traces.models, where="recorded")
    known: dict[str, Any] = {
        model: price for model in traces.models if (price := given.of(model)) is not None
    }
    own: dict[str, OwnModel] = {}
    for text in shapes:
        model, equals, name = text.partition("=")
        served = own_model(name if equals else model, hardware or "", batch)
        names = [known_model(model, traces)] if equals else list(traces.models)
        own |= dict.fromkeys(names, served)
    return cost_model({**known, **own}), own


def known_model(model: str, traces: TraceSet) -> str:
    """The model, if it was recorded."""
    if model not in traces.models:
        raise UnknownName.of(
            "model", model, traces.models, f"(recorded: {', '.join(traces.models)})"
        )
    return model


def own_model(shape: str, hardware: str, batch: int | None) -> OwnModel:
    """A shape served on a machine."""
    serving = Serving(hardware=load_hardware(hardware))
    return OwnModel(shape=load_model(shape), serving=serving, batch=batch)


def two_shapes(
    own: dict[str, OwnModel], versus: str, traces: TraceSet, hardware: str | None,
    batch: int | None,
) -> tuple[OwnModel, OwnModel]:  # fmt: skip
    """The shape of all models, and the one to compare it with."""
    if len(traces.models) != 1 or len(own) != 1:
        raise InputError(
            "--versus compares two shapes of one model: give one --shape, and traces of one model"
        )
    return next(iter(own.values())), own_model(versus, hardware or "", batch)
