"""`suffice live`: what a live certificate would take and save, and how a running one stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, PriceOption, Seed, TraceFiles, prices_of
from suffice.core.errors import BackendError, InputError
from suffice.core.quantities import parse_rate, parse_share

if not HELP_ONLY:
    import numpy as np

    from suffice.backends.openai import OpenAIBackend
    from suffice.core.arrays import FloatArray
    from suffice.evals.text_judge import (
        LEAST_NOTICED,
        LEAST_PAIRS,
        MeasuredJudge,
        split,
        write_judge,
    )
    from suffice.evals.traces.files import read_traces
    from suffice.executors.judging import asking
    from suffice.policies.fixed import Single
    from suffice.policies.live.labels import Loss, Unlabelled
    from suffice.policies.live.state import LiveRule
    from suffice.policies.registry import parse_policy
    from suffice.recipes.live.judging import JudgedPair, measure, planted, read_pairs
    from suffice.recipes.live.play import LivePlay, Pool, Traffic, play_live

live = typer.Typer(
    name="live",
    help="Live certificates: how long one would take, and how a running one stands.",
    no_args_is_help=True,
)

Cheap = Annotated[
    list[str],
    typer.Option("--cheap", help="What is to be certified; repeat from cautious to cheap."),
]
Safe = Annotated[str, typer.Option("--safe", help="What answers until then.")]


@live.command()
def simulate(
    traces: TraceFiles,
    cheap: Cheap,
    safe: Safe,
    target: str = "5%",
    confidence: str = "95%",
    share: str = "25%",
    share_after: str = "5%",
    rate: str = "1/s",
    requests: Annotated[int, typer.Option(min=1)] = 5000,
    burst: Annotated[float, typer.Option(min=1)] = 1.0,
    mix: list[str] | None = None,
    drift: list[str] | None = None,
    loss: str = "differ",
    labelled: str = "100%",
    unlabelled: str = "lost",
    draws: Annotated[int, typer.Option(min=1)] = 1,
    seeds: Annotated[int, typer.Option(min=2)] = 200,
    seed: Seed = 0,
    price: PriceOption = None,
    as_json: AsJson = False,
) -> None:
    """Play recorded answers as live traffic: when would it be certified, and what would it cost?

    Example: [bold]suffice live simulate r.parquet --safe single@large --cheap
    "agreement:models=a+b > single@large" --target 5% --rate 5/s[/bold]

    Options:
        target: Share that may be answered differently.
        confidence: Confidence of a certificate.
        share: Share of requests that both answer, until certified.
        share_after: Share of requests that both answer, once certified.
        rate: Requests that come, e.g. 5/s.
        requests: In all.
        burst: Times the rate, in a tenth of the time.
        mix: Part of a data set: NAME=PART; else as recorded.
        drift: Parts at the end, likewise.
        loss: What the target bounds: differ, or, by labels, harm (only the safe answer is right)
            or net (harm less gain).
        labelled: Share of requests that are labelled.
        unlabelled: What a difference without a label is: lost, or left_out.
        draws: Samples of each question.
        seeds: Gateways simulated.
    """
    rule = LiveRule(
        target=parse_share(target, what="--target"),
        confidence=parse_share(confidence, what="--confidence"),
        candidates=len(cheap),
        share=parse_share(share, what="--share"),
        share_after=parse_share(share_after, what="--share-after"),
        loss=_one_of(loss, Loss, "--loss"),
        unlabelled=_one_of(unlabelled, Unlabelled, "--unlabelled"),
    )
    traffic = Traffic(
        requests=requests, rate_per_s=parse_rate(rate), burst=burst, mix=_parts(mix, "--mix"),
        drift=_parts(drift, "--drift"),
    )  # fmt: skip
    ways = [(text, parse_policy(text)) for text in (safe, *cheap)]
    prices = prices_of(price)
    pool = Pool.of(read_traces(traces), ways[0], ways[1:], draws=draws, seed=seed, prices=prices)
    told = 1.0 if labelled == "100%" else parse_share(labelled, what="--labelled")
    found = play_live(pool, rule, traffic, seeds=seeds, seed=seed, labelled=told)
    if as_json:
        typer.echo(json.dumps(_as_json(pool, rule, traffic, found), indent=1))
        return
    for line in _lines(pool, rule, traffic, found):
        typer.echo(line)


def _one_of(given: str, choices: Any, option: str) -> Any:
    if given not in get_args(choices):
        raise InputError(f"{option}: one of {', '.join(get_args(choices))}, got {given!r}")
    return given


def _parts(given: list[str] | None, option: str) -> dict[str, float]:
    found = {}
    for item in given or ():
        name, equals, part = item.rpartition("=")
        try:
            value = float(part)
        except ValueError:
            value = -1.0
        if not equals or value < 0.0:
            raise InputError(f"{option} {item!r}: write NAME=PART, a part of 0 or more")
        found[name] = value
    if found and not sum(found.values()):
        raise InputError(f"{option}: one part at least must be above 0")
    return found


def _lines(pool: Pool, rule: LiveRule, traffic: Traffic, found: LivePlay) -> Sequence[str]:
    certified = np.isfinite(found.requests_to_certificate)
    chance = traffic.weights(pool.datasets, 0.0)
    rate = ", ".join(
        f"{name} {100 * (pool.differs[way + 1].mean(axis=1) @ chance):.1f} %"
        for way, name in enumerate(pool.names[1:])
    )
    bounds = "" if rule.loss == "differ" else f" of {rule.loss}"
    lines = [
        f"answered differently from {pool.names[0]}: {rate} "
        f"({len(pool.datasets)} questions; the target is {100 * rule.target:g} %{bounds})",
        f"certified within {traffic.requests} requests: {certified.sum()} of {len(certified)} runs",
    ]
    if certified.any():
        lines += [
            f"  after requests: {_spread(found.requests_to_certificate)}, of them shadowed: "
            f"{_spread(found.shadowed_to_certificate)}",
            f"  after hours at {traffic.rate_per_s:g}/s: "
            f"{_spread(found.seconds_to_certificate / 3600, 2)}",
        ]
        if rule.loss != "differ":
            lines.append(f"  after labels: {_spread(found.labels_to_certificate)}")
    lines += [
        f"shadowed: {_spread(100 * found.shadowed, 1)} % of requests",
        f"answered by a cheap way: {_spread(100 * found.answered_cheap, 1)} %",
        f"clients' answers that differ from the safe one: {_spread(100 * found.differed, 2)} %",
    ]
    if not np.isnan(found.lost_points).any():
        lines.append(f"right answers lost: {_spread(found.lost_points, 2)} points")
    if found.cost is None or found.shadow_cost is None:
        lines.append("costs: not comparable without --price MODEL=PROMPT/COMPLETION of each model")
    else:
        lines += [
            f"cost over these requests: {_spread(100 * found.cost, 1)} % of {pool.names[0]} alone "
            f"(in {pool.unit})",
            f"  of that shadow runs: {_spread(100 * found.shadow_cost, 1)} %",
        ]
    demoted = int((found.demotions > 0).sum())
    lines.append(f"switched off again in {demoted} of {len(certified)} runs")
    return lines


def _spread(values: FloatArray, digits: int = 0) -> str:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95), method="nearest")
    shown = [
        f"{each:,.{digits}f}" if np.isfinite(each) else "never" for each in (low, middle, high)
    ]
    return f"{shown[1]} [{shown[0]}, {shown[2]}]"


def _as_json(pool: Pool, rule: LiveRule, traffic: Traffic, found: LivePlay) -> dict[str, Any]:
    def spread(values: FloatArray | None) -> list[float | None] | None:
        if values is None or np.isnan(values).any():
            return None
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95), method="nearest")
        return [float(each) if np.isfinite(each) else None for each in (middle, low, high)]

    certified = np.isfinite(found.requests_to_certificate)
    return {
        "policies": list(pool.names), "questions": len(pool.datasets),
        "differ": [float(each.mean()) for each in pool.differs[1:]],
        "target": rule.target, "confidence": rule.confidence, "requests": traffic.requests,
        "runs": len(certified), "certified": int(certified.sum()),
        "requests_to_certificate": spread(found.requests_to_certificate),
        "shadowed_to_certificate": spread(found.shadowed_to_certificate),
        "seconds_to_certificate": spread(found.seconds_to_certificate),
        "shadowed": spread(found.shadowed), "answered_cheap": spread(found.answered_cheap),
        "loss": rule.loss, "labels_to_certificate": spread(found.labels_to_certificate),
        "differed": spread(found.differed), "lost_points": spread(found.lost_points),
        "cost": spread(found.cost), "shadow_cost": spread(found.shadow_cost),
        "demoted": int((found.demotions > 0).sum()),
    }  # fmt: skip


@live.command()
def judge(
    pairs: Annotated[Path, typer.Argument()],
    model: Annotated[str, typer.Option()],
    upstream: Annotated[str, typer.Option()],
    out: Path = Path("judge.json"),
    each: Annotated[int, typer.Option(min=1)] = 100,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    confidence: str = "95%",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how often a model notices a worse answer, so that it may judge free text.

    Example: [bold]suffice live judge recording.parquet --model qwen3-32b
    --upstream http://localhost:8000/v1[/bold]

    Options:
        pairs: JSONL of pairs (prompt, safe, cheap, worse: true or false), or a recording: then
            worse answers are planted.
        model: The judge.
        upstream: The server that has it.
        out: File to write.
        each: Pairs planted of a kind, at most.
        max_tokens: Most tokens of a verdict.
        confidence: Confidence of the certificate that it is for.
    """
    sure = parse_share(confidence, what="--confidence")
    shown = read_pairs(pairs) if pairs.suffix != ".parquet" else planted(
        read_traces([pairs]), each=each, seed=seed)  # fmt: skip
    found = asyncio.run(_measured(shown, upstream, model, max_tokens, pairs.name))
    write_judge(out, found)
    of_judge, _ = split(sure)
    notices = found.sensitivity(of_judge)
    if as_json:
        typer.echo(json.dumps(found.model_dump() | {"notices_at_least": notices}, indent=1))
        return
    for kind, count in found.noticed.items():
        typer.echo(f"{kind}: {count.worse} of {count.n} worse answers noticed")
        if count.n < LEAST_PAIRS:
            typer.echo(f"  few: with {LEAST_PAIRS} pairs or more of a kind it would say more")
    if found.blamed is not None:
        typer.echo(f"alike: {found.blamed.worse} of {found.blamed.n} blamed that were as good")
    least = f"of the kind noticed least it notices {100 * notices:.0f} % or more, at "
    least += f"{100 * of_judge:g} %"
    if notices < LEAST_NOTICED:
        typer.echo(
            f"{least}: too little, a gateway refuses it below {100 * LEAST_NOTICED:.0f} %; take a "
            f"better judge, or more pairs of each kind. judge: {out}"
        )
        return
    typer.echo(f"{least}: a target of 5 % is certified below {5 * notices:.2f} % judged worse")
    typer.echo(f"judge: {out}   (suffice serve … --judge {out})")


