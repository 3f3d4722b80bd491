"""`suffice demo`: a shape designed, then a gateway that spends just enough, in two minutes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from suffice.backends.openai import OpenAIBackend
    from suffice.backends.protocol import Backend
    from suffice.policies.policy_file import PolicyFile
    from suffice.recipes.demo.run import Demo

START_S = 20.0
WIDTH = 100
SHOWN = (0, 1, 2, 3, 5)
"""Columns of the table that a terminal has room for; the page has them all."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for pages, pictures and figures.")] = Path(
        "run"
    ),
    problems: Annotated[
        int, typer.Option(help="Problems; half calibrate, half are asked.", min=24)
    ] = 720,
    votes: Annotated[int, typer.Option(help="Samples of the uniform vote.", min=3)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of problems and samples.")] = 0,
    design: Annotated[
        bool, typer.Option(help="Begin with the shape design for LLaMA-3.2-1B.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Right-size LLaMA-3.2-1B for an A100, then ask the gateway with suffice-nano puzzles in five
    ways: a uniform vote, always thinking, never, the model's own choice, a policy calibrated
    here. No server, GPU or torch needed.

    Example: [bold]suffice demo --out run/[/bold]
    """  # fmt: skip
    import asyncio
    import json

    from suffice.backends.nano.backend import NanoBackend
    from suffice.core.errors import MissingExtra

    try:
        import suffice.gateway.server  # noqa: F401 - told before anything is computed
    except ImportError as error:
        if isinstance(error, MissingExtra):
            raise
        raise MissingExtra.of(error.name or "uvicorn", "serve", "suffice demo") from None
    from suffice.recipes.demo.config import DemoConfig
    from suffice.recipes.demo.output import summary, write_demo
    from suffice.recipes.demo.run import run_demo

    config = DemoConfig(problems=problems, votes=votes, seed=seed)

    def tell(text: str) -> None:
        typer.echo(f"· {text}", err=as_json)

    if design:
        _design(out, quiet=as_json)
    backend = NanoBackend()

    @contextmanager
    def serve(file: PolicyFile) -> Iterator[OpenAIBackend]:
        with _gateway(backend, file) as running:
            yield running

    found = asyncio.run(run_demo(config, backend, serve, tell=tell))
    paths = write_demo(found, out)
    if as_json:
        typer.echo(json.dumps(summary(found), indent=2))
        return
    _print(found)
    typer.echo(f"\npage    {paths['page']}\npicture {paths['picture']}\npolicy  {paths['policy']}")


def _design(out: Path, *, quiet: bool) -> None:
    from suffice.recipes.design.config import DesignConfig
    from suffice.recipes.design.output import write_run
    from suffice.recipes.design.run import design

    result = design(
        DesignConfig(
            like="meta-llama/Llama-3.2-1B",
            tokens=100e9,
            hardware="a100-40gb",
            input_tokens=4096,
            output_tokens=1024,
            objective="throughput",
        )
    )
    paths = write_run(result, out)
    if not quiet:
        from suffice.cli.design import print_design

        print_design(result, paths)


@contextmanager
def _gateway(backend: Backend, file: PolicyFile) -> Iterator[OpenAIBackend]:
    """The whole gateway over `backend` on a free loopback port, and a client of it."""
    from suffice.backends.openai import OpenAIBackend
    from suffice.core.errors import SufficeError
    from suffice.gateway.config import GatewayConfig
    from suffice.gateway.server import server_of
    from suffice.recipes.demo.config import CALIBRATED

    settings = GatewayConfig(policies={CALIBRATED: file.model_dump(mode="json")})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = server_of(settings, backends=[backend], quiet=True)
        ended: Future[None] = Future()

        def run() -> None:
            try:
                server.run(sockets=[listener])
            except BaseException as error:  # noqa: BLE001 - carried to whoever waits
                ended.set_exception(error)
            else:
                ended.set_result(None)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        until = time.monotonic() + START_S
        while not server.started:
            if ended.done() or time.monotonic() > until:
                cause = ended.exception() if ended.done() else None
                why = f": {cause}" if cause else ""
                raise SufficeError(f"the gateway did not start{why}") from cause
            time.sleep(0.01)
        try:
            yield OpenAIBackend(f"http://127.0.0.1:{listener.getsockname()[1]}", name="gateway")
        finally:
            server.should_exit = True
            thread.join(START_S)


def _print(found: Demo) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from suffice.recipes.demo.output import COLUMNS, notes_of, receipt_text, rows_of

    console = Console()
    console = console if console.width >= WIDTH else Console(width=WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number in SHOWN:
        table.add_column(COLUMNS[number], justify="right" if number else "left", no_wrap=True)
    for row in rows_of(found):
        table.add_row(*(row[number] for number in SHOWN))
    console.print()
    console.print(table)
    for note in notes_of(found):
        console.print(f"  - {note}", highlight=False)
    for live in (found.easy, found.hard):
        console.print(f"\n{receipt_text(live)}", highlight=False)
