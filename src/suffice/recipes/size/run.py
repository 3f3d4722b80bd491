"""Size a deployment: every layout on every machine, the cheapest that meets the limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from suffice.architecture.catalog import load_model
from suffice.architecture.counts import BYTES_PER_VALUE
from suffice.architecture.model import Model
from suffice.architecture.model_counts import sequence_bytes, weight_bytes
from suffice.core.errors import DoesNotFit
from suffice.core.quantities import format_bytes
from suffice.hardware import Hardware, hardware_names, load_hardware
from suffice.recipes.size.config import SizeConfig
from suffice.recipes.size.launch import launch_command
from suffice.recipes.size.layouts import layouts
from suffice.recipes.size.pools import two_pools
from suffice.recipes.size.queueing import simulate_load
from suffice.recipes.size.result import Confirmed, Floor, Sized, SizeResult, Unfit
from suffice.throughput.analytic import device_of, scenario
from suffice.throughput.formulas import capacity
from suffice.throughput.load_curve import Latency, LoadCurve, load_curve
from suffice.throughput.notes import notes_of
from suffice.throughput.roofline import roofline
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

MOST_REPLICAS = 100_000
# Requests of a simulation: enough to fill the replicas several times over.
FEWEST_REQUESTS, MOST_REQUESTS = 2_000, 20_000
# Replicas that are simulated at most: more of them do as these at their share of the rate.
MOST_SIMULATED = 8
# A simulation may ask for this many replicas more than the formulas.
MOST_MORE = 8


def size(config: SizeConfig) -> SizeResult:
    """Answers by machine, those that meet the limits first, by devices' price per hour.

    Raises DoesNotFit if the model fits on none of them.
    """
    model = config.model if isinstance(config.model, Model) else load_model(config.model)
    answers, unfit = [], []
    for hardware in machines(config):
        found = size_on(model, hardware, config)
        if isinstance(found, Unfit):
            unfit.append(found)
        else:
            answers.append(found)
    if not answers:
        raise DoesNotFit("; ".join(f"{u.hardware}: {u.reason}" for u in unfit[:3]))
    answers.sort(key=_order)
    return SizeResult(config=config, model=model, answers=tuple(answers), unfit=tuple(unfit))


def _order(answer: Sized) -> tuple[bool, float]:
    return (not answer.meets, answer.usd_per_million_tokens)


def machines(config: SizeConfig) -> list[Hardware]:
    """The machines to try."""
    asked = config.hardware
    if asked is None:
        every = [load_hardware(name) for name in hardware_names()]
        return [machine for machine in every if machine.kind == "gpu"]
    several = asked if isinstance(asked, tuple) else (asked,)
    return [one if isinstance(one, Hardware) else load_hardware(one) for one in several]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One layout at the load that it would carry."""

    serving: Serving
    curve: LoadCurve
    replicas: int
    latency: Latency
    batch: float
    rate_per_s: float  # of all replicas
    meets: bool

    @property
    def devices(self) -> int:
        return self.serving.devices * self.replicas

    @property
    def usd_per_request(self) -> float:
        return self.serving.usd_per_hour * self.replicas / (3600.0 * self.rate_per_s)


def size_on(model: Model, hardware: Hardware, config: SizeConfig) -> Sized | Unfit:
    """The best layout on one machine, or why there is none."""
    workload = config.requests
    found: list[_Candidate] = []
    smallest: int | None = None
    tried = False
    for serving in layouts(model, hardware, config):
        tried = True
        # Larger replicas than four times the smallest that fits only cost more.
        if smallest is not None and serving.devices > max(4 * smallest, hardware.node_devices):
            break
        curve = load_curve(
            model, serving, workload, random=config.rate_per_s is not None, within=config.within
        )
        if curve is None:
            continue
        smallest = smallest or serving.devices
        candidate = _under_limits(serving, curve, config)
        if candidate is not None:
            found.append(candidate)
    if not found:
        return Unfit(hardware=hardware.name, reason=_why(model, hardware, config, tried=tried))
    best = min(found, key=lambda c: _preferred(c, config))
    return _answer(model, best, config, workload)


def _preferred(c: _Candidate, config: SizeConfig) -> tuple[float, ...]:
    """Smaller is better: within the limits, then fewer devices or cheaper, then faster."""
    if not c.meets:
        miss = max(
            c.latency.ttft_within_s / (config.max_ttft_s or math.inf),
            c.latency.tpot_within_s / (config.max_tpot_s or math.inf),
        )
        return (1.0, miss, c.usd_per_request)
    limited = config.max_ttft_s is not None or config.max_tpot_s is not None
    if config.rate_per_s is not None:
        return (0.0, c.devices, c.latency.tpot_s)
    if limited or config.devices is not None:
        return (0.0, c.usd_per_request, c.devices)
    return (0.0, c.devices, c.usd_per_request)


