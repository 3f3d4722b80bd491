"""`suffice measure`: the speed of any shapes on this machine, with random weights."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError, MeasurementError

if not HELP_ONLY:
    from suffice.architecture.catalog import load_shape
    from suffice.recipes.ablation.scaling import shrunk
    from suffice.throughput.engines.choose import EngineOptions, make_engine
    from suffice.throughput.engines.protocol import Lengths
    from suffice.throughput.measure import (
        Measurement,
        MeasurePlan,
        Summary,
        begin_run,
        paired_ratios,
        summarise,
    )
    from suffice.throughput.records import ResultFile, read_samples


_ENGINE = "Engine"


def measure(
    like: list[str] | None = None,
    shape: list[str] | None = None,
    engine: str = "torch",
    input_tokens: int = 4096,
    output_tokens: int = 1024,
    batch: str = "1,16,64",
    repeat: int = 5,
    prefill_repeats: int | None = None,
    out: Path = Path("results.jsonl"),
    shrink: int = 1,
    tag: list[str] | None = None,
    dtype: str = "bf16",
    device: str | None = None,
    kernels: str = "auto",
    threads: int | None = None,
    clock: str = "wall",
    server: Flag = False,
    vllm_python: str | None = None,
    url: str | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Measure prefill and decode of shapes with random weights; nothing is downloaded.

    Example: [bold]suffice measure --like llama-3.2-1b --like surefire-1b --engine vllm
    --input-tokens 1024 --output-tokens 128 --batch 1,16 --out results.jsonl[/bold]

    Options:
        like: A model's name (see `suffice shapes`); repeatable.
        shape: A config.json or its folder; repeatable.
        engine: vllm, torch or openai.
        input_tokens: Prompt tokens per sequence.
        output_tokens: Tokens to generate per sequence.
        batch: Batch sizes.
        repeat: Repeats; shapes take turns within each.
        prefill_repeats: Repeats that time the prefill too; default: all.
        out: JSONL to append to; an interrupted run resumes.
        shrink: Divide all widths by this; r, x, GQA and depth stay.
        tag: NAME=VALUE kept with each sample; repeatable.
    Engine:
        dtype: bf16 or fp32.
        device: torch: cpu or cuda.
        kernels: torch: auto, torch or triton.
        threads: CPU threads of the engine.
        clock: wall, or cpu: processor time of one thread, for shared CPUs.
        server: vllm: measure its HTTP server instead.
        vllm_python: vllm: interpreter that has it; default: this one or $SUFFICE_VLLM_PYTHON.
        url: openai: base URL of the endpoint.
        model: openai: model name at the endpoint.
        tokenizer: openai: tokenizer folder for the prompts.
    """  # fmt: skip
    shapes = tuple(shrunk(found, shrink) for found in _shapes(like or [], shape or []))
    options: Any = {"dtype": dtype, "device": device, "kernels": kernels, "clock": clock}
    plan = MeasurePlan(
        shapes=shapes,
        lengths=Lengths(input_tokens=input_tokens, output_tokens=output_tokens),
        batches=batch_sizes(batch),
        repeats=repeat,
        prefill_repeats=prefill_repeats,
        dtype=dtype,
        tags=_tags(tag or []),
    )
    if repeat < 1:
        raise InputError(f"--repeat must be at least 1, got {repeat}")
    chosen = make_engine(
        engine,
        EngineOptions(
            **options, threads=threads, vllm_python=vllm_python, server=server, url=url,
            model=model, tokenizer=tokenizer,
        ),
    )  # fmt: skip
    results = ResultFile(out)
    command = " ".join(["suffice", *sys.argv[1:]])
    run, environment, ceilings = begin_run(chosen, results, command=command)
    typer.echo(f"{environment.device}, {environment.engine} {environment.engine_version}", err=True)
    measurement = Measurement(
        chosen, results, run=run, environment=environment, held=read_samples(out),
        progress=lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    samples = measurement.carry_out(plan)
    if not samples:
        raise MeasurementError(f"nothing could be measured; the reasons are above and in {out}")
    summaries = summarise(samples, ceilings)
    if as_json:
        typer.echo(json.dumps([facts(summary) for summary in summaries], indent=2))
    else:
        print_summaries(summaries, samples)
        typer.echo(f"{len(samples)} samples in {out}", err=True)


def _shapes(like: list[str], paths: list[str]) -> list[Any]:
    found = [load_shape(name) for name in like]
    for path in paths:
        read = load_shape(path)
        found.append(replace(read, name=read.name or Path(path).stem))
    if not found:
        raise InputError(
            "name at least one shape: --like meta-llama/Llama-3.2-1B, or --shape config.json"
        )
    if len(set(found)) < len(found):
        raise InputError("the same shape was given twice")
    return found


def batch_sizes(text: str) -> tuple[int, ...]:
    """Positive whole numbers between commas."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise InputError(f"batch sizes are positive whole numbers such as 1,16,64, got {text!r}")
    return tuple(dict.fromkeys(sizes))


def _tags(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--tag takes NAME=VALUE, got {pair!r}")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def facts(summary: Summary) -> dict[str, Any]:
    """A summary as JSON values."""
    record = asdict(summary)
    record["shape"] = summary.shape.name
    return record


def print_summaries(summaries: list[Summary], samples: list[Any]) -> None:
    """Medians with their spread; the ratio is to the first shape, repeat by repeat."""
    first = summaries[0]
    table = Table(
        title=f"{first.engine} on {first.device}, {first.lengths.input_tokens} in / "
        f"{first.lengths.output_tokens} out",
        title_justify="left",
        caption="Median of the repeats (least to largest). TPOT leaves the first token out. "
        "Floor: bytes and FLOPs over the measured ceilings, as a share of the time.",
        caption_justify="left",
    )
    for heading in ("shape", "batch", "tok/s", "of first", "TPOT ms", "floor", "TTFT s", "floor",
                    "GB"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    for summary in summaries:
        ratio = paired_ratios(samples, summary.shape, first.shape, summary.batch)
        tpot, ttft = summary.tpot_s, summary.ttft_s
        table.add_row(
            summary.shape.name or str(summary.shape),
            str(summary.batch),
            f"{summary.decode_tokens_per_s.median:,.1f}",
            f"{ratio.median:.3f} ({ratio.least:.3f}–{ratio.largest:.3f})" if ratio else "–",
            f"{tpot.median * 1e3:.2f} ({tpot.least * 1e3:.2f}–{tpot.largest * 1e3:.2f})",
            _share(summary.decode_share_of_floor),
            f"{ttft.median:.3f} ({ttft.least:.3f}–{ttft.largest:.3f})" if ttft else "–",
            _share(summary.prefill_share_of_floor),
            f"{summary.memory_bytes / 1e9:.1f}" if summary.memory_bytes else "–",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _share(value: float | None) -> str:
    return f"{value:.0%}" if value is not None else "–"
