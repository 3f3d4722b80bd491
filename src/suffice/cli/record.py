"""`suffice record`: draw samples of a dataset from a server and keep each whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from suffice.evals.datasets import Item
    from suffice.recipes.record.run import Progress, RecordConfig, Recorded


def record(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="A JSONL file of prompt, answer, checker; or gsm8k:PATH, math500:PATH, "
            "choices:PATH, bfcl:PATH, reasoning-gym:TASK,size=100.",
        ),
    ],
    upstream: Annotated[str, typer.Option("--upstream", help="An OpenAI-compatible server.")],
    out: Annotated[
        Path, typer.Option("--out", help="Trace file; one that exists is gone on with.")
    ],
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples per question.")] = 32,
    top_logprobs: Annotated[
        int,
        typer.Option(
            "--top-logprobs", min=0, help="Alternatives behind each token's confidence; 0: none."
        ),
    ] = 20,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The server's first by default.", show_default=False),
    ] = None,
    mode: Annotated[
        str,
        typer.Option("--mode", help="answer, think, direct, think:TOKENS, or a name for --suffix."),
    ] = "answer",
    suffix: Annotated[
        str, typer.Option("--suffix", help="Text appended to the question.", show_default=False)
    ] = "",
    rate: Annotated[
        str | None,
        typer.Option("--rate", help="Samples started, e.g. 5/s or 90/min.", show_default=False),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="At once.")] = 16,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="First questions only.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, show_default=False)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, show_default=False)
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", show_default=False)] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="May be repeated; \\n is a line break.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Sample i is drawn with seed + i.", show_default=False),
    ] = None,
    completions: Annotated[
        bool, typer.Option("--completions", help="Ask /v1/completions, without a chat template.")
    ] = False,
    patience_s: Annotated[
        float, typer.Option("--patience", min=1.0, help="Seconds of silence to bear.")
    ] = 300.0,
    licence: Annotated[
        str, typer.Option("--licence", help="Under which others may use it.", show_default=False)
    ] = "",
    description: Annotated[str, typer.Option("--description", show_default=False)] = "",
    server: Annotated[
        str, typer.Option("--server", help="Engine and version, for the file.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Record every sample whole: text, tokens, confidences, answer, right or wrong, timings.

    A recording may be stopped at any time; the same command goes on. See docs/traces.md.

    Example: [bold]suffice record --dataset gsm8k:test.jsonl --upstream http://localhost:8000
    --samples 32 --out traces.parquet[/bold]
    """  # fmt: skip
    import json

    from suffice.core.requests import Sampling
    from suffice.evals.datasets import load_dataset
    from suffice.evals.trace_table import arrow
    from suffice.recipes.record.run import RecordConfig, mode_of

    arrow()  # before anything is drawn
    config = RecordConfig(
        samples=samples,
        model=model,
        mode=mode_of(mode, suffix),
        sampling=Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=tuple(text.replace("\\n", "\n") for text in stop or ()),
            seed=seed,
            top_logprobs=top_logprobs or None,
        ),
        completions=completions,
        concurrency=concurrency,
        rate_per_s=None if rate is None else per_s(rate),
        description=description,
        licence=licence,
        source=f"recorded from {dataset}",
        server=server,
    )
    items = load_dataset(dataset, limit=limit)
    result = _run(items, upstream, out, config, patience_s, quiet=as_json)
    progress = result.progress
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "out": str(out),
                    "questions": len(items),
                    "samples": progress.known + progress.drawn,
                    "drawn_now": progress.drawn,
                    "failed": progress.failed,
                    "completion_tokens_now": progress.tokens,
                }
            )
        )
    else:
        typer.echo(_summary(progress, out))
    if not result.complete:
        raise typer.Exit(1)


def _summary(progress: Progress, out: Path) -> str:
    lines = [
        f"{progress.known + progress.drawn} of {progress.total} samples in {out} "
        f"({progress.drawn} drawn now, {progress.tokens} tokens)"
    ]
    if progress.judged:
        lines.append(f"right: {progress.correct} of {progress.judged} drawn now")
    if progress.failed:
        lines.append(
            f"{progress.failed} failed, the last: {progress.last_error}; run again to draw them"
        )
    return "\n".join(lines)


def per_s(text: str) -> float:
    """A rate such as 5/s or 90/min, per second."""
    from suffice.core.errors import InputError

    units = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
    number, _, unit = text.partition("/")
    try:
        value = float(number) / units[unit]
    except (ValueError, KeyError):
        raise InputError(f"rate {text!r}: write a number per s, min or h, such as 5/s") from None
    if not value > 0:
        raise InputError(f"rate {text!r} must be positive")
    return value


def _run(
    items: list[Item],
    upstream: str,
    out: Path,
    config: RecordConfig,
    patience_s: float,
    *,
    quiet: bool,
) -> Recorded:
    import asyncio

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    from suffice.core.errors import MissingExtra

    try:
        from suffice.backends.openai import OpenAIBackend, Timeouts
    except ImportError:
        raise MissingExtra.of("httpx2", "serve", "suffice record") from None
    from suffice.recipes.record.run import record as run_record

    columns: list[Any] = [
        TextColumn("recording"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    ]
    bar = Bar(*columns, console=Console(stderr=True), disable=quiet)
    task = bar.add_task("", total=None, said="")

    def tell(progress: Progress) -> None:
        said = f"{progress.tokens} tokens"
        if progress.judged:
            said += f", {progress.correct / progress.judged:.0%} right"
        if progress.failed:
            said += f", {progress.failed} failed"
        done = progress.known + progress.drawn
        bar.update(task, total=progress.total, completed=done, said=said)

    async def run() -> Recorded:
        patient = Timeouts(
            connect_s=min(patience_s, 60.0), first_byte_s=patience_s, silence_s=patience_s
        )
        async with OpenAIBackend(upstream, timeouts=patient) as backend:
            return await run_record(items, backend, out, config, tell=tell)

    with bar:
        return asyncio.run(run())