async def _measured(
    pairs: Sequence[JudgedPair], upstream: str, model: str, max_tokens: int | None, source: str
) -> MeasuredJudge:
    backend = OpenAIBackend(upstream)
    try:
        ask = asking(Single(), backend, model, max_tokens=max_tokens)
        return await measure(pairs, ask, model=model, max_tokens=max_tokens, source=source)
    finally:
        await backend.aclose()


@live.command()
def status(
    url: str = "http://127.0.0.1:8080",
    key: Annotated[str | None, typer.Option(envvar="SUFFICE_KEY")] = None,
    as_json: AsJson = False,
) -> None:
    """How a gateway's live certificates stand.

    Example: [bold]suffice live status --url http://localhost:8080[/bold]

    Options:
        url: The gateway's address.
        key: An admin key, if it asks.
    """
    code, state = asyncio.run(_state(url, key))
    if code != 200:
        raise InputError(f"{url} answers {code}: it may want an admin key (--key, SUFFICE_KEY)")
    found = state.get("live_certificates") or []
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        raise InputError("this gateway has no live certificate: suffice serve --safe … --cheap …")
    total = state.get("total") or {}
    # Of kinds of prompts those that have been met; the first stands for all where none was.
    met = [one for one in found if one.get("cluster") is None or one["shadowed"]]
    for one in met or found[:1]:
        for line in _standing(one, total):
            typer.echo(line)


