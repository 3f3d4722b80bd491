"""`suffice ladder fit` and `report`: what the runs say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, LadderStore
from suffice.core.errors import InputError

if not HELP_ONLY:
    from suffice.architecture.law_file import load_law, record_of, save_law
    from suffice.architecture.laws import ConditionalLaw
    from suffice.recipes.ladder import report as tables
    from suffice.recipes.ladder.compared import compare_picks
    from suffice.recipes.ladder.criteria import Criteria, judge_ladder
    from suffice.recipes.ladder.criteria_power import criteria_power
    from suffice.recipes.ladder.fit import OUR_FORMS, PUBLISHED_FORMS, LadderFit, fit_ladder
    from suffice.recipes.ladder.pick import (
        PickResult,
    )
    from suffice.recipes.ladder.report import write_report
    from suffice.recipes.ladder.table import LAW_PURPOSES, Counted
    from suffice.training.pretrain.run_store import RunStore


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


CountedOption = Annotated[
    str,
    typer.Option(
        "--counted", help="What a size counts: `matrices` of layers, or `head` for N + V d."
    ),
]
CorrectSize = Annotated[
    bool,
    typer.Option(
        "--correct-size/--as-trained", help="Bring losses to the mean size of their scale."
    ),
]
Purposes = Annotated[
    str | None, typer.Option(help="Runs to take, e.g. design,repeat; default: all but picks.")
]


def fit(
    store: LadderStore,
    out: Path | None = None,
    family: Family = None,
    forms: Forms = None,
    factor: RateFactor = 1.0,
    name: str = "our-ladder",
    counted: CountedOption = "matrices",
    correct_size: CorrectSize = True,
    purposes: Purposes = None,
    bootstrap: int = 1000,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a law of shape to a ladder's runs: forms compared, intervals, noise, where it holds.

    Example: [bold]suffice ladder fit --store runs.jsonl --out law.json[/bold]

    Options:
        out: Law file to write.
        name: Name of the law.
        bootstrap: Resamples for the intervals.
        seed: Seed of the resamples.
    """
    found = fit_ladder(
        store, family=family, compared=_forms(forms), name=name, bootstrap_draws=bootstrap,
        learning_rate_factor=factor, counted=_counted(counted), correct_size=correct_size,
        purposes=_purposes(purposes), seed=seed,
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
    store: LadderStore,
    out: Annotated[Path, typer.Option()],
    family: Family = None,
    forms: Forms = None,
    factor: RateFactor = 1.0,
    name: str = "our-ladder",
    pick: list[Path] | None = None,
    counted: CountedOption = "matrices",
    correct_size: CorrectSize = True,
    purposes: Purposes = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> None:
    """Draw what the runs say: curves over x, r, depth and KV share, errors, optimum, noise.

    Example: [bold]suffice ladder report --store runs.jsonl --out report/[/bold]

    Options:
        out: Folder for report.html and ladder.png.
        name: Name of the law.
        pick: Result of `suffice ladder train-pick`, to be shown too; repeatable.
        bootstrap: Resamples for the intervals.
        seed: Seed of the resamples.
    """
    trained = [PickResult.load(path) for path in pick or []]
    found = fit_ladder(
        store, family=family, compared=_forms(forms), name=name, bootstrap_draws=bootstrap,
        learning_rate_factor=factor, counted=_counted(counted), correct_size=correct_size,
        purposes=_purposes(purposes), seed=seed,
    )  # fmt: skip
    for path in write_report(found, out, picks=trained).values():
        typer.echo(str(path))


def judge(
    criteria: Annotated[Path, typer.Option()],
    law: Annotated[str, typer.Option()],
    store: LadderStore,
    as_json: AsJson = False,
) -> None:
    """Whether a ladder's law kept its word, by criteria written before the first run.

    Example: [bold]suffice ladder judge --criteria criteria.json --law law.json
    --store runs.jsonl[/bold]

    Options:
        criteria: File fixed and committed before training.
        law: Conditional law, by name or file.
    """
    loaded = load_law(law)
    if not isinstance(loaded, ConditionalLaw):
        raise InputError(f"law {loaded.name!r} says nothing about shape at equal size")
    asked = Criteria.load(criteria)
    loaded.check(N=asked.pick.size)
    if not store.exists():
        raise InputError(
            f"run store {str(store)!r} does not exist: train with `suffice ladder run`"
        )
    records = RunStore(store).read()
    found = judge_ladder(asked, loaded, records)
    compared = compare_picks(records, confidence=asked.interval.confidence)
    power = criteria_power(asked, loaded, records)
    if as_json:
        rows = [asdict(each) for each in found] + [
            {"criterion": "pick less reference", "outcome": "reported", "why": pair.sentence(),
             **asdict(pair)}
            for pair in compared
        ] + [
            {"outcome": "power", "why": each.sentence(), **asdict(each)} for each in power
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for each in found:
        typer.echo(f"{each.outcome:8} {each.criterion}: {each.why}")
    for pair in compared:
        typer.echo(f"reported {pair.sentence()}")
    for each_power in power:
        typer.echo(f"power    {each_power.sentence()}")


def _counted(text: str) -> Counted:
    if text == "matrices":
        return "matrices"
    if text == "head":
        return "head"
    raise InputError(f"--counted {text!r}: choose matrices or head")


def _purposes(text: str | None) -> frozenset[str]:
    if text is None:
        return LAW_PURPOSES
    asked = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not asked or asked - LAW_PURPOSES:
        raise InputError(f"--purposes {text!r}: choose of {', '.join(sorted(LAW_PURPOSES))}")
    return asked


def _forms(text: str | None) -> tuple[str, ...]:
    if text is None:
        return (*PUBLISHED_FORMS, *OUR_FORMS)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _print_fit(found: LadderFit) -> None:
    console = Console()
    console = console if console.width >= 140 else Console(width=140)
    console.print(
        f"[bold]{found.name}[/bold]: {found.law.formula}\n{found.law.provenance.fitted_on}",
        highlight=False,
    )
    console.print(_table(tables.COEFFICIENT_COLUMNS, tables.coefficient_rows(found)))
    console.print(_table(tables.CURVE_COLUMNS, tables.curve_rows(found)))
    if found.interactions:
        console.print(_table(tables.INTERACTION_COLUMNS, tables.interaction_rows(found)[:5]))
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
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        first = number == 0
        table.add_column(column, justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*row)
    return table
