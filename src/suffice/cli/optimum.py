"""`suffice optimum`: how large a model a compute budget trains best, by a law in N and D."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError
from suffice.core.quantities import format_count, parse_count

if not HELP_ONLY:
    from suffice.architecture.approaches import Frontier, envelope, parabolas
    from suffice.architecture.law_file import load_law
    from suffice.architecture.laws import Law
    from suffice.architecture.optimum import (
        FLOPS_PER_TOKEN,
        ComputeOptimum,
        Estimate,
        compute_optimum,
        flops_for_loss,
        other_count,
    )
    from suffice.architecture.rates import STEP_LAW_BATCH_TOKENS, STEP_LAW_RATE
    from suffice.architecture.runs import load_runs


def optimum(
    law: Annotated[str, typer.Option()],
    flops: list[str] | None = None,
    loss: str | None = None,
    served: str | None = None,
    unique: str | None = None,
    vocab: int | None = None,
    aspect: float = 0.07,
    tied: bool = False,
    rates: bool = False,
    runs: str | None = None,
    flops_per_token: float | None = None,
    confidence: float = 0.9,
    extrapolate: bool = False,
    as_json: AsJson = False,
) -> None:
    """How large a model a budget trains best, and on how many tokens, with intervals.

    Example: [bold]suffice optimum --law besiroglu2024 --flops 1e21 --served 1T[/bold]

    Options:
        law: A law's name (see `suffice laws`) or a law file.
        flops: Budget in FLOPs, e.g. 1e21; repeatable.
        loss: Instead of a budget: the least one, serving included, that reaches this loss.
        served: Tokens served over the model's life: 2 N FLOPs each.
        unique: Distinct tokens there are: beyond them D repeats, by arXiv:2305.16264.
        vocab: Vocabulary: N* is also given in the other convention, with or without embeddings.
        aspect: Hidden size over the root of the non-embedding N, for --vocab.
        tied: Input and output embeddings are one matrix, for --vocab.
        rates: Also the best learning rate and batch, by the Step Law (arXiv:2503.04715).
        runs: Table of runs: approaches 1 (envelope) and 2 (parabolas) beside the law, which is 3.
        flops_per_token: Training FLOPs per token and parameter; 6 by default.
        confidence: Confidence of the two-sided intervals.
        extrapolate: Answer outside the law's evidence.
    """
    if (loss is None) == (not flops):
        raise InputError(
            "optimum takes a budget, --flops 1e21, or a target, --loss 2.0: one of both"
        )
    loaded = load_law(law)
    costs: Any = {
        "flops_per_token": FLOPS_PER_TOKEN if flops_per_token is None else flops_per_token,
        "served_tokens": 0.0 if served is None else parse_count(served, what="--served"),
        "unique_tokens": None if unique is None else parse_count(unique, what="--unique"),
    }
    budgets = [parse_count(each, what="--flops") for each in flops or ()]
    if loss is not None:
        budgets = [flops_for_loss(loaded, parse_count(loss, what="--loss"), **costs)]
    found = [
        compute_optimum(loaded, each, **costs, confidence=confidence, extrapolate=extrapolate)
        for each in budgets
    ]
    beside = [] if runs is None else _frontiers(runs, found[0].flops_per_token, confidence)
    more = [
        {
            **({} if vocab is None else {"other_count": _other(loaded, each, vocab, aspect, tied)}),
            **(_rates(each) if rates else {}),
            "approaches": {str(f.approach): _approach(f, each.flops) for f in beside},
        }
        for each in found
    ]
    if as_json:
        records = [
            {"law": loaded.name, **asdict(each), **extra}
            for each, extra in zip(found, more, strict=True)
        ]
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        _print_optima(loaded, found, None if unique is None else parse_count(unique))
        _print_more(loaded, found, more, beside)


def _frontiers(runs: str, flops_per_token: float, confidence: float) -> list[Frontier]:
    table = load_runs(runs)
    return [
        approach(table, flops_per_token=flops_per_token, confidence=confidence)
        for approach in (envelope, parabolas)
    ]


def _approach(frontier: Frontier, flops: float) -> dict[str, float | None]:
    return {
        "N": frontier.parameters(flops), "exponent": frontier.exponent,
        "exponent_low": frontier.low, "exponent_high": frontier.high,
    }  # fmt: skip


def _other(law: Law, found: ComputeOptimum, vocab: int, aspect: float, tied: bool) -> float:
    return other_count(
        found.N.value, law.parameter_count, vocab_size=vocab, aspect=aspect,
        embeddings=1 if tied else 2,
    )  # fmt: skip


def _rates(found: ComputeOptimum) -> dict[str, float]:
    n, d = found.N.value, found.D.value
    return {
        "learning_rate": STEP_LAW_RATE.at(n, d), "batch_tokens": STEP_LAW_BATCH_TOKENS.at(n, d)
    }  # fmt: skip


def _print_more(
    law: Law, found: list[ComputeOptimum], more: list[dict[str, Any]], beside: list[Frontier]
) -> None:
    other = "non-embedding" if law.parameter_count == "total" else "total"
    for each, extra in zip(found, more, strict=True):
        lines = []
        if "other_count" in extra:
            lines.append(f"N* is {format_count(extra['other_count'], 4)} {other} parameters")
        if "learning_rate" in extra:
            lines.append(
                f"Step Law: peak learning rate {extra['learning_rate']:.3g}, batch "
                f"{format_count(extra['batch_tokens'], 3)} tokens"
            )
        for text in lines:
            typer.echo(f"at {each.flops:.3g} FLOPs: {text}")
    for frontier in beside:
        name = {1: "envelope", 2: "parabolas at equal compute"}[frontier.approach]
        bounds = (
            ""
            if frontier.low is None or frontier.high is None
            else f" [{frontier.low:.3f}, {frontier.high:.3f}]"
        )
        sizes = ", ".join(format_count(frontier.parameters(f.flops), 4) for f in found)
        typer.echo(
            f"approach {frontier.approach}, {name}, {len(frontier.optima)} budgets: N* {sizes}, "
            f"N* ~ C^{frontier.exponent:.3f}{bounds}"
        )
        for note in frontier.notes:
            typer.echo(f"  {note}")


def _print_optima(law: Law, found: list[ComputeOptimum], unique: float | None) -> None:
    console = Console()
    per_token, served = found[0].flops_per_token, found[0].served_tokens
    serving = f" + 2 N x {format_count(served)} served" if served else ""
    distinct = "" if unique is None else f", {format_count(unique)} distinct tokens"
    table = Table(
        title=f"By law {law.name}, C = {per_token:g} N D{serving}{distinct}",
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption=f"intervals: {100 * found[0].confidence:.0f} %; N counts {law.parameter_count} "
        "parameters",
    )
    for column in ("FLOPs", "N*", "D*", "D*/N*", "loss, nats", "N* ~ C^"):
        table.add_column(column, justify="right")
    for each in found:
        table.add_row(
            f"{each.flops:.3g}",
            _shown(each.N, lambda value: format_count(value, 4)),
            _shown(each.D, lambda value: format_count(value, 4)),
            _shown(each.tokens_per_parameter, lambda value: f"{value:.1f}"),
            _shown(each.loss, lambda value: f"{value:.4f}"),
            _shown(each.exponent, lambda value: f"{value:.3f}"),
        )
    console.print(table)
    for each in found:
        for note in each.notes:
            console.print(f"  • at {each.flops:.3g} FLOPs: {note}", markup=False, highlight=False)


def _shown(estimate: Estimate, text: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return text(estimate.value)
    return f"{text(estimate.value)}\n{text(estimate.low)} … {text(estimate.high)}"
