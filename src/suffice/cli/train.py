"""`suffice train`: the small model that ships, and the choice of a model's mode."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.evaluate import TASKS_HELP
from suffice.cli.latent import train_latent
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.modes_prompted import is_prompted, run_prompted
from suffice.cli.modes_view import print_result, progress
from suffice.cli.options import AsJson
from suffice.cli.train_prune import prune
from suffice.cli.train_soft_thoughts import soft_thoughts
from suffice.cli.train_tool_calls import tool_calls
from suffice.core.errors import InputError

if not HELP_ONLY:
    from suffice.architecture.catalog import load_shape
    from suffice.recipes.modes.costs import cost_ratio, gamma_from_machine, typical_lengths
    from suffice.recipes.modes.evaluate import ModesResult
    from suffice.recipes.modes.train import (
        ModesTraining,
        NanoTraining,
        room_for,
        train_modes,
        train_nano,
    )
    from suffice.training.extras import require_torch
    from suffice.training.settings import from_toml


train = typer.Typer(
    help="Train small models: modes, tool calls, soft thoughts, latent reasoners; prune traces.",
    no_args_is_help=True,
)

train.command(name="latent")(train_latent)
train.command(name="prune")(prune)
train.command(name="tool-calls")(tool_calls)
train.command(name="soft-thoughts")(soft_thoughts)

Config = Annotated[
    Path | None, typer.Option(help="TOML file; options given here win.", show_default=False)
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; torch decides by default.")]


@train.command()
def nano(
    out: Annotated[Path, typer.Option()],
    config: Config = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help=TASKS_HELP,
            show_default=False,
        ),
    ] = None,
    problems: Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    evaluate: int = 200,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a small model from nothing: shape, both modes, the choice between them, its table.

    Example: [bold]suffice train nano --seed 0 --out nano/[/bold], or of your own problems:
    [bold]suffice train nano --problems mine.jsonl --out mine/[/bold]

    Options:
        out: Folder for the model; resumed if interrupted.
        problems: JSONL of your own problems with prompt, answer and steps, instead of tasks.
        steps: Steps of the warm-up.
        seed: Seed of all that is drawn.
        evaluate: Held-out problems per task and difficulty.
    """
    _torch(threads)
    asked = from_toml(NanoTraining, config) if config else NanoTraining()
    changes: dict[str, Any] = {}
    if tasks is not None:
        changes["tasks"] = _names(tasks)
    if seed is not None:
        changes["seed"] = seed
    if steps is not None:
        changes["warm_up"] = replace(asked.warm_up, steps=steps)
    if problems is not None:
        changes["problems"] = str(problems)
        room = max(asked.routing.max_tokens, room_for(problems))
        changes["routing"] = replace(asked.routing, max_tokens=room)
    result = train_nano(
        replace(asked, **changes), out,
        device=device, tell=progress(as_json), evaluated_per_cell=evaluate,
    )  # fmt: skip
    _finish(result, out, as_json)


@train.command()
def modes(
    out: Annotated[Path, typer.Option()],
    model: str | None = None,
    config: Config = None,
    method: str | None = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help=TASKS_HELP,
            show_default=False,
        ),
    ] = None,
    problems: Path | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    alpha: float | None = None,
    norm: str | None = None,
    entropy: float | None = None,
    gamma: float | None = None,
    hardware: str | None = None,
    answer_worth: float = 20.0,
    accept_weak: bool = False,
    seed: int | None = None,
    evaluate: int = 200,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Teach a model that has both modes when to think.

    Example: [bold]suffice train modes --model nano/ --method degrpo --tasks chain
    --out routed/[/bold]

    With tables "short" and "think" in the TOML: a gate on any pretrained model, which stays as it
    is. Example: [bold]suffice train modes --config gate.toml --out gate/[/bold]

    Options:
        out: Folder for the trained model; resumed if there.
        model: Model folder to start from.
        method: grpo, degrpo, adaptthink or gate.
        steps: Steps of training.
        problems: JSONL with prompt and answer, instead of tasks.
        learning_rate: Learning rate of all but the gate.
        alpha: degrpo: weight of the mode token.
        norm: degrpo: paper or released.
        entropy: Bonus on the mode's entropy.
        gamma: Price of thinking, 0 to 2.
        hardware: Take γ from what thinking costs on this machine instead (see --answer-worth).
        answer_worth: What a right answer is worth, in short answers' cost.
        accept_weak: Start from a model that solves the problems in neither mode.
        seed: Seed of all that is drawn.
        evaluate: Held-out problems per task and difficulty.
    """
    _torch(threads)
    if model is None and config is None:
        raise InputError("name the model to start from with --model, or in the TOML of --config")
    if config is not None and is_prompted(config):
        other: dict[str, object] = {
            "--method": method, "--tasks": tasks, "--steps": steps, "--norm": norm,
            "--learning-rate": learning_rate, "--alpha": alpha, "--entropy": entropy,
            "--gamma": gamma, "--hardware": hardware, "--accept-weak": accept_weak or None,
        }  # fmt: skip
        unused = [name for name, value in other.items() if value is not None]
        if unused:
            raise InputError(f"{', '.join(unused)}: not of a gate on a pretrained model; leave out")
        run_prompted(config, out, model, problems, seed, device=device, as_json=as_json)
        return
    asked = from_toml(ModesTraining, config) if config else ModesTraining(model=str(model))
    given = {
        "method": method, "steps": steps, "learning_rate": learning_rate, "alpha": alpha,
        "norm": norm, "entropy": entropy, "gamma": gamma, "seed": seed,
    }  # fmt: skip
    routing: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    changes: dict[str, Any] = {"routing": replace(asked.routing, **routing)}
    if model is not None:
        changes["model"] = model
    if tasks is not None:
        changes["tasks"] = _names(tasks)
    if problems is not None:
        changes["problems"] = str(problems)
    if accept_weak:
        changes["accept_weak"] = True
    asked = replace(asked, **changes)
    if hardware is not None:
        if gamma is not None:
            raise InputError("--gamma and --hardware both set the price of thinking: keep one")
        asked = _priced(asked, hardware, answer_worth, quiet=as_json)
    result = train_modes(
        asked, out, device=device, tell=progress(as_json), evaluated_per_cell=evaluate
    )
    _finish(result, out, as_json)


def _priced(asked: Any, hardware: str, answer_worth: float, *, quiet: bool) -> Any:
    lengths = typical_lengths(asked.mixture)
    ratio = cost_ratio(load_shape(asked.model), hardware, **lengths)
    gamma = gamma_from_machine(ratio, answer_worth)
    if not quiet:
        typer.echo(
            f"on {hardware} a request that thinks costs {ratio:.2f} times a short one: γ = "
            f"{gamma:.3f}"
        )
    return replace(asked, routing=replace(asked.routing, gamma=gamma))


def _torch(threads: int | None) -> None:
    require_torch()
    if threads is not None:
        import torch  # noqa: PLC0415 - an extra

        torch.set_num_threads(threads)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _finish(result: ModesResult, out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    print_result(result)
    typer.echo(f"model: {out}")
