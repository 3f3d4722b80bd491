"""`suffice eval`: what a trained model's choices are worth."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.latent import eval_latent
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.modes_compare_view import print_comparison
from suffice.cli.modes_view import print_result
from suffice.cli.options import AsJson
from suffice.core.errors import InputError
from suffice.core.files import write_bytes, write_json, write_text

if not HELP_ONLY:
    from suffice.evals.traces.files import read_traces
    from suffice.recipes.modes.plots import modes_figure
    from suffice.recipes.modes.policies import Sampled, asked_and_calibrating, policy_results
    from suffice.recipes.modes.recorded import compare_recorded
    from suffice.recipes.modes.train import evaluate_folder
    from suffice.report.style import to_png, to_svg
    from suffice.tasks.puzzles import Mixture, read_problems
    from suffice.training.modes.rewards import ModePrice, Reward, TokenCost


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
    model: Path | None = None,
    recording: list[Path] | None = None,
    short: str = "direct",
    think: str = "think",
    tasks: Annotated[
        str,
        typer.Option(help=TASKS_HELP),
    ] = "chain",
    difficulties: str = "1,2,3,4,5,6",
    problems: Annotated[int, typer.Option(min=1)] = 200,
    problems_file: Path | None = None,
    gamma: float | None = None,
    token_price: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    max_tokens: Annotated[int, typer.Option(min=3)] = 48,
    seed: int = 0,
    sampled: Annotated[int, typer.Option(min=0)] = 40,
    samples: Annotated[int, typer.Option(min=3)] = 8,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy and tokens of always-short, always-think, the learned choice, the optimum, and of
    the gateway's policies: votes, cascades, one that is calibrated on other problems.

    Of any served model from its recording in both modes. Needs no torch.

    Examples: [bold]suffice eval modes --model nano/ --out report/[/bold], or
    [bold]suffice eval modes --recording both.parquet --token-price 0.001[/bold]

    Options:
        model: Model folder made by `suffice train`.
        recording: Recording of a served model in two modes or more, instead of --model; may be
            repeated.
        short: Its arm that answers at once: MODEL/MODE, or the mode alone.
        think: Its arm that thinks.
        difficulties: Steps of the problems.
        problems: Per task and difficulty.
        problems_file: JSONL of your own problems, instead of tasks.
        gamma: Price of thinking, 0 to 2; 0.5 without --token-price.
        token_price: What a token costs as a share of what a right answer is worth, instead of
            --gamma.
        max_tokens: Longest response.
        seed: Seed of the problems.
        sampled: Problems per task and difficulty that the gateway's policies are compared on, by
            samples at temperature 1; 0 leaves them out.
        samples: Samples of their votes.
        out: Folder for table and pictures.
    """  # fmt: skip
    if (model is None) == (recording is None):
        raise InputError("give --model, a folder of `suffice train`, or --recording; one of them")
    if gamma is not None and (token_price is not None or recording is not None):
        raise InputError("--gamma and --token-price both set the price of thinking: keep one; "
                         "--recording takes --token-price")  # fmt: skip
    if model is None:
        _recorded(recording or [], short, think, token_price, seed, out, as_json=as_json)
        return
    reward: Reward = (
        ModePrice(gamma=0.5 if gamma is None else gamma)
        if token_price is None
        else TokenCost(cost_per_token=token_price, answer_value=1.0)
    )
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
        reward=reward,
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


def _recorded(
    recording: list[Path],
    short: str,
    think: str,
    token_price: float | None,
    seed: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    if token_price is None:
        raise InputError(
            "--recording needs --token-price: what a token costs as a share of what a right answer "
            "is worth, such as 0.0005"
        )
    found = compare_recorded(
        read_traces(recording), short=short, think=think, token_price=token_price, seed=seed
    )
    values = {**asdict(found.comparison), "left_out": found.left_out}
    if out is not None:
        write_json(out / "modes.json", values)
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    print_comparison(found.comparison)
    if found.left_out:
        typer.echo(f"{found.left_out} questions lack a judged sample in some mode: left out")
    if out is not None:
        typer.echo(f"written: {out}/modes.json")
