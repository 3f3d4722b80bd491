"""`suffice eval`: what a trained model's choices are worth."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.latent import eval_latent
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.modes_view import print_result
from suffice.cli.options import AsJson
from suffice.core.errors import InputError
from suffice.core.files import write_bytes, write_json, write_text

if not HELP_ONLY:
    from suffice.recipes.modes.plots import modes_figure
    from suffice.recipes.modes.policies import Sampled, asked_and_calibrating, policy_results
    from suffice.recipes.modes.train import evaluate_folder
    from suffice.report.style import to_png, to_svg
    from suffice.tasks.puzzles import Mixture, read_problems
    from suffice.training.modes.rewards import ModePrice


TASKS_HELP = (
    "Kinds of problems: chain, arithmetic, logic, addition, comparison, gcd, countdown, sorting, "
    "restarts, zeros, variables."
)
evaluate = typer.Typer(
    name="eval", help="Measure what a model's choices are worth.", no_args_is_help=True
)


@evaluate.callback()
def _group() -> None:
    """Measure what a model's choices are worth."""


evaluate.command(name="latent")(eval_latent)


@evaluate.command()
def modes(
    model: Annotated[Path, typer.Option()],
    tasks: Annotated[
        str,
        typer.Option(help=TASKS_HELP),
    ] = "chain",
    difficulties: str = "1,2,3,4,5,6",
    problems: Annotated[int, typer.Option(min=1)] = 200,
    problems_file: Path | None = None,
    gamma: float = 0.5,
    max_tokens: Annotated[int, typer.Option(min=3)] = 48,
    seed: int = 0,
    sampled: Annotated[int, typer.Option(min=0)] = 40,
    samples: Annotated[int, typer.Option(min=3)] = 8,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy and tokens of always-short, always-think, the learned choice, the optimum, and of
    the gateway's policies: votes, cascades, one that is calibrated on other problems.

    Needs no torch. Example: [bold]suffice eval modes --model nano/ --out report/[/bold]

    Options:
        model: Model folder made by `suffice train`.
        difficulties: Steps of the problems.
        problems: Per task and difficulty.
        problems_file: JSONL of your own problems, instead of tasks.
        gamma: Price of thinking, 0 to 2.
        max_tokens: Longest response.
        seed: Seed of the problems.
        sampled: Problems per task and difficulty that the gateway's policies are compared on, by
            samples at temperature 1; 0 leaves them out.
        samples: Samples of their votes.
        out: Folder for table and pictures.
    """  # fmt: skip
    try:
        steps = tuple(int(n) for n in difficulties.split(","))
    except ValueError:
        raise InputError(
            f"--difficulties wants whole numbers such as 1,2,3; got {difficulties!r}"
        ) from None
    given = read_problems(problems_file) if problems_file is not None else ()
    mixture = Mixture(
        tasks=tuple(t.strip() for t in tasks.split(",")), difficulties=steps, given=given
    )
    result = evaluate_folder(
        model,
        mixture,
        per_cell=problems,
        reward=ModePrice(gamma=gamma),
        max_tokens=max_tokens,
        seed=seed,
    )
    if sampled:
        asked, others = asked_and_calibrating(mixture, sampled, seed)
        how = Sampled(samples=samples, max_tokens=max_tokens, seed=seed)
        result = replace(result, policies=policy_results(model, asked, others, how))
    if out is not None:
        figure = modes_figure(result)
        write_json(out / "modes.json", asdict(result))
        write_text(out / "modes.svg", to_svg(figure))
        write_bytes(out / "modes.png", to_png(figure))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    print_result(result)
    if out is not None:
        typer.echo(f"written: {out}/modes.json, modes.svg, modes.png")
