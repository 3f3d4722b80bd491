"""`suffice`: registers the verbs and turns errors into one line and exit code 2."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from suffice.cli.ablate import ablate
from suffice.cli.ask import ask
from suffice.cli.calibrate import calibrate
from suffice.cli.calibrate_hardware import calibrate_hardware
from suffice.cli.config import config
from suffice.cli.demo import demo
from suffice.cli.design import design
from suffice.cli.doctor import doctor
from suffice.cli.evaluate import evaluate
from suffice.cli.exchange import exchange
from suffice.cli.fit import fit
from suffice.cli.frontier import frontier
from suffice.cli.hardware import hardware
from suffice.cli.keys import keys
from suffice.cli.ladder import ladder
from suffice.cli.laws import laws, predict
from suffice.cli.ledger import ledger
from suffice.cli.measure import measure
from suffice.cli.policies import policies
from suffice.cli.quickstart import quickstart
from suffice.cli.record import record
from suffice.cli.replay import replay
from suffice.cli.serve import serve
from suffice.cli.shapes import shapes
from suffice.cli.size import size
from suffice.cli.traces import traces
from suffice.cli.train import train
from suffice.core.errors import SufficeError
from suffice.core.version import __version__

app = typer.Typer(
    name="suffice",
    help="Just enough compute: shape, serve and train language models by what they cost to run.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"suffice {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Just enough compute."""


app.command()(quickstart)
app.command()(demo)
app.command()(design)
app.command()(shapes)
app.command()(size)
app.command()(laws)
app.command()(predict)
app.command()(fit)
app.add_typer(hardware, name="hardware")
app.add_typer(ladder, name="ladder")
app.add_typer(train, name="train")
app.add_typer(evaluate, name="eval")
app.command()(measure)
app.command()(ablate)
app.command()(calibrate_hardware)
app.command()(calibrate)
app.command()(frontier)
app.command()(exchange)
app.command()(policies)
app.command()(serve)
app.command()(ask)
app.add_typer(keys, name="keys")
app.add_typer(ledger, name="ledger")
app.add_typer(config, name="config")
app.command()(record)
app.command()(replay)
app.add_typer(traces, name="traces")
app.command()(doctor)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 shows ? for what it lacks, which is no reason to end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except SufficeError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
