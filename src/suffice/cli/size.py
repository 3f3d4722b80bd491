"""`suffice size`: how many devices, in which layout, serve a model within limits."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.cli.size_view import print_size
from suffice.core.errors import InputError
from suffice.core.quantities import parse_duration, parse_integer, parse_rate, parse_share

if not HELP_ONLY:
    from suffice.ledger.default_url import default_url
    from suffice.recipes.size import SizeConfig
    from suffice.recipes.size import size as run_size
    from suffice.recipes.size.cross_check import peer_estimate
    from suffice.recipes.size.output import summary
    from suffice.recipes.size.traffic import Traffic, is_ledger, ledger_traffic
    from suffice.throughput.workload import load_workload


_LOAD = "Load"
_LIMITS = "Limits"
_SERVING = "Serving"


def size(
    model: Annotated[str, typer.Option(help="A model's name, a config.json or its folder.")],
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            help="Name (see `suffice hardware`) or file; repeat for several, all GPUs by default.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            help="Requests that come at random, e.g. 20/s or 300/min.",
            rich_help_panel=_LOAD,
            show_default=False,
        ),
    ] = None,
    input_tokens: Annotated[
        int, typer.Option(help="Prompt tokens per request.", rich_help_panel=_LOAD)
    ] = 1024,
    output_tokens: Annotated[
        int, typer.Option(help="Output tokens per request.", rich_help_panel=_LOAD)
    ] = 256,
    workload: Annotated[
        str | None,
        typer.Option(
            help="A TOML or JSON file of lengths, or a ledger: its file or URL, or `ledger` for "
            "the usual one.",
            rich_help_panel=_LOAD,
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Read only the last 24h, 7d … of a ledger.",
            rich_help_panel=_LOAD,
            show_default=False,
        ),
    ] = None,
    of_model: Annotated[
        str | None,
        typer.Option(
            help="Read only this model's calls of a ledger.",
            rich_help_panel=_LOAD,
            show_default=False,
        ),
    ] = None,
    cached_prompt: Annotated[
        str | None,
        typer.Option(
            help="Share of each prompt in the prefix cache, e.g. 60%.",
            rich_help_panel=_LOAD,
            show_default=False,
        ),
    ] = None,
    max_ttft: Annotated[
        str | None,
        typer.Option(
            help="Longest time to the first token, e.g. 500ms.",
            rich_help_panel=_LIMITS,
            show_default=False,
        ),
    ] = None,
    max_tpot: Annotated[
        str | None,
        typer.Option(
            help="Longest time per further token, e.g. 30ms.",
            rich_help_panel=_LIMITS,
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        str,
        typer.Option(
            help="Share of requests inside the limits, under a rate.", rich_help_panel=_LIMITS
        ),
    ] = "95%",
    context: Annotated[
        str | None,
        typer.Option(
            help="Tokens at which the KV cache is told; those of the longest request by default.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    speculative: Annotated[
        float,
        typer.Option(help="Tokens per step with a draft, e.g. 2.1.", rich_help_panel=_SERVING),
    ] = 1.0,
    draft_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens drafted per step; as many as are accepted, rounded up, by default.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="bf16, fp16, fp8, int8, fp4, mxfp4 or int4; as stored by default.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    kv_cache: Annotated[
        str | None,
        typer.Option(
            help="bf16, fp16, fp8, int8 or int4; as stored by default.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="generic, vllm, sglang or trtllm.", rich_help_panel=_SERVING)
    ] = "vllm",
    gpus: Annotated[
        int | None,
        typer.Option(
            help="Devices of a replica, all of them.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option(
            help="Devices that share each attention.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            help="The engine's limit of sequences; vLLM's own for the machine by default.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    max_batched_tokens: Annotated[
        int | None,
        typer.Option(
            help="Token budget of a pass; vLLM's own for the machine by default.",
            rich_help_panel=_SERVING,
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(help="Share of each device's memory to use.", rich_help_panel=_SERVING),
    ] = "90%",
    disaggregated: Annotated[
        bool, typer.Option("--disaggregated", help="Also size two pools, prefill and decode.")
    ] = False,
    cross_check: Annotated[
        bool,
        typer.Option("--cross-check", help="Also ask aiconfigurator, where it is installed."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How fast a model is on a machine, how many requests fit, and how many GPUs a rate takes.

    Example: [bold]suffice size --model DeepSeek-V3 --hardware h200 --rate 5/s
    --input-tokens 4096 --output-tokens 1024 --max-ttft 2s --max-tpot 50ms[/bold]
    """  # fmt: skip
    traffic = _traffic(workload, since, of_model)
    rate_per_s = parse_rate(rate) if rate is not None else traffic.peak_per_s if traffic else None
    options: Any = {"weight_dtype": weights, "kv_dtype": kv_cache, "engine": engine}
    config = SizeConfig(
        model=model,
        hardware=tuple(hardware) if hardware else None,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        workload=traffic.workload if traffic else _lengths(workload),
        rate_per_s=rate_per_s,
        max_ttft_s=parse_duration(max_ttft, what="--max-ttft") if max_ttft else None,
        max_tpot_s=parse_duration(max_tpot, what="--max-tpot") if max_tpot else None,
        within=parse_share(within, what="--within"),
        cached_prompt=parse_share(cached_prompt, what="--cached-prompt") if cached_prompt else 0.0,
        speculative=speculative,
        draft_tokens=draft_tokens,
        context=parse_integer(context, what="--context") if context else None,
        devices=gpus,
        tensor_parallel=tensor_parallel,
        max_batch=max_batch,
        max_batched_tokens=max_batched_tokens,
        memory_fraction=parse_share(memory, what="--memory"),
        disaggregated=disaggregated,
        **options,
    )
    result = run_size(config)
    peer, why = (None, None)
    if cross_check:
        peer, why = _peer(result)
    if as_json:
        told = summary(result)
        if cross_check:
            told["cross_check"] = {"estimate": peer, "why_not": why}
        typer.echo(json.dumps(told, indent=2))
        return

    print_size(result, traffic, peer, why)


def _traffic(workload: str | None, since: str | None, of_model: str | None) -> Traffic | None:
    """Traffic of a ledger; None where the workload is a file or not given."""
    source = default_url() if workload == "ledger" else workload
    if workload != "ledger" and (source is None or not is_ledger(source)):
        if since is not None or of_model is not None:
            raise InputError("--since and --of-model are of a ledger: give --workload ledger")
        return None
    since_s = 0.0 if since is None else time.time() - parse_duration(since, what="--since")
    return ledger_traffic(source or "", since_s=since_s, model=of_model)


def _lengths(workload: str | None) -> Any:
    return load_workload(workload) if workload else None


def _peer(result: Any) -> tuple[dict[str, float] | None, str | None]:
    best, config = result.best, result.config
    try:
        found = peer_estimate(
            result.model, best.serving, config.requests, max(1, round(best.batch))
        )
    except InputError as error:
        return None, str(error)
    return asdict(found), None