def _under_limits(serving: Serving, curve: LoadCurve, config: SizeConfig) -> _Candidate | None:
    if config.rate_per_s is None:
        return _at_most(serving, curve, config)
    return _for_rate(serving, curve, config)


def _inside(latency: Latency, config: SizeConfig) -> bool:
    return latency.ttft_within_s <= (config.max_ttft_s or math.inf) and (
        latency.tpot_within_s <= (config.max_tpot_s or math.inf)
    )


def _at_most(serving: Serving, curve: LoadCurve, config: SizeConfig) -> _Candidate:
    """The most requests in flight whose mean times stay within the limits; one at least."""
    ttft = curve.ttft_s <= (config.max_ttft_s or math.inf)
    tpot = curve.tpot_s <= (config.max_tpot_s or math.inf)
    inside = ttft & tpot
    # A longer queue never helps: the last row before the first that misses.
    last = len(inside) - 1 if inside.all() else max(int(inside.argmin()) - 1, 0)
    times = Latency(
        ttft_s=float(curve.ttft_s[last]),
        tpot_s=float(curve.tpot_s[last]),
        ttft_within_s=float(curve.ttft_s[last]),
        tpot_within_s=float(curve.tpot_s[last]),
        running=float(curve.batch[last]),
    )
    rate = float(curve.rate_per_s[last])
    return _Candidate(serving, curve, 1, times, times.running, rate, bool(inside[last]))


def _for_rate(serving: Serving, curve: LoadCurve, config: SizeConfig) -> _Candidate | None:
    """The fewest replicas within the limits; where none are, those that the load takes."""
    rate = config.rate_per_s or 0.0

    def carried(replicas: int) -> Latency | None:
        return curve.under_rate(rate / replicas, replicas=replicas, within=config.within)

    def good(replicas: int) -> bool:
        found = carried(replicas)
        return found is not None and _inside(found, config)

    fewest = max(1, math.ceil(rate / curve.most_per_s))
    replicas = _first(good, fewest)
    meets = replicas is not None
    if replicas is None:
        replicas = _first(lambda n: carried(n) is not None, fewest)
    latency = None if replicas is None else carried(replicas)
    if replicas is None or latency is None:
        return None
    return _Candidate(serving, curve, replicas, latency, latency.running, rate, meets)


def _first(good: Callable[[int], bool], fewest: int) -> int | None:
    """The smallest number from `fewest` on for which `good` holds, and holds from there on."""
    low, high = fewest - 1, fewest
    while not good(high):
        low, high = high, max(2 * high, high + 1)
        if high > max(MOST_REPLICAS, 4 * fewest) or high > 64 * fewest + 64:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def _answer(model: Model, best: _Candidate, config: SizeConfig, workload: Workload) -> Sized:
    confirmed = None
    if config.rate_per_s is not None and best.meets:
        best, confirmed = _confirmed(best, config, workload)
    serving, latency = best.serving, best.latency
    outputs = workload.mean_output_tokens
    tokens_per_s = best.rate_per_s * outputs
    usd_per_hour = serving.usd_per_hour * best.replicas
    context = config.context or workload.longest_tokens
    kv_tokens = room_for_tokens(model, serving, context)
    value_bytes = BYTES_PER_VALUE[serving.kv_dtype_of(model)]
    device = best.curve.device
    sized = Sized(
        serving=serving,
        replicas=best.replicas,
        weight_bytes=float(device.weight_bytes[0]) / serving.pipeline_parallel,
        kv_bytes=sequence_bytes(model, context, value_bytes),
        kv_tokens=kv_tokens,
        memory_bytes=best.curve.memory_bytes,
        largest_batch=best.curve.largest_batch,
        batch=best.batch,
        rate_per_s=best.rate_per_s,
        output_tokens_per_s=tokens_per_s,
        total_tokens_per_s=best.rate_per_s * (outputs + workload.mean_input_tokens),
        ttft_s=latency.ttft_s,
        tpot_s=latency.tpot_s,
        ttft_within_s=latency.ttft_within_s,
        tpot_within_s=latency.tpot_within_s,
        usd_per_hour=usd_per_hour,
        usd_per_million_tokens=usd_per_hour / 3600.0 / tokens_per_s * 1e6,
        floor=_floor(model, best, config, workload),
        meets=best.meets,
        reason=None if best.meets else _missed(best, config),
        confirmed=confirmed,
        notes=tuple(notes_of(model, serving, workload)),
    )
    pools = None
    if config.disaggregated:
        pools = two_pools(model, serving.hardware, config, workload)
    return replace(sized, pools=pools, command=launch_command(model, sized, config))


