"""`suffice ladder fit | report | train-pick`: what the runs say, and whether it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from suffice.architecture.laws import ConditionalLaw
    from suffice.architecture.shape import Shape
    from suffice.recipes.ladder.fit import LadderFit
    from suffice.recipes.ladder.pick import PickResult, Timed

_TIMING = "Throughput"
Store = Annotated[Path, typer.Option(help="JSONL that holds the runs.")]
Family = Annotated[
    str | None,
    typer.Option(help="Form of the law; default: the simplest that wins (see `suffice laws`)."),
]
Forms = Annotated[
    str | None, typer.Option(help="Forms to compare, with commas; default: all, about a minute.")
]
RateFactor = Annotated[
    float,
    typer.Option("--learning-rate-factor", help="Use runs at this factor of the ladder's rate."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def fit(
    store: Store,
    out: Annotated[Path | None, typer.Option(help="Law file to write.")] = None,
    family: Family = None,
    forms: Forms = None,
    factor: RateFactor = 1.0,
    name: Annotated[str, typer.Option(help="Name of the law.")] = "our-ladder",
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a law of shape to a ladder's runs: forms compared, intervals, noise, where it holds.

    Example: [bold]suffice ladder fit --store runs.jsonl --out law.json[/bold]
    """
    from suffice.architecture.law_file import record_of, save_law
    from suffice.recipes.ladder.fit import fit_ladder

    found = fit_ladder(
        store, family=family, compared=_forms(forms), name=name, bootstrap_draws=bootstrap,
        learning_rate_factor=factor, seed=seed,
    )  # fmt: skip
    if out is not None:
        save_law(out, found.law)
    if as_json:
        typer.echo(json.dumps({**record_of(found.law), "draws": None}, indent=2))
        return
    _print_fit(found)
    if out is not None:
        typer.echo(f"law file: {out}")


