"""`suffice size`: how many devices, in which layout, serve a model within limits."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from suffice.cli.documented import Flag
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
    model: Annotated[str, typer.Option()],
    hardware: list[str] | None = None,
    rate: str | None = None,
    input_tokens: int = 1024,
    output_tokens: int = 256,
    workload: str | None = None,
    since: str | None = None,
    of_model: str | None = None,
    cached_prompt: str | None = None,
    max_ttft: str | None = None,
    max_tpot: str | None = None,
    within: str = "95%",
    context: str | None = None,
    speculative: float = 1.0,
    draft_tokens: int | None = None,
    weights: str | None = None,
    kv_cache: str | None = None,
    engine: str = "vllm",
    gpus: int | None = None,
    tensor_parallel: int | None = None,
    max_batch: int | None = None,
    max_batched_tokens: int | None = None,
    memory: str = "90%",
    eager: Flag = False,
    disaggregated: Flag = False,
    cross_check: Flag = False,
    as_json: AsJson = False,
) -> None:
    """How fast a model is on a machine, how many requests fit, and how many GPUs a rate takes.

    Example: [bold]suffice size --model DeepSeek-V3 --hardware h200 --rate 5/s
    --input-tokens 4096 --output-tokens 1024 --max-ttft 2s --max-tpot 50ms[/bold]

    Options:
        model: A model's name, a config.json or its folder.
        hardware: Name (see `suffice hardware`) or file; repeat for several, all GPUs by default.
        disaggregated: Also size two pools, prefill and decode.
        cross_check: Also ask aiconfigurator, where it is installed.
    Load:
        rate: Requests that come at random, e.g. 20/s or 300/min.
        input_tokens: Prompt tokens per request.
        output_tokens: Output tokens per request.
        workload: A TOML or JSON file of lengths, or a ledger: its file or URL, or `ledger` for the
            usual one.
        since: Read only the last 24h, 7d … of a ledger.
        of_model: Read only this model's calls of a ledger.
        cached_prompt: Share of each prompt in the prefix cache, e.g. 60%.
    Limits:
        max_ttft: Longest time to the first token, e.g. 500ms.
        max_tpot: Longest time per further token, e.g. 30ms.
        within: Share of requests inside the limits, under a rate.
    Serving:
        context: Tokens at which the KV cache is told; those of the longest request by default.
        speculative: Tokens per step with a draft, e.g. 2.1.
        draft_tokens: Tokens drafted per step; as many as are accepted, rounded up, by default.
        weights: bf16, fp16, fp8, int8, fp4, mxfp4 or int4; as stored by default.
        kv_cache: bf16, fp16, fp8, int8 or int4; as stored by default.
        engine: generic, vllm, sglang or trtllm.
        gpus: Devices of a replica, all of them.
        tensor_parallel: Devices that share each attention.
        max_batch: The engine's limit of sequences; vLLM's own for the machine by default.
        max_batched_tokens: Token budget of a pass; vLLM's own for the machine by default.
        memory: Share of each device's memory to use.
        eager: The engine runs without captured graphs.
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
        captured_graphs=not eager,
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
