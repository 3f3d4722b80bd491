"""Models that answer in this process: what `--embedded` means to `ask` and `serve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.errors import InputError, MissingExtra
from suffice.core.extras import install_command

if not HELP_ONLY:
    from suffice.backends.nano.backend import NanoBackend
    from suffice.backends.protocol import Backend
    from suffice.training.extras import require_torch


def embedded(tell: Callable[[str], None], which: str | None = None) -> Sequence[Backend]:
    """A model in this process: nano, a folder of `suffice train`, or smollm2."""
    if which == "smollm2":
        return _smollm2(tell)
    folder = None if which in (None, "nano") else Path(str(which))
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"--embedded {which!r} is no folder: write nano, smollm2, or a model folder"
        )
    if folder is not None and (folder / "latent.json").is_file():
        return [_latent(folder, tell)]
    model = NanoBackend(folder, name="suffice-nano" if folder is None else folder.resolve().name)
    asked = "no upstream: " if which is None else ""
    tell(
        f"{asked}{model.name} ({model.parameters:,} weights, NumPy) answers in this process; it "
        'knows puzzles such as "3fb" and nothing else (--upstream URL, --embedded smollm2)'
    )
    return [model]


def _latent(folder: Path, tell: Callable[[str], None]) -> Backend:
    require_torch()
    from suffice.backends.latent.backend import LatentBackend  # noqa: PLC0415 - torch

    model = LatentBackend.of_folder(folder)
    tell(f"{model.name} answers in this process: puzzles of {model.task}, a trajectory a sample")
    return model


def _smollm2(tell: Callable[[str], None]) -> Sequence[Backend]:
    try:
        from suffice.backends.embedded import load_embedded  # noqa: PLC0415 - torch
    except MissingExtra:
        raise MissingExtra(
            f"smollm2 runs on torch: {install_command('embedded')}, or leave --embedded out"
        ) from None
    return [load_embedded(tell)]
