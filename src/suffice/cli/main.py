"""`suffice`: registers the verbs and turns errors into one line and exit code 2."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from suffice.cli.lazy_group import lazy_app
from suffice.core.errors import SufficeError
from suffice.core.version import __version__

# A verb is a line here: its module and object in suffice.cli, and what `suffice --help` says.
VERBS = {
    "quickstart": (
        "quickstart:quickstart",
        "Record your models, certify a cheaper policy, write settings.",
    ),
    "demo": ("demo:demo", "Small models in front of a large one: certified, and refused."),
    "record": ("record:record", "Record every sample of a server whole, right or wrong."),
    "traces": ("traces:traces", "Recorded samples: import, show, join, grade again."),
    "calibrate": (
        "calibrate:calibrate",
        "The cheapest rule that is shown to lose no more than a limit.",
    ),
    "frontier": ("frontier:frontier", "Accuracy against cost of every policy, with intervals."),
    "compose": ("compose:compose", "What each lever saves alone, and all together."),
    "replay": ("replay:replay", "Play recorded samples through policies."),
    "tradeoff": (
        "tradeoff:tradeoff",
        "Small model with many samples against a large one, by FLOPs.",
    ),
    "exchange": ("tradeoff:exchange", "The name that tradeoff had."),
    "policies": ("policies:policies", "List the policies, or the options of one."),
    "serve": ("serve:serve", "Serve OpenAI's API, spending just enough per request."),
    "live": ("live:live", "Live certificates: play traces as traffic, or ask a gateway."),
    "ask": ("ask:ask", "Ask a question and watch the policy decide what is enough."),
    "agent": ("agent:agent", "Ask a question that takes tools, and watch the calls run."),
    "config": ("config:config", "The gateway's configuration file."),
    "keys": ("keys:keys", "Keys of the gateway's clients, with budgets and rate limits."),
    "ledger": ("ledger:ledger", "Requests, samples and judgements on record."),
    "size": ("size:size", "How fast a model is on a machine, and how many GPUs a rate takes."),
    "design": ("design:design", "The shapes that serve a workload best within a model's loss."),
    "shapes": ("shapes:shapes", "List embedded models, or count one: parameters, FLOPs, bytes."),
    "laws": ("laws:laws", "List the embedded laws, or show one."),
    "optimum": ("optimum:optimum", "The best size and tokens of a compute budget by a law."),
    "predict": ("laws:predict", "A shape's loss by a law, alone or against another shape."),
    "fit": ("fit:fit", "Fit a law to runs: coefficients with intervals, errors, regret."),
    "hardware": ("hardware:hardware", "The machines that predictions know, with sources."),
    "measure": ("measure:measure", "Measure prefill and decode of shapes with random weights."),
    "calibrate-hardware": (
        "calibrate_hardware:calibrate_hardware",
        "How near a machine's limits an engine gets.",
    ),
    "ablate": ("ablate:ablate", "Vary one thing of a shape at fixed parameters."),
    "ladder": ("ladder:ladder", "Train small shapes, and fit a law of your own to them."),
    "train": ("train:train", "Train suffice-nano, a choice of mode, or a latent reasoner."),
    "eval": ("evaluate:evaluate", "Measure what a model's choices are worth."),
    "evidence": ("evidence:evidence", "Claims about efficient inference, each tested again."),
    "doctor": ("doctor:doctor", "Versions, hardware and extras, and how to get what is missing."),
}

app = lazy_app(
    VERBS,
    name="suffice",
    help="Just enough compute: shape, serve and train language models by what they cost to run.",
    add_completion=True,
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
