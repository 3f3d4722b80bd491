"""`suffice record`: draw samples of a dataset from a server and keep each whole."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, Upstreams
from suffice.core.errors import needs
from suffice.core.quantities import parse_rate
from suffice.core.requests import Sampling

if not HELP_ONLY:
    from suffice.evals.datasets import Item, open_dataset
    from suffice.evals.traces.columns import arrow
    from suffice.recipes.record.config import (
        RecordConfig,
        RecordingProgress,
        RecordingResult,
        mode_of,
    )
    from suffice.recipes.record.several import record_all
    from suffice.recipes.record.stopping import Terminated, run_until_stopped
    from suffice.recipes.record.trial import RecordingTrial

    with needs("serve", "suffice record"):
        from suffice.backends.http_upstream import Timeouts
        from suffice.backends.openai import OpenAIBackend


def record(
    dataset: Annotated[str, typer.Option()],
    upstream: Upstreams,
    out: Annotated[Path, typer.Option()],
    samples: Annotated[int, typer.Option(min=1)] = 32,
    top_logprobs: Annotated[int, typer.Option(min=0)] = 20,
    model: list[str] | None = None,
    checker: str | None = None,
    mode: str = "answer",
    suffix: str = "",
    rate: str | None = None,
    concurrency: Annotated[int, typer.Option(min=1)] = 16,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0)] = None,
    top_p: float | None = None,
    stop: list[str] | None = None,
    seed: int | None = None,
    completions: Flag = False,
    patience_s: Annotated[float, typer.Option("--patience", min=1.0)] = 300.0,
    keep_going: Flag = False,
    licence: str = "",
    description: str = "",
    server: str = "",
    as_json: AsJson = False,
) -> None:
    """Record every sample whole: text, tokens, confidences, answer, right or wrong, timings.

    Ten questions are tried first. A recording may be stopped at any time; the same command goes on.
    See docs/traces.md.

    Example: [bold]suffice record --dataset questions.jsonl --upstream http://localhost:8000
    --samples 32 --out traces.parquet[/bold]

    Options:
        dataset: A JSONL, CSV or Parquet file of questions (prompt, answer); or gsm8k:PATH,
            math500:PATH, choices:PATH, bfcl:PATH, reasoning-gym:TASK,size=100.
        out: Recording to write; an existing file is continued.
        samples: Samples per question.
        top_logprobs: Alternatives behind each token's confidence; 0: none.
        model: May be repeated. Default: the first model that each server lists.
        checker: number, choice, math, json, text …; without, guessed from the answers.
        mode: answer, think, direct, think:TOKENS, or a name for --suffix.
        suffix: Text appended to the question.
        rate: Samples started, e.g. 5/s or 90/min.
        concurrency: How many samples run at once.
        limit: First questions only.
        max_tokens: Completion tokens per sample.
        temperature: Temperature of sampling; without it the server decides.
        top_p: Nucleus sampling: share of probability kept; without it the server decides.
        stop: May be repeated; \\n is a line break.
        seed: Sample i is drawn with seed + i.
        completions: Ask /v1/completions, without a chat template.
        patience_s: Give up after so many silent seconds.
        keep_going: Go on even if none of the first 20 answers is right.
        licence: Licence of the recording.
        description: What is recorded, for the file.
        server: Engine and version, for the file.
        as_json: Print the result as JSON.
    """  # fmt: skip
    arrow()  # before anything is drawn
    config = RecordConfig(
        samples=samples,
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
        rate_per_s=None if rate is None else parse_rate(rate),
        description=description,
        licence=licence,
        source=f"recorded from {dataset}",
        server=server,
        trial=not keep_going,
    )
    found = open_dataset(dataset, limit=limit, checker=checker)
    if not as_json:
        for note in found.notes:
            typer.echo(note)
    result = _run(list(found.items), upstream, model or [], out, config, patience_s, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(_as_json(result, out, len(found.items))))
    else:
        for name, each in result.items():
            typer.echo(_summary(each.progress, out, name))
    if not all(each.complete for each in result.values()):
        raise typer.Exit(1)


def _as_json(result: dict[str, RecordingResult], out: Path, questions: int) -> dict[str, Any]:
    progress = [each.progress for each in result.values()]
    return {
        "out": str(out),
        "questions": questions,
        "models": list(result),
        "samples": sum(each.known + each.drawn for each in progress),
        "drawn_now": sum(each.drawn for each in progress),
        "failed": sum(each.failed for each in progress),
        "completion_tokens_now": sum(each.tokens for each in progress),
    }


def _summary(progress: RecordingProgress, out: Path, model: str) -> str:
    lines = [
        f"{model}: {progress.known + progress.drawn} of {progress.total} samples in {out} "
        f"({progress.drawn} drawn now, {progress.tokens} tokens)"
    ]
    if progress.judged:
        lines.append(f"right: {progress.correct} of {progress.judged} drawn now")
    if progress.failed:
        lines.append(
            f"{progress.failed} failed, the last: {progress.last_error}; run again to draw them"
        )
    return "\n".join(lines)


def trial_lines(trial: RecordingTrial) -> list[str]:
    """The first samples: what was extracted, and how long the rest will take."""
    lines = [f"first {len(trial.traces)} questions, {trial.model}:"]
    for trace in trial.traces:
        verdict = {True: "right", False: "wrong", None: "not judged"}[trace.correct]
        answer = "no answer found" if trace.answer is None else f"answered {_short(trace.answer)}"
        wanted = trace.question.reference
        due = "" if wanted is None or trace.correct else f", right is {_short(wanted)}"
        lines.append(f"  {trace.question.name}: {answer}, {verdict}{due}")
    if trial.judged:
        lines.append(f"  {trial.right} of {trial.judged} right")
    left = [f"  {trial.left} samples left"]
    if trial.tokens_left is not None:
        left.append(f"about {trial.tokens_left:,.0f} tokens")
    if trial.seconds_left is not None:
        left.append(f"about {_duration(trial.seconds_left)}")
    return [*lines, ", ".join(left)]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else flat[:57] + "…"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _run(
    items: list[Item],
    upstreams: list[str],
    models: list[str],
    out: Path,
    config: RecordConfig,
    patience_s: float,
    *,
    quiet: bool,
) -> dict[str, RecordingResult]:
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    ]
    bar = Bar(*columns, console=Console(stderr=True), disable=quiet)
    tasks: dict[str, Any] = {}

    def tell(model: str, progress: RecordingProgress) -> None:
        if model not in tasks:
            tasks[model] = bar.add_task(f"recording {model}", total=None, said="")
        said = f"{progress.tokens} tokens"
        if progress.judged:
            said += f", {progress.correct / progress.judged:.0%} right"
        if progress.failed:
            said += f", {progress.failed} failed"
        done = progress.known + progress.drawn
        bar.update(tasks[model], total=progress.total, completed=done, said=said)

    def tried(trial: RecordingTrial) -> None:
        if not quiet:
            for line in trial_lines(trial):
                bar.console.print(line, highlight=False, markup=False)

    async def run() -> dict[str, RecordingResult]:
        patient = Timeouts(
            connect_s=min(patience_s, 60.0), first_byte_s=patience_s, silence_s=patience_s
        )
        async with AsyncExitStack() as stack:
            backends = [
                await stack.enter_async_context(OpenAIBackend(url, timeouts=patient))
                for url in upstreams
            ]
            return await record_all(
                items, backends, out, config, models=models, tell=tell, tried=tried
            )

    try:
        with bar:
            return run_until_stopped(run())
    except (KeyboardInterrupt, Terminated) as stopped:
        typer.echo(f"stopped: what was drawn is kept beside {out}; the same command goes on",
                   err=True)  # fmt: skip
        raise typer.Exit(143 if isinstance(stopped, Terminated) else 130) from None
