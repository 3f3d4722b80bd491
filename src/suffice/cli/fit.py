"""`suffice fit`: a law from a table of runs, with intervals, warnings and a law file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError

if not HELP_ONLY:
    from suffice.architecture.accuracy_link import AccuracyLink, fit_accuracy
    from suffice.architecture.fitting import Evaluation, Fit, RankCorrelation
    from suffice.architecture.fitting import fit as run_fit
    from suffice.architecture.fitting.roll_out import RolledOut, roll_out
    from suffice.architecture.law_file import record_of, save_law
    from suffice.architecture.laws import load_family
    from suffice.architecture.runs import NUMERIC, load_runs
    from suffice.recipes.fit_plot import write_plot


def fit(
    runs: Annotated[str, typer.Argument()],
    law: str = "chinchilla",
    columns: Annotated[list[str] | None, typer.Option("--map")] = None,
    where: list[str] | None = None,
    method: str = "huber",
    delta: float = 1e-3,
    bootstrap: int = 1000,
    cluster: str = "shape",
    confidence: float = 0.9,
    holdout: str | None = None,
    optimal_loss: str = "best",
    parameter_count: str | None = None,
    best_per: str | None = None,
    flops_per_token: float | None = None,
    fix: list[str] | None = None,
    tie: list[str] | None = None,
    above: float = 1.0,
    seed_weights: bool = False,
    plot: Path | None = None,
    roll: Annotated[bool, typer.Option("--roll-out")] = False,
    accuracy: str | None = None,
    chance: float = 0.0,
    scales: bool = False,
    name: str | None = None,
    out: Path | None = None,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a law to runs: coefficients with intervals, errors, regret, and what the data cannot say.

    Example: [bold]suffice fit runs.csv --law morph --map loss=val_loss,N=params --holdout largest
    --out law.json[/bold]

    Options:
        runs: CSV, TSV, JSONL or Parquet of runs, or an embedded table: morph.
        law: Family: chinchilla, chinchilla-tied, morph, width-depth, or conditional- followed by
            multiplicative, additive, joint, depth, shape, aspect or product.
        columns: ours=yours, comma separated: loss=val_loss,N=params.
        where: Keep rows with column=value; repeatable.
        method: huber, likelihood, least_squares or lm (any sign).
        delta: Huber's threshold in ln loss.
        bootstrap: Resamples for the intervals.
        cluster: Resample whole shapes or single runs.
        confidence: Confidence of the two-sided intervals.
        holdout: `largest` predicts the largest scale unseen.
        optimal_loss: L_opt of a scale: best measured run, or a free level.
        parameter_count: What N means: non-embedding or total.
        best_per: Keep the best run of each, e.g. N,D: for sweeps of rates or seeds.
        flops_per_token: D = C / (this N) where the table has C alone; 6 leaves out attention.
        fix: Hold coefficients: beta=.37; repeatable.
        tie: Make one coefficient equal another: beta=alpha; repeatable.
        above: A run predicted too high counts this many times: beyond 1 the law leans to the best
            runs. For huber and likelihood.
        seed_weights: Weigh runs by how far repeats of their size scatter.
        plot: PNG or SVG of predicted against measured loss and of what the law misses.
        roll: Also each size predicted by a fit to the smaller ones: how errors grow.
        accuracy: Column of accuracies (shares of 1): also the sigmoid from loss to it.
        chance: Accuracy of guessing, for --accuracy.
        scales: List every scale's rank and regret.
        name: Name of the law.
        out: Law file to write.
        seed: Seed of the resamples.
    """
    table = load_runs(
        runs,
        columns=_pairs(columns, "--map"),
        where=_pairs(where, "--where"),
        extra=[
            *(name for name in load_family(law).variables if name not in NUMERIC),
            *([] if accuracy is None else [accuracy]),
        ],
    )
    if flops_per_token is not None:
        table = table.with_flops_per_token(flops_per_token)
    if best_per is not None:
        table = table.best_per([each.strip() for each in best_per.split(",") if each.strip()])
    if seed_weights:
        table = table.with_seed_weights()
    choices: dict[str, Any] = {
        "held": {n: _number(v, f"--fix {n}") for n, v in _pairs(fix, "--fix").items()},
        "tied": _pairs(tie, "--tie"),
        "above": above,
        "method": method.replace("-", "_"),
        "cluster": cluster,
        "holdout": holdout,
        "optimal_loss": optimal_loss,
        "parameter_count": parameter_count,
    }
    result = run_fit(
        table,
        law,
        delta=delta,
        bootstrap_draws=bootstrap,
        confidence=confidence,
        seed=seed,
        name=name,
        **choices,
    )
    if out is not None:
        save_law(out, result.law)
    if plot is not None:
        write_plot(result, plot)
    rolled = roll_out(table, law, method=result.method, delta=delta) if roll else ()
    link = None
    if accuracy is not None:
        link = fit_accuracy(table.column("loss"), table.column(accuracy), floor=chance)
    if as_json:
        record = record_of(result.law)
        record |= {"roll_out": [asdict(each) for each in rolled]} if rolled else {}
        record |= {"accuracy": asdict(link)} if link is not None else {}
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    _print_fit(result, scales=scales)
    _print_beside(rolled, link, accuracy)
    if out is not None:
        typer.echo(f"law file: {out}")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{what}={text}: {text!r} is not a number") from None


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in ",".join(texts or []).split(","):
        if not text.strip():
            continue
        ours, equals, theirs = text.partition("=")
        if not equals or not ours.strip() or not theirs.strip():
            raise InputError(f"{option} {text!r}: write it as name=value, separated by commas")
        pairs[ours.strip()] = theirs.strip()
    return pairs


