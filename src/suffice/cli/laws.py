"""`suffice laws` and `suffice predict`: laws with their limits, and what they say of a shape."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError
from suffice.core.quantities import format_count, parse_count

if not HELP_ONLY:
    from suffice.architecture.catalog import load_shape
    from suffice.architecture.law_file import law_names, load_law, record_of
    from suffice.architecture.laws import ConditionalLaw, Law
    from suffice.architecture.optimum import FLOPS_PER_TOKEN, compute_optimum
    from suffice.architecture.predict import Prediction, predict_size
    from suffice.architecture.predict import predict as ask


# The source's first reference, for a list: up to a bracket, comma or semicolon.
_FIRST_SOURCE = re.compile(r" \(|[,;]")


def laws(
    action: Annotated[str | None, typer.Argument()] = None,
    name: Annotated[str | None, typer.Argument()] = None,
    as_json: AsJson = False,
) -> None:
    """List the embedded laws, or show one: coefficients, range, optimum, errata.

    Example: [bold]suffice laws show bian2025-1b[/bold]

    Options:
        action: `show` for one law in full; all laws if left out.
        name: A law's name or a law file.
    """
    if action is not None and action != "show":
        raise InputError(
            f"unknown action {action!r}: write `suffice laws` or `suffice laws show NAME`"
        )
    if action == "show":
        if name is None:
            raise InputError(f"`suffice laws show` needs a name: {', '.join(law_names())}")
        law = load_law(name)
        if as_json:
            typer.echo(json.dumps(record_of(law), indent=2, ensure_ascii=False))
        else:
            _print_law(law)
        return
    loaded = [load_law(each) for each in law_names()]
    if as_json:
        typer.echo(json.dumps([record_of(law) for law in loaded], indent=2, ensure_ascii=False))
    else:
        _print_laws(loaded)


def predict(
    law: Annotated[str, typer.Option()],
    like: Annotated[list[str] | None, typer.Option("--like", "--shape")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", "--D")] = None,
    size: Annotated[str | None, typer.Option("--N")] = None,
    flops: str | None = None,
    versus: str | None = None,
    versus_loss: float | None = None,
    confidence: float = 0.9,
    extrapolate: bool = False,
    as_json: AsJson = False,
) -> None:
    """Predict a shape's loss by a law, alone or against another shape.

    Example: [bold]suffice predict --like bian2025/panda-1b --law bian2025-1b --tokens 100B
    --versus meta-llama/Llama-3.2-1B --versus-loss 2.803[/bold]

    Options:
        law: A law's name (see `suffice laws`) or a law file.
        like: A model's name or a config.json; repeatable.
        tokens: Training tokens, e.g. 100B.
        size: Parameters instead of a shape, for laws in N and D.
        flops: Training FLOPs in place of N or of tokens; alone: at the optimum.
        versus: Shape to compare with: a name or a config.json.
        versus_loss: Measured loss of that shape, nats.
        confidence: Confidence of each one-sided bound, .5 to 1.
        extrapolate: Answer outside the law's evidence.
    """
    loaded = load_law(law)
    budget = None if tokens is None else parse_count(tokens, what="--tokens")
    if like and (size is not None or flops is not None):
        raise InputError("a shape has its own N: give --tokens with it, not --N or --flops")
    if not like:
        if versus is not None or versus_loss is not None:
            raise InputError("a comparison needs a shape: add --like NAME or --shape config.json")
        spent = None if flops is None else parse_count(flops, what="--flops")
        given = None if size is None else parse_count(size, what="--N")
        n, d = _size_and_tokens(loaded, given, budget, spent, extrapolate=extrapolate)
        found = predict_size(loaded, N=n, D=d, confidence=confidence, extrapolate=extrapolate)
        _show_predictions(loaded, [found], as_json=as_json)
        return
    other = None if versus is None else load_shape(versus)
    predictions = [
        ask(
            loaded,
            load_shape(source),
            tokens=budget,
            versus=other,
            versus_loss=versus_loss,
            confidence=confidence,
            extrapolate=extrapolate,
        )
        for source in like
    ]
    _show_predictions(loaded, predictions, as_json=as_json)


def _size_and_tokens(
    law: Law, n: float | None, d: float | None, flops: float | None, *, extrapolate: bool
) -> tuple[float, float]:
    """N and D from any two of N, D and FLOPs, or the optimum of FLOPs alone."""
    if flops is None and n is not None and d is not None:
        return n, d
    if flops is not None and n is not None and d is None:
        return n, flops / (FLOPS_PER_TOKEN * n)
    if flops is not None and n is None and d is not None:
        return flops / (FLOPS_PER_TOKEN * d), d
    if flops is not None and n is None and d is None:
        best = compute_optimum(law, flops, extrapolate=extrapolate)
        return best.N.value, best.D.value
    raise InputError(
        "no shape given: add --like NAME or --shape config.json, or for a law in N and D two of "
        "--N, --tokens and --flops (--flops alone: at its optimum)"
    )


def _show_predictions(loaded: Law, predictions: list[Prediction], *, as_json: bool) -> None:
    if as_json:
        records = [{"law": loaded.name, **asdict(prediction)} for prediction in predictions]
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        _print_predictions(loaded, predictions)


def _print_laws(loaded: list[Any]) -> None:
    table = Table(
        title="Embedded laws",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        caption="`suffice laws show NAME`: coefficients, range, noise, errata, omissions",
    )
    table.add_column("name", no_wrap=True)
    table.add_column("N", no_wrap=True)
    table.add_column("x*", justify="right")
    table.add_column("r*", justify="right")
    table.add_column("errata", justify="right")
    table.add_column("source", no_wrap=True)
    for law in loaded:
        has_optimum = law.family.conditional and law.no_optimum_reason() is None
        best = law.optimum() if has_optimum else None
        table.add_row(
            law.name,
            _range(law, "N"),
            "–" if best is None else f"{best.x:.4f}",
            "–" if best is None else f"{best.r:.4f}",
            str(len(law.errata)),
            _FIRST_SOURCE.split(law.provenance.source)[0],
        )
    Console().print(table)


def _print_law(law: Law) -> None:
    console = Console()
    table = Table(title=law.name, show_header=False, show_lines=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("formula", f"{law.formula}   (nats, natural logarithms)")
    pairs = zip(law.family.parameters, law.coefficients, strict=True)
    table.add_row("coefficients", "  ".join(f"{name} = {value:g}" for name, value in pairs))
    table.add_row("source", law.provenance.source)
    table.add_row("fitted on", law.provenance.fitted_on)
    if law.provenance.method:
        table.add_row("method", escape(law.provenance.method))
    if law.provenance.accuracy:
        table.add_row("accuracy", law.provenance.accuracy)
    table.add_row("N means", f"{law.parameter_count} parameters")
    if law.family.conditional:
        table.add_row("optimum", _optimum(law))
    if law.noise is not None:
        table.add_row(
            "noise",
            f"{100 * law.noise.difference_sd():.2f} % (1 sd) between two shapes' losses; "
            f"{law.noise.basis}",
        )
    if law.draws is not None:
        table.add_row("bootstrap", f"{len(law.draws)} draws")
    console.print(table)
    evidence = Table(title="Where it holds")
    for column in ("variable", "from", "to", "outside", "basis"):
        evidence.add_column(column, justify="right" if column in ("from", "to") else "left")
    for interval in law.domain.intervals:
        evidence.add_row(
            interval.variable,
            f"{interval.low:.4g}",
            f"{interval.high:.4g}",
            "refuses" if interval.enforced else "says so",
            escape(interval.basis),
        )
    if law.domain.intervals:
        console.print(evidence)
    _print_sentences(console, "What it does not model", law.not_modelled)
    _print_sentences(console, "Errata and traps", law.errata)


def _print_predictions(law: Law, predictions: list[Prediction]) -> None:
    versus = predictions[0].versus
    console = Console()
    over = "" if versus is None else f", over {versus}"
    table = Table(title=f"By law {law.name}{over}", box=SIMPLE_HEAD, pad_edge=False)
    bounded = any(p.loss_low is not None for p in predictions)
    columns = ["shape", "N", "r", "x", "loss, nats"]
    if bounded:
        columns.append(f"{100 * predictions[0].confidence:.0f} % bounds, nats")
    columns.append("over optimum")
    if versus is not None:
        columns += ["over it", f"{100 * predictions[0].confidence:.0f} % bounds"]
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    for p in predictions:
        row = [
            p.shape,
            format_count(p.parameters),
            "–" if p.r is None else f"{p.r:.2f}",
            "–" if p.x is None else f"{p.x:.4f}",
            "–" if p.loss is None else f"{p.loss:.4f}",
            *([_loss_bounds(p)] if bounded else []),
            "–" if p.relative_loss is None else f"{100 * (p.relative_loss - 1):+.2f} %",
        ]
        if p.versus_ratio is not None and p.versus_low is not None and p.versus_high is not None:
            ratio, low, high = (
                100 * (v - 1) for v in (p.versus_ratio, p.versus_low, p.versus_high)
            )
            row += [f"{ratio:+.2f} %", f"{low:+.2f}, {high:+.2f}"]
        table.add_row(*row)
    console.print(table)
    for p in predictions:
        _print_sentences(console, f"Notes on {p.shape}", p.notes)
    _print_sentences(console, "What the law does not model", law.not_modelled)


def _loss_bounds(prediction: Prediction) -> str:
    if prediction.loss_low is None or prediction.loss_high is None:
        return "–"
    return f"{prediction.loss_low:.4f}, {prediction.loss_high:.4f}"


def _print_sentences(console: Any, title: str, sentences: tuple[str, ...]) -> None:
    if not sentences:
        return
    console.print(f"\n{title}", style="bold", markup=False)
    for sentence in sentences:
        console.print(f"  • {sentence}", markup=False, highlight=False)


def _range(law: Law, variable: str) -> str:
    interval = law.domain.interval(variable)
    if interval is None:
        return "–"
    return f"{format_count(interval.low, 2)} – {format_count(interval.high, 2)}"


def _optimum(law: Law) -> str:
    if not isinstance(law, ConditionalLaw):
        return "–"
    reason = law.no_optimum_reason()
    if reason is not None:
        return f"none: {reason}"
    best = law.optimum()
    printed = f" (printed: {best.reported})" if best.reported else ""
    return f"x* = {best.x:.4f}, r* = {best.r:.4f}{printed}"
