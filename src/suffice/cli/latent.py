"""`suffice train latent` and `suffice eval latent`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.documented import Flag
from suffice.cli.latent_view import print_latent
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError
from suffice.core.files import write_bytes, write_json, write_text

if not HELP_ONLY:
    from suffice.report.style import to_png, to_svg
    from suffice.training.extras import require_torch
    from suffice.training.latent.settings import LatentTraining, published
    from suffice.training.settings import from_toml, from_values, plain


def train_latent(
    out: Annotated[Path, typer.Option()],
    task: str | None = None,
    method: str | None = None,
    config: Path | None = None,
    paper: Flag = False,
    steps: int | None = None,
    until: int | None = None,
    kl_reduction: str | None = None,
    noise: str | None = None,
    guidance: bool | None = None,
    seed: int | None = None,
    device: str = "cpu",
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network that reasons by iterating a hidden state: TRM, or GRAM with sampled states.

    Example: [bold]suffice train latent --task queens-7 --method gram --out gram/[/bold]

    Options:
        out: Folder for the network; resumed if interrupted.
        task: queens-N, colouring-N, sudoku-4, -6 or -9.
        method: trm (deterministic; explored later, it is PTRM) or gram.
        config: TOML file; options given here win.
        paper: The published size, for a GPU.
        steps: Optimiser steps.
        until: Stop after so many steps for now.
        kl_reduction: sum, channels or mean.
        noise: learned, fixed or zero_mean.
        guidance: gram: a posterior that sees the answer.
        seed: Seed of all that is drawn.
        device: cpu or cuda.
        threads: CPU threads; torch decides by default.
    """
    require_torch()
    import torch  # noqa: PLC0415 - an extra

    from suffice.recipes.latent.train import train_latent as train  # noqa: PLC0415 - torch

    if threads is not None:
        torch.set_num_threads(threads)
    if config is not None and paper:
        raise InputError("--config and --paper both set the size: keep one")
    asked = from_toml(LatentTraining, config) if config else LatentTraining()
    if paper:
        asked = published(task or asked.task)
    shape: dict[str, Any] = {}
    if method is not None:
        if method not in ("trm", "gram"):
            raise InputError(f"--method {method!r} must be trm or gram")
        shape["noise"] = "none" if method == "trm" else "learned"
    if noise is not None:
        if method == "trm":
            raise InputError("--noise belongs to --method gram: trm has none while it learns")
        shape["noise"] = noise
    given = {
        "task": task, "steps": steps, "seed": seed, "kl_reduction": kl_reduction,
        "guidance": guidance,
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    asked = from_values(
        LatentTraining,
        {**plain(replace(asked, shape=replace(asked.shape, **shape))), **changes},
        source="the command line",
    )

    def tell(line: dict[str, Any]) -> None:
        if not as_json:
            typer.echo(_progress(line))

    result = train(asked, out, device=device, until=until, tell=tell)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    typer.echo(
        f"{result.task}: {result.parameters:,} parameters, {result.steps:,} steps, "
        f"{result.cpu_s / 60:.1f} CPU minutes; {result.train_inputs:,} inputs to learn from, "
        f"{result.test_inputs:,} held out"
    )
    typer.echo(f"network: {out}")


def _progress(line: dict[str, Any]) -> str:
    if "phase" in line:
        return f"network: {line['parameters']:,} parameters"
    return (
        f"step {line['step']} · loss {line['loss']:.4f} · cross-entropy "
        f"{line['cross_entropy']:.4f} · KL {line['kl']:.3f} nats · right {line['right']:.3f} · "
        f"{line['cpu_s']:.0f} CPU s"
    )


def eval_latent(
    network: Annotated[Path, typer.Option()],
    widths: str = "1,2,5,10,20",
    depths: str = "1,2,4,8",
    depth: Annotated[int, typer.Option(min=1)] = 4,
    sigma: float | None = None,
    puzzles: int | None = None,
    max_drop: float = 0.02,
    policies: bool = True,
    seed: int = 0,
    out: Path | None = None,
    device: str = "cpu",
    as_json: AsJson = False,
) -> None:
    """Accuracy, coverage and any@K against FLOPs and serial steps, for every width and depth.

    Example: [bold]suffice eval latent --network gram/ --out report/[/bold]

    Options:
        network: Folder made by `suffice train latent`.
        widths: Trajectories of a puzzle.
        depths: Steps of a trajectory.
        depth: Depth at which policies are compared.
        sigma: Explore with Gaussian noise of this size (PTRM); by default by the learned prior, or
            σ = .3 where there is none.
        puzzles: Held-out puzzles; all by default.
        max_drop: Accuracy that a certified width may lose, as a share.
        policies: Compare policies that decide the width by request.
        seed: Seed of the noise.
        out: Folder for table and pictures.
        device: cpu or cuda.
    """
    require_torch()
    from suffice.backends.latent.trajectories import Exploration  # noqa: PLC0415 - torch
    from suffice.recipes.latent.run import LatentEvaluation, evaluate_latent  # noqa: PLC0415

    asked = LatentEvaluation(
        widths=_whole(widths, "--widths"), depths=_whole(depths, "--depths"), depth=depth,
        exploration=None if sigma is None else Exploration(source="gaussian", sigma=sigma),
        puzzles=puzzles, policies=policies, max_drop=max_drop, seed=seed,
    )  # fmt: skip
    result = evaluate_latent(
        network, asked, device=device, tell=lambda line: typer.echo(line, err=True)
    )
    if out is not None:
        from suffice.recipes.latent.plots import latent_figure  # noqa: PLC0415 - torch

        figure = latent_figure(result)
        write_json(out / "latent.json", asdict(result))
        write_text(out / "latent.svg", to_svg(figure))
        write_bytes(out / "latent.png", to_png(figure))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    print_latent(result)
    if out is not None:
        typer.echo(f"written: {out}/latent.json, latent.svg, latent.png")


def _whole(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise InputError(f"{option} wants whole numbers such as 1,2,4; got {text!r}") from None
