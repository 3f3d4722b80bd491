"""`suffice traces`: import published sample sets, look into trace files, join them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError, UnknownName
from suffice.core.quantities import counted, parse_duration

if not HELP_ONLY:
    from suffice.evals.datasets import open_dataset
    from suffice.evals.importers import IMPORTERS, importer
    from suffice.evals.imports.columns import parse_columns
    from suffice.evals.imports.detect import import_files
    from suffice.evals.imports.found import ImportOptions
    from suffice.evals.traces.files import read_traces, write_traces
    from suffice.evals.traces.summary import summarise
    from suffice.evals.traces.trace_set import TraceSet
    from suffice.ledger.default_url import default_url
    from suffice.ledger.export import records
    from suffice.ledger.store import open_existing
    from suffice.recipes.record.from_ledger import traces_of
    from suffice.recipes.record.rejudge import rejudge as judge_again


traces = typer.Typer(
    help="Recorded samples: import your own or published ones, show, join, grade again.",
    no_args_is_help=True,
)


@traces.command("import")
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Tables (JSONL, CSV, Parquet), logs of lm-eval or inspect_ai, folders of such "
            "logs; or a published set's NAME and its FOLDER (suffice traces sets).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Trace file to write.")],
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="FIELD=COLUMN,… where the guess is wrong: question, prompt, model, text, answer, "
            "reference, correct, prompt_tokens, completion_tokens …",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Whose samples they are, if no column says.", show_default=False
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name of the questions.", show_default=False)
    ] = None,
    checker: Annotated[
        str | None,
        typer.Option(
            "--checker",
            help="number, choice, math, json, text …; guessed from the right answers without.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="table, lm-eval or inspect; told by the file without.",
            show_default=False,
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option("--pick", help="Filter, metric or scorer of a log.", show_default=False),
    ] = None,
    right_from: Annotated[
        float, typer.Option("--right-from", help="A score of so much or more is right.")
    ] = 1.0,
) -> None:
    """Turn samples that you have, or a published set, into a trace file.

    Says which column is taken for what, and which checker; --columns and --checker overrule it.

    Example: [bold]suffice traces import answers.csv --out traces.parquet[/bold]
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


@traces.command()
def sets() -> None:
    """List the published sets that can be imported.

    Example: [bold]suffice traces sets[/bold]
    """
    table = Table("name", "samples", "source", "licence", box=None)
    for name, each in IMPORTERS.items():
        table.add_row(name, each.summary, each.information.source, each.information.licence)
    Console().print(table)


@traces.command()
def show(
    files: Annotated[list[Path], typer.Argument(help="Trace files, taken as one set.")],
    as_json: AsJson = False,
) -> None:
    """Show what is in a trace file: counts, accuracy with intervals, tokens, by dataset and arm.

    Accuracy is the mean over questions of the share of right samples; its interval is a bootstrap
    over questions.

    Example: [bold]suffice traces show data/traces/stepwise.parquet[/bold]
    """
    found = read_traces(files)
    rows = summarise(found)
    if as_json:
        typer.echo(json.dumps({"digest": found.digest, "rows": [row._asdict() for row in rows]}))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(_heading(found), highlight=False)
    table = Table("dataset", "model", box=None)
    for name in (
        "questions",
        "samples",
        "judged",
        "accuracy %",
        "answer found %",
        "tokens",
        "with logprobs",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.dataset,
            row.arm,
            str(row.questions),
            str(row.samples),
            str(row.judged),
            "–" if row.accuracy is None else f"{row.accuracy:.1%} [{row.low:.1%}, {row.high:.1%}]"
            .replace("%", ""),
            f"{row.answered:.1%}".replace("%", ""),
            "–" if row.tokens is None else f"{row.tokens:.1f}",
            f"{row.with_confidence:.0%}",
        )  # fmt: skip
    console.print(table)


def _heading(found: TraceSet) -> str:
    told: dict[str, Any] = found.information.model_dump()
    samples, questions = counted(len(found), "sample"), counted(len(found.questions), "question")
    lines = [f"{samples} of {questions}, models and modes: {len(found.arms)}"]
    names = ("description", "source", "server", "licence", "token_counts", "created")
    lines += [f"{name.replace('_', ' ')}: {told[name]}" for name in names if told[name]]
    lines += [f"server of {model}: {server}" for model, server in told["servers"].items()]
    return "\n".join([*lines, f"digest: {found.digest}", ""])


@traces.command()
def join(
    files: Annotated[list[Path], typer.Argument(help="Trace files.")],
    out: Annotated[Path, typer.Option("--out", help="Trace file to write.")],
) -> None:
    """Join trace files into one; samples that contradict each other are refused.

    Example: [bold]suffice traces join small.parquet large.parquet --out both.parquet[/bold]
    """
    found = read_traces(files)
    write_traces(out, found)
    typer.echo(f"{len(found)} samples of {len(found.questions)} questions in {out}")


@traces.command()
def rejudge(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Questions with the right answers.", show_default=False),
    ] = None,
    checker: Annotated[
        str | None,
        typer.Option("--checker", help="number, choice, math, json, text …", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Recording to write; the same file without.", show_default=False
        ),
    ] = None,
) -> None:
    """Grade recorded samples again, by other answers or another checker, without asking again.

    Example: [bold]suffice traces rejudge traces.parquet --checker number[/bold]
    """  # fmt: skip
    items = []
    if dataset is not None:
        found = open_dataset(dataset, checker=checker)
        for note in found.notes:
            typer.echo(note)
        items = list(found.items)
    came = judge_again(file, out or file, items=items, checker=checker)
    typer.echo(
        f"{came.samples} samples in {out or file}: {came.right} of {came.judged} judged are right; "
        f"{came.verdicts} verdicts and {came.answers} answers changed"
    )
    if came.left:
        samples = counted(came.left, "sample")
        typer.echo(f"left as they were: {samples} of which no text was recorded")
    if came.unknown:
        samples = counted(came.unknown, "sample")
        typer.echo(f"left as they were: {samples} of questions not in {dataset}")


@traces.command("from-ledger")
def from_ledger(
    out: Annotated[Path, typer.Option("--out", help="Trace file to write.")],
    ledger: Annotated[
        str | None,
        typer.Option("--ledger", help="File or postgresql:// URL; the default ledger without."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only the last 90m, 24h, 7d …", show_default=False),
    ] = None,
    answer_format: Annotated[
        str | None,
        typer.Option(
            "--answer-format",
            help="Extracts answers where no policy did: number, choice, boxed …",
            show_default=False,
        ),
    ] = None,
    judged: Annotated[
        bool, typer.Option("--judged", help="Only questions of which every sample is judged.")
    ] = False,
) -> None:
    """Turn traffic whose prompts and outputs were stored into traces, judged by feedback.

    Example: [bold]suffice traces from-ledger --since 7d --judged --out traffic.parquet[/bold]
    """
    began_s = 0.0 if since is None else time.time() - parse_duration(since, what="--since")
    store = open_existing(ledger or default_url())
    try:
        found = traces_of(
            records(store, since_s=began_s), answer_format=answer_format, judged=judged
        )
    finally:
        store.close()
    write_traces(out, found.traces, found.information)
    questions = len({trace.question.name for trace in found.traces})
    typer.echo(
        f"{len(found.traces)} samples of {questions} questions in {out}, "
        f"{found.judged} of {found.used} requests judged"
    )
    for why, count in found.left_out.items():
        typer.echo(f"left out: {count} {why}")