def _print_fit(result: Fit, *, scales: bool) -> None:
    console = Console()
    law = result.law
    if result.warnings:
        console.print("Warnings", style="bold yellow")
        for warning in result.warnings:
            console.print(f"  • {warning}", markup=False, highlight=False)
        console.print()
    table = Table(
        title=f"{law.formula}",
        caption=f"{law.provenance.method}; {len(result.runs)} runs of {result.runs.source}; "
        f"objective {result.objective:.6g}"
        + (
            f"; {result.bootstrap} bootstrap fits over {result.cluster}s"
            if result.bootstrap
            else ""
        ),
    )
    table.add_column("coefficient")
    table.add_column("value", justify="right")
    table.add_column(f"{100 * result.confidence:.0f} % interval", justify="right")
    for c in result.coefficients:
        interval = "held" if c.name in {*law.family.fixed, *result.held} else "–"
        if c.name in result.pinned:
            interval = "pinned"
        elif c.unidentified:
            interval = "not identified"
        elif c.low is not None and c.high is not None:
            interval = f"{c.low:.6g} … {c.high:.6g}"
        if c.name in result.tied:
            interval = f"= {result.tied[c.name]}"
        table.add_row(c.name, f"{c.value:.6g}", interval)
    for label, value, interval in _optimum_rows(result):
        table.add_row(label, value, interval, style="bold")
    console.print(table)
    console.print(_evaluation_table(result, scales=scales))
    missed = ", ".join(f"row {each.row} {100 * each.log_residual:+.1f} %" for each in result.worst)
    console.print(f"missed by most: {missed}", markup=False, highlight=False)


def _print_beside(
    rolled: Sequence[RolledOut], link: AccuracyLink | None, accuracy: str | None
) -> None:
    for each in rolled:
        typer.echo(
            f"from {each.fitted} smaller runs to N {each.N:.3g} ({each.reach:.2g} times as large, "
            f"{each.runs} runs): off by {100 * each.log_rmse:.2f} %, on average "
            f"{100 * each.bias:+.2f} %"
        )
    if link is not None:
        typer.echo(
            f"{accuracy} = {link.floor:g} + {link.ceiling - link.floor:g} / (1 + exp("
            f"{link.slope:.4g} (loss - {link.half:.4g}))), sd {link.sd:.3g}, for losses of "
            f"{link.loss_low:.4g} to {link.loss_high:.4g}"
        )


def _optimum_rows(result: Fit) -> list[tuple[str, str, str]]:
    """A row per curve: its lowest point in the runs' range, and the interval of the test."""
    rows = []
    for point in result.lowest:
        value = "–" if point.value is None else f"{point.value:.4g}"
        ends = ("open" if end is None else f"{end:.4g}" for end in (point.low, point.high))
        rows.append((f"{point.variable}*", value, f"{' … '.join(ends)}, {point.verdict}"))
    return rows


def _evaluation_table(result: Fit, *, scales: bool) -> Any:
    table = Table(
        title="How well it predicts",
        caption="regret: loss of the shape it would pick − best measured; ≤ .001 nats is a tie"
        + ("" if scales or not result.evaluation.scales else "; --scales lists every scale"),
    )
    for column in ("runs", "n", "MSE", "log-RMSE", "R²", "Spearman (p)", "regret, nats"):
        table.add_column(column, justify="left" if column == "runs" else "right")
    _add_evaluation(table, "in sample", result.evaluation, by_scale=scales)
    if result.holdout is not None:
        _add_evaluation(
            table, f"held out: {result.holdout.scale}", result.holdout.evaluation, by_scale=False
        )
    return table


def _add_evaluation(table: Any, label: str, value: Evaluation, *, by_scale: bool) -> None:
    table.add_row(
        label,
        str(value.n),
        f"{value.mse:.3g}",
        f"{value.log_rmse:.3g}",
        "–" if value.r_squared is None else f"{value.r_squared:.4f}",
        _rank(value.spearman),
        "–" if value.regret_nats is None else f"{value.regret_nats:.4f} (worst)",
    )
    for scale in value.scales if by_scale else ():
        table.add_row(
            f"  {scale.name}",
            str(scale.n),
            "",
            "",
            "",
            _rank(scale.spearman),
            f"{scale.regret_nats:.4f}" + (" tie" if scale.tie and scale.regret_nats else ""),
            style="dim",
        )


def _rank(value: RankCorrelation) -> str:
    if value.rho is None or value.p is None:
        return "–"
    return f"{value.rho:+.2f} (p {value.p:.2g})"