async def _state(url: str, key: str | None) -> tuple[int, dict[str, Any]]:
    backend = OpenAIBackend(url, api_key=key)
    try:
        return await backend.post("/admin/state", None)
    except BackendError as error:
        raise InputError(
            f"no gateway answers at {url} ({error}): start one with suffice serve, or give --url"
        ) from None
    finally:
        await backend.aclose()


def _standing(one: dict[str, Any], total: dict[str, Any]) -> Sequence[str]:
    on = one["answering"]
    answers = one["safe"] if on is None else one["candidates"][on - 1]["policy"]
    doubt = "; differences seem to rise: more requests are shadowed" if one["doubted"] else ""
    only = " (shadow only: nothing is switched on)" if one["shadow_only"] else ""
    judge = one.get("judge")
    differently = "answered differently from" if judge is None else "answered worse than by"
    differ = "differ" if judge is None else "judged worse, or differ"
    if one.get("loss", "differ") != "differ":
        net = " (net)" if one["loss"] == "net" else ""
        differently, differ = f"right answers lost{net} against", "lost, or not labelled yet"
    lines = [
        f"{one['id']}: {answers} answers{only}{doubt}",
        f"promised: at most {100 * one['target']:g} % {differently} {one['safe']}, at "
        f"{100 * one['confidence']:g} % confidence",
        f"shadowed: {one['shadowed']:,} requests, now {100 * one['share']:g} % of them",
    ]
    if judge is not None:
        lines.append(
            f"{judge['model']} judges free text: certified below {100 * judge['needed']:.2f} %, "
            "for it may miss some"
        )
    for each in one["candidates"]:
        seen = "nothing compared yet"
        if each["n"]:
            seen = f"{100 * each['differ']:.1f} % of {each['n']:,} {differ}"
        evidence = 100 * max(0.0, each["log_wealth"]) / one["reach"]
        standing = "certified" if each["on"] else f"evidence {evidence:.0f} % of what certifies"
        lines.append(f"  {each['policy']}: {seen}; {standing}")
    share = one.get("cheap_cost_share")
    if share is not None:
        lines.append(
            f"by the compared requests a cheap answer costs {100 * share:.1f} % of a safe one: "
            f"{100 * (1 - share):.1f} % of what they cost today would be saved"
        )
    spent = one.get("spent")
    if spent:
        lines.append(
            f"shadow runs took {spent['prompt_tokens']:,} prompt and "
            f"{spent['completion_tokens']:,} completion tokens in the last 15 minutes"
        )
    if one.get("waiting") is not None:
        lines.append(
            f"labels: {one['labels']:,} counted; {one['waiting']:,} differences wait for one and "
            + ("count as lost" if one["unlabelled"] == "lost" else "are left out")
        )
    engine = one.get("engine") or {}
    if engine.get("saved_s") is not None:
        low, high = engine["interval_s"] or (None, None)
        between = "" if low is None else f" [{low:,.1f}, {high:,.1f}]"
        lines.append(
            f"engine time saved: {engine['saved_s']:,.1f} s{between} in the last 15 minutes, "
            f"against {one['safe']} answering everything; shadow runs took "
            f"{engine['shadow_s']:,.1f} s of it"
        )
    if total.get("saved") is not None:
        lines.append(f"saved against {one['safe']}: {100 * total['saved']:.1f} % in that time")
    lines += [f"  {event['said']}" for event in one["events"][-3:]]
    return lines