def _confirmed(
    best: _Candidate, config: SizeConfig, workload: Workload
) -> tuple[_Candidate, Confirmed]:
    """Replicas that a simulation finds enough, from the formulas' number on."""
    rate = config.rate_per_s or 0.0
    by_formula = best.replicas
    for replicas in range(by_formula, by_formula + MOST_MORE):
        latency = best.curve.under_rate(rate / replicas, replicas=replicas, within=config.within)
        if latency is None:
            continue
        best = replace(best, replicas=replicas, latency=latency, batch=latency.running)
        found = confirm(best, config, workload, by_formula)
        if min(found.share_within_ttft, found.share_within_tpot) >= config.within:
            break
    return best, found


def confirm(best: _Candidate, config: SizeConfig, workload: Workload, by_formula: int) -> Confirmed:
    """A simulation of the candidate's replicas at its rate."""
    simulated = min(best.replicas, MOST_SIMULATED)
    filling = 8 * best.batch * simulated
    requests = int(min(max(FEWEST_REQUESTS, filling), MOST_REQUESTS))
    found = simulate_load(
        best.curve,
        workload,
        rate_per_s=best.rate_per_s * simulated / best.replicas,
        replicas=simulated,
        requests=requests,
        seed=config.seed,
    )
    ttft_share, tpot_share = found.within(config.max_ttft_s, config.max_tpot_s)
    ttft_s, tpot_s = found.quantiles(config.within)
    return Confirmed(
        replicas=best.replicas,
        replicas_by_formula=by_formula,
        requests=requests,
        share_within_ttft=ttft_share,
        share_within_tpot=tpot_share,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
    )


def room_for_tokens(model: Model, serving: Serving, context: int) -> int:
    """Tokens of KV cache that a replica holds, as sequences of `context` tokens."""
    lengths = Workload.single(max(context - 1, 1), 1)
    device = device_of(model, serving, lengths, planned_output=1.0)
    room = capacity(device, scenario(serving, lengths, None))
    per_sequence = float(sum(float(c.read_bytes[0]) * c.held for c in device.caches))
    per_sequence += float(device.state_bytes[0])
    if per_sequence <= 0.0 or not math.isfinite(float(room.largest_batch[0])):
        return 0
    return int(room.largest_batch[0] * context)


def _floor(model: Model, best: _Candidate, config: SizeConfig, workload: Workload) -> Floor:
    serving = best.serving
    running = max(1, round(best.batch))
    bound = roofline(model, serving, workload, running)
    full = roofline(model, serving, workload, min(best.curve.largest_batch, serving.max_batch))
    usable = serving.hardware.memory_bytes * serving.memory_fraction
    fewest = math.ceil(weight_bytes(model, serving.formats_of(model)) / usable)
    if config.rate_per_s is not None:
        per_device = full.output_tokens_per_s / serving.devices
        fewest = max(
            fewest, math.ceil(config.rate_per_s * workload.mean_output_tokens / per_device)
        )
    return Floor(
        ttft_s=bound.prefill_s,
        tpot_s=bound.decode_step_s / serving.speculative,
        output_tokens_per_s=bound.output_tokens_per_s * best.replicas,
        devices=fewest,
    )


def _missed(best: _Candidate, config: SizeConfig) -> str:
    """Which limit is out of reach, and by how much."""
    latency, parts = best.latency, []
    for name, limit, found in (
        ("TTFT", config.max_ttft_s, latency.ttft_within_s),
        ("TPOT", config.max_tpot_s, latency.tpot_within_s),
    ):
        if limit is not None and found > limit:
            parts.append(f"{name} is {found * 1e3:.3g} ms at best, the limit {limit * 1e3:.3g} ms")
    return "; ".join(parts) or "no number of replicas keeps the limits"


def _why(model: Model, hardware: Hardware, config: SizeConfig, *, tried: bool) -> str:
    if not tried:
        asked = config.tensor_parallel or config.devices
        return f"no layout of {asked} devices splits this model" if asked else "no layout splits it"
    serving = Serving(hardware=hardware, weight_dtype=config.weight_dtype)
    weights = weight_bytes(model, serving.formats_of(model))
    return (
        f"{format_bytes(weights)} of weights and one sequence do not fit on "
        f"{config.devices or 'up to 64'} x {format_bytes(hardware.memory_bytes)}"
    )
