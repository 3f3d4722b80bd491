"""`suffice compose`: levers alone and together, measured in one run through the gateway."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import needs

if not HELP_ONLY:
    with needs("serve", "suffice compose"):
        from suffice.compose.config import read_compose_config
        from suffice.compose.output import as_json, header_of, lines_of, rows_of, write_compose
        from suffice.compose.run import compose as run


def compose(
    config: Annotated[Path, typer.Argument(help="TOML file: questions, models, arms.")],
    upstream: list[str] | None = None,
    questions: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    out: Path | None = None,
    json_output: AsJson = False,
) -> None:
    """What each lever saves alone and all together: seconds a right answer, accuracy certified.

    Example: [bold]suffice compose examples/compose.toml --out run/compose[/bold]

    Options:
        upstream: A server in place of the file's models; may be repeated.
        questions: Questions in place of the file's: a file, or a name as for suffice record.
        limit: The first so many questions.
        seed: Random seed of samples and resampling, in place of the file's.
        out: Folder for compose.json and compose.png.
    """  # fmt: skip
    read = read_compose_config(config)
    settings = replace(
        read,
        questions=read.questions if questions is None else questions,
        limit=read.limit if limit is None else limit,
        seed=read.seed if seed is None else seed,
    )
    if upstream:
        settings = replace(settings, models={}, upstreams=tuple(upstream))
    found = run(settings, tell=lambda line: typer.echo(line, err=True))
    written = [] if out is None else write_compose(found, out)
    if json_output:
        typer.echo(json.dumps(as_json(found), indent=2, ensure_ascii=False))
        return
    table = Table(*header_of(found), box=None, pad_edge=False)
    for row in rows_of(found):
        table.add_row(*row)
    Console().print(table)
    for line in (*found.notes, *lines_of(found)):
        typer.echo(line)
    if written:
        typer.echo(f"wrote {', '.join(map(str, written))}")
