"""`suffice quickstart`: from a server's address to a gateway that saves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import Upstreams
from suffice.core.errors import InputError, needs
from suffice.core.prices import Prices

if not HELP_ONLY:
    from suffice.quickstart.config import QuickstartConfig

    with needs("serve", "suffice quickstart"):
        from suffice.quickstart.run import quickstart as run


def quickstart(
    upstream: Upstreams,
    questions: Annotated[
        Path,
        typer.Option("--questions", help="Your questions with answers: JSONL or CSV."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for all that is written.")] = Path(
        "suffice-quickstart"
    ),
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="The model that answers today.", show_default=False),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            "--price",
            help="MODEL=PROMPT/COMPLETION\\[/CACHED] in USD per million tokens, for every model.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        float, typer.Option("--limit", help="Points of accuracy that may be lost at most.")
    ] = 2.0,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Answers of each model to each question.")
    ] = 1,
    answer_format: Annotated[
        str | None,
        typer.Option(
            "--answer-format",
            help="How answers are compared; guessed from your answers by default.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Port in the settings.")] = 8080,
    yes: Annotated[bool, typer.Option("--yes", help="Take every proposal, ask nothing.")] = False,
) -> None:
    """Record your models on your questions, certify a cheaper policy, write settings and try them.

    Example: [bold]suffice quickstart --upstream http://localhost:8001/v1
    --upstream http://localhost:8002/v1 --questions mine.jsonl[/bold]
    """

    def ask(question: str, proposal: str) -> str:
        if yes:
            typer.echo(f"  {question} {proposal} (proposed)")
            return proposal
        if not sys.stdin.isatty():
            raise InputError(f"nobody is there to answer ({question}): add --yes")
        return str(typer.prompt(f"  {question}", default=proposal))

    run(
        QuickstartConfig(
            upstreams=tuple(upstream), questions=questions, out=out, baseline=baseline,
            prices=Prices.parse(price or ()), limit=limit, samples=samples,
            answer_format=answer_format, port=port,
        ),
        tell=typer.echo,
        ask=ask,
    )  # fmt: skip
