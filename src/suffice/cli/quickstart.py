"""`suffice quickstart`: from a server's address to a gateway that saves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.errors import InputError, needs
from suffice.core.prices import Prices
from suffice.core.quantities import parse_share

if not HELP_ONLY:
    from suffice.quickstart.config import QuickstartConfig

    with needs("serve", "suffice quickstart"):
        from suffice.quickstart.live import LiveStart, prepare
        from suffice.quickstart.run import quickstart as run
        from suffice.quickstart.steps import run_step, shown


def quickstart(
    upstream: list[str] | None = None,
    questions: Path | None = None,
    live: Flag = False,
    target: str = "5%",
    out: Path = Path("suffice-quickstart"),
    baseline: str | None = None,
    price: list[str] | None = None,
    limit: float = 2.0,
    samples: Annotated[int, typer.Option(min=1)] = 1,
    answer_format: str | None = None,
    port: int = 8080,
    yes: Flag = False,
) -> None:
    """Record your models on your questions, certify a cheaper policy, write settings and try them.

    Example: [bold]suffice quickstart --upstream http://localhost:8001/v1
    --upstream http://localhost:8002/v1 --questions mine.jsonl[/bold]

    Options:
        upstream: An OpenAI-compatible server; may be repeated. With --live the usual ports of this
            machine are tried without one.
        questions: Your questions with answers: JSONL or CSV.
        live: Without questions: compare two ways on your traffic, changing no answer.
        target: With --live: share of requests that may be answered differently.
        out: Folder for all that is written.
        baseline: The model that answers today.
        price: MODEL=PROMPT/COMPLETION\\[/CACHED] in USD per million tokens, for every model.
        limit: Points of accuracy that may be lost at most.
        samples: Answers of each model to each question.
        answer_format: How answers are compared; guessed from your answers by default.
        port: Port in the settings.
        yes: Take every proposal, ask nothing.
    """

    def ask(question: str, proposal: str) -> str:
        if yes:
            typer.echo(f"  {question} {proposal} (proposed)")
            return proposal
        if not sys.stdin.isatty():
            raise InputError(f"nobody is there to answer ({question}): add --yes")
        return str(typer.prompt(f"  {question}", default=proposal))

    if live:
        if questions is not None:
            raise InputError("--live compares on traffic: leave --questions out, or --live")
        start = LiveStart(
            upstreams=tuple(upstream or ()), out=out, answer_format=answer_format,
            target=parse_share(target, what="--target"),
            prices=Prices.parse(price) if price else None, port=port,
        )  # fmt: skip
        prepare(start, tell=typer.echo)
        typer.echo(f"\n$ {shown(['serve', '--config', str(start.settings)])}")
        run_step(["serve", "--config", str(start.settings)])
        return
    if not upstream or questions is None:
        raise InputError(
            "give your servers and your questions (--upstream URL --questions FILE), or --live "
            "where you have traffic and no questions"
        )
    run(
        QuickstartConfig(
            upstreams=tuple(upstream), questions=questions, out=out, baseline=baseline,
            prices=Prices.parse(price or ()), limit=limit, samples=samples,
            answer_format=answer_format, port=port,
        ),
        tell=typer.echo,
        ask=ask,
    )  # fmt: skip
