"""`suffice traces import` and `sets`: recordings of others as trace files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.errors import InputError, UnknownName
from suffice.core.quantities import counted

if not HELP_ONLY:
    from suffice.evals.importers import IMPORTERS, importer
    from suffice.evals.imports.columns import parse_columns
    from suffice.evals.imports.detect import import_files
    from suffice.evals.imports.found import ImportOptions
    from suffice.evals.traces.files import read_traces, write_traces


def import_(
    sources: Annotated[list[str], typer.Argument(metavar="FILE...")],
    out: Annotated[Path, typer.Option()],
    columns: str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    checker: str | None = None,
    kind: str | None = None,
    pick: str | None = None,
    right_from: float = 1.0,
) -> None:
    """Turn samples that you have, or a published set, into a trace file.

    Says which column is taken for what, and which checker; --columns and --checker overrule it.

    Example: [bold]suffice traces import answers.csv --out traces.parquet[/bold]

    Options:
        sources: Tables (JSONL, CSV, Parquet), logs of lm-eval or inspect_ai, folders of such logs;
            or a published set's NAME and its FOLDER (suffice traces sets).
        out: Trace file to write.
        columns: FIELD=COLUMN,… where the guess is wrong: question, prompt, model, text, answer,
            reference, correct, prompt_tokens, completion_tokens …
        model: Whose samples they are, if no column says.
        dataset: Name of the questions.
        checker: number, choice, math, json, text …; guessed from the right answers without.
        kind: table, lm-eval or inspect; told by the file without.
        pick: Filter, metric or scorer of a log.
        right_from: A score of so much or more is right.
    """  # fmt: skip
    if sources[0] in IMPORTERS and not Path(sources[0]).exists():
        _import_published(sources, out)
        return
    if not Path(sources[0]).exists() and not Path(sources[0]).suffix:
        known = "(neither a file nor a published set, see suffice traces sets)"
        raise UnknownName.of("samples", sources[0], IMPORTERS, known)
    options = ImportOptions(
        dataset=dataset,
        model=model,
        checker=checker,
        columns={} if columns is None else parse_columns(columns),
        pick=pick,
        right_from=right_from,
    )
    imported = import_files([Path(source) for source in sources], options, kind=kind)
    for line in imported.notes:
        typer.echo(line)
    write_traces(out, imported.traces, imported.information)
    typer.echo(_came_to(out))


def _import_published(sources: list[str], out: Path) -> None:
    name = sources[0]
    if len(sources) != 2:
        raise InputError(f"{name} is a published set: give its folder, and nothing else, behind it")
    path = Path(sources[1])
    chosen = importer(name)
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist: give the folder of {name}")
    information = chosen.information.model_copy(update={"description": chosen.summary})
    try:
        write_traces(out, chosen.read(path), information)
    except KeyError as error:
        raise InputError(f"{str(path)!r} is not laid out as {name} is: it lacks {error}") from None
    typer.echo(_came_to(out))


def _came_to(out: Path) -> str:
    """What a written file holds, in a line."""
    found = read_traces(out)
    samples, questions = counted(len(found), "sample"), counted(len(found.questions), "question")
    return f"{samples} of {questions} in {out}"


def sets() -> None:
    """List the published sets that can be imported.

    Example: [bold]suffice traces sets[/bold]
    """
    table = Table("name", "samples", "source", "licence", box=None)
    for name, each in IMPORTERS.items():
        table.add_row(name, each.summary, each.information.source, each.information.licence)
    Console().print(table)