def report(
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder for report.html and ladder.png.")],
    family: Family = None,
    forms: Forms = None,
    factor: RateFactor = 1.0,
    name: Annotated[str, typer.Option(help="Name of the law.")] = "our-ladder",
    pick: Annotated[
        list[Path] | None,
        typer.Option(help="Result of `suffice ladder train-pick`, to be shown too; repeatable."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
) -> None:
    """Draw what the runs say: curves over x, r, depth and KV share, errors, optimum, noise.

    Example: [bold]suffice ladder report --store runs.jsonl --out report/[/bold]
    """
    from suffice.recipes.ladder.fit import fit_ladder
    from suffice.recipes.ladder.pick import PickResult
    from suffice.recipes.ladder.report import write_report

    trained = [PickResult.load(path) for path in pick or []]
    found = fit_ladder(
        store, family=family, compared=_forms(forms), name=name, bootstrap_draws=bootstrap,
        learning_rate_factor=factor, seed=seed,
    )  # fmt: skip
    for path in write_report(found, out, picks=trained).values():
        typer.echo(str(path))


def train_pick(
    law: Annotated[str, typer.Option(help="Conditional law, by name or file.")],
    data: Annotated[Path, typer.Option(help="Folder made by `suffice ladder data`.")],
    store: Store,
    size: Annotated[str, typer.Option(help="N of both shapes, e.g. 350K.")],
    tokens: Annotated[str, typer.Option(help="Training tokens of each run, e.g. 1.75M.")],
    out: Annotated[Path, typer.Option(help="Folder for configs, result and timings.")],
    plan: Annotated[
        Path | None, typer.Option(help="The ladder's plan file, for its recipe.")
    ] = None,
    pick: Annotated[
        str | None, typer.Option(help="config.json of the pick; default: what a design picks.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="config.json of the reference; default: like --like.")
    ] = None,
    like: Annotated[
        str, typer.Option(help="Model whose ratios the reference has.")
    ] = "meta-llama/Llama-3.2-1B",
    hardware: Annotated[str, typer.Option(help="Hardware that the pick is to be fast on.")] = "cpu",
    confidence: Annotated[
        float, typer.Option(help="That the pick's loss is no higher, and of intervals.")
    ] = 0.9,
    seeds: Annotated[int, typer.Option(help="Runs of each shape.")] = 3,
    learning_rate_factor: Annotated[
        float, typer.Option(help="Learning rate over the ladder's: does the answer depend on it?")
    ] = 1.0,
    head_dim: Annotated[int, typer.Option(help="Head size.")] = 32,
    multiple: Annotated[int, typer.Option(help="Step of hidden and MLP width.")] = 16,
    tolerance: Annotated[float, typer.Option(help="Relative tolerance on N.")] = 0.02,
    workers: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads each.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    batch: Annotated[
        str, typer.Option(help="Batch sizes to time; empty for none.", rich_help_panel=_TIMING)
    ] = "1,16",
    input_tokens: Annotated[
        int, typer.Option(help="Prompt tokens.", rich_help_panel=_TIMING)
    ] = 1024,
    output_tokens: Annotated[
        int, typer.Option(help="Tokens to generate.", rich_help_panel=_TIMING)
    ] = 128,
    repeat: Annotated[int, typer.Option(help="Repeats.", rich_help_panel=_TIMING)] = 5,
    clock: Annotated[
        str,
        typer.Option(help="wall, or cpu for shared processors.", rich_help_panel=_TIMING),
    ] = "wall",
    as_json: AsJson = False,
) -> None:
    """Train a law's pick and a reference of equal N on equal tokens; compare loss and speed.

    Example: [bold]suffice ladder train-pick --law law.json --data data/ --store runs.jsonl
    --size 350K --tokens 1.75M --out pick/[/bold]
    """  # fmt: skip
    from suffice.architecture.law_file import load_law
    from suffice.architecture.laws import ConditionalLaw
    from suffice.core.errors import InputError
    from suffice.core.files import write_json
    from suffice.core.quantities import parse_count
    from suffice.recipes.ladder.pick import judge, read_shape, same_ratios, search_space
    from suffice.training.extras import require_torch
    from suffice.training.run_store import RunStore
    from suffice.training.shards import read_manifest

    found_law = load_law(law)
    if not isinstance(found_law, ConditionalLaw):
        raise InputError(f"law {found_law.name!r} says nothing about shape at equal N")
    require_torch()
    vocabulary = read_manifest(data).vocab_size
    space = search_space(
        found_law, parse_count(size, what="--size"), head_dim=head_dim, multiple=multiple,
        tolerance=tolerance,
    )  # fmt: skip
    theirs = (
        read_shape(reference, vocabulary)
        if reference
        else same_ratios(_load(like), space, vocab_size=vocabulary)
    )
    budget = parse_count(tokens, what="--tokens")
    mine = (
        read_shape(pick, vocabulary)
        if pick
        else _designed(
            found_law, theirs, space, budget, hardware=hardware, confidence=confidence,
            lengths=(input_tokens, output_tokens), store=store, out=out,
        )
    )  # fmt: skip
    for name, shape in (("pick", mine), ("reference", theirs)):
        write_json(out / f"{name}.json", _config(shape))
        if not as_json:
            typer.echo(f"{name}: {_line(shape)}")
    _train(
        mine, theirs, data=data, store=store, plan=plan, tokens=round(budget), seeds=seeds,
        factor=learning_rate_factor, workers=workers, threads=threads, device=device, quiet=as_json,
    )  # fmt: skip
    timed = _timed(
        mine, theirs, batch=batch, lengths=(input_tokens, output_tokens), repeat=repeat,
        clock=clock, device=device, threads=threads, out=out, quiet=as_json,
    )  # fmt: skip
    result = judge(
        RunStore(store).read(), mine, theirs, found_law, confidence=confidence, timed=timed,
        learning_rate_factor=learning_rate_factor,
    )  # fmt: skip
    result.save(out / "train-pick.json")
    _print_pick(result, out, as_json)


def _forms(text: str | None) -> tuple[str, ...]:
    from suffice.recipes.ladder.fit import OUR_FORMS, PUBLISHED_FORMS

    if text is None:
        return (*PUBLISHED_FORMS, *OUR_FORMS)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _load(name: str) -> Shape:
    from suffice.architecture.catalog import load_shape

    return load_shape(name)


def _config(shape: Shape) -> dict[str, Any]:
    from suffice.architecture.hf_config import config_from_shape

    return config_from_shape(shape)


def _line(shape: Shape) -> str:
    from suffice.architecture.counts import non_embedding_parameters
    from suffice.training.rung import law_coordinates

    at = law_coordinates(shape)
    return (
        f"hidden {shape.hidden_size}, MLP {shape.intermediate_size}, {shape.num_hidden_layers} "
        f"layers, heads {shape.num_attention_heads}/{shape.num_key_value_heads}, N "
        f"{int(non_embedding_parameters(shape)):,}, x {at['x']:.3f}, r {at['r']:.2f}, KV share "
        f"{at['kv_share']:g}"
    )


def _designed(
    law: ConditionalLaw, reference: Shape, space: dict[str, Any], tokens: float, *,
    hardware: str, confidence: float, lengths: tuple[int, int], store: Path, out: Path,
) -> Shape:  # fmt: skip
    """The shape that a design picks in place of `reference`; its report goes to `out`/design."""
    from suffice.recipes.design import DesignConfig, design
    from suffice.recipes.design.output import write_run
    from suffice.recipes.ladder.pick import as_rung_shape
    from suffice.recipes.ladder.table import typical_loss

    result = design(
        DesignConfig(
            # A design's notes start at 1M tokens; at equal N the budget changes no pick.
            like=reference, law=law, tokens=max(tokens, 1e6), hardware=hardware,
            confidence=confidence,
            input_tokens=lengths[0], output_tokens=lengths[1],
            reference_loss=typical_loss(store, space["parameters"], tokens), **space,
        )
    )  # fmt: skip
    write_run(result, out / "design")
    return as_rung_shape(result.recommended.shape, reference.vocab_size)


def _train(
    mine: Shape, theirs: Shape, *, data: Path, store: Path, plan: Path | None, tokens: int,
    seeds: int, factor: float, workers: int, threads: int, device: str, quiet: bool,
) -> None:  # fmt: skip
    from suffice.cli.ladder_view import Progress
    from suffice.recipes.ladder.pick import pick_plan
    from suffice.recipes.ladder.plan import Plan
    from suffice.recipes.ladder.run import run_ladder
    from suffice.recipes.ladder.runner import devices_of, runner_for
    from suffice.training.run_store import RunStore
    from suffice.training.rung import Recipe
    from suffice.training.trainer import Machine

    ladder = None if plan is None else Plan.load(plan)
    asked = pick_plan(
        mine, theirs, recipe=Recipe() if ladder is None else ladder.recipe, tokens=tokens,
        seeds=seeds, flops_per_s=2e10 if ladder is None else ladder.flops_per_s,
        learning_rate_factor=factor,
    )  # fmt: skip
    if ladder is not None:
        # A tuned ladder trains at the rate that its tuning runs chose; they are in the store.
        from dataclasses import replace

        tuning = tuple(rung for rung in ladder.rungs if rung.purpose == "tune")
        asked = replace(asked, rungs=(*tuning, *asked.rungs))
    devices = devices_of(device)
    on_gpu = devices[0].startswith("cuda")
    machine = Machine(
        device=devices[0], compiled=on_gpu, cuda_graph=on_gpu, work=store.with_suffix(".work")
    )
    with Progress(quiet=quiet) as events:
        runner = runner_for(
            data, machine, events, asked, devices=devices, workers=workers, threads=threads,
            ray=None, gpus_per_rung=0.0, deadline_s=None,
        )  # fmt: skip
        run_ladder(asked, data, RunStore(store), runner, events=events)


def _timed(
    mine: Shape, theirs: Shape, *, batch: str, lengths: tuple[int, int], repeat: int, clock: str,
    device: str, threads: int, out: Path, quiet: bool,
) -> list[Timed]:  # fmt: skip
    """Both shapes on the torch engine in turn; samples go to `out`/throughput.jsonl."""
    import sys

    if not batch.strip():
        return []
    from suffice.cli.measure import batch_sizes
    from suffice.recipes.ladder.pick import Timed, named
    from suffice.throughput.engines.choose import EngineOptions, make_engine
    from suffice.throughput.engines.protocol import Lengths
    from suffice.throughput.measure import Measurement, MeasurePlan, begin_run, paired_ratios
    from suffice.throughput.records import ResultFile, read_samples

    options: Any = {"clock": clock, "device": None if device == "auto" else device}
    engine = make_engine("torch", EngineOptions(dtype="fp32", threads=threads, **options))
    shapes = named(mine, theirs)
    asked = MeasurePlan(
        shapes=shapes, lengths=Lengths(input_tokens=lengths[0], output_tokens=lengths[1]),
        batches=batch_sizes(batch), repeats=repeat, prefill_repeats=1, dtype="fp32",
    )  # fmt: skip
    path = out / "throughput.jsonl"
    run, environment, _ = begin_run(
        engine, ResultFile(path), command=" ".join(["suffice", *sys.argv[1:]])
    )
    samples = Measurement(
        engine, ResultFile(path), run=run, environment=environment, held=read_samples(path),
        progress=(lambda _: None) if quiet else (lambda text: typer.echo(text, err=True)),
    ).carry_out(asked)  # fmt: skip
    found = []
    for size in asked.batches:
        ratio = paired_ratios(samples, *shapes, size)
        if ratio is None:
            typer.echo(f"no timing at batch {size}: {path} says why", err=True)
        else:
            found.append(
                Timed(
                    batch=size, input_tokens=lengths[0], output_tokens=lengths[1],
                    ratio=ratio.median, least=ratio.least, largest=ratio.largest,
                    repeats=ratio.n, where=f"{environment.device}, torch, {clock} clock",
                )
            )  # fmt: skip
    return found


def _print_pick(result: PickResult, out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo((out / "train-pick.json").read_text(encoding="utf-8"))
        return
    for sentence in result.sentences():
        typer.echo(sentence)
    typer.echo(f"result: {out / 'train-pick.json'}")


def _print_fit(found: LadderFit) -> None:
    from rich.console import Console

    from suffice.recipes.ladder import report as tables

    console = Console()
    console = console if console.width >= 140 else Console(width=140)
    console.print(
        f"[bold]{found.name}[/bold]: {found.law.formula}\n{found.law.provenance.fitted_on}",
        highlight=False,
    )
    console.print(_table(tables.COEFFICIENT_COLUMNS, tables.coefficient_rows(found)))
    console.print(_table(tables.CURVE_COLUMNS, tables.curve_rows(found)))
    console.print(_table(tables.FORM_COLUMNS, tables.form_rows(found)))
    if found.checks:
        console.print(_table(tables.RATE_COLUMNS, tables.rate_rows(found)))
    for sentence in tables.reading(found):
        console.print(f"  - {sentence}", highlight=False, markup=False)
    if found.fit.warnings:
        console.print("\nWarnings", style="bold yellow")
        for warning in found.fit.warnings:
            console.print(f"  - {warning}", highlight=False, markup=False)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        first = number == 0
        table.add_column(column, justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*row)
    return table
