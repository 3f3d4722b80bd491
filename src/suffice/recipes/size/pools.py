"""Prefill and decoding on replicas of their own, joined by a network.

A prompt is computed in the first pool, its cache is sent, and the second pool decodes: prompts no
longer interrupt running sequences, and each pool has the layout that suits it. Each pool is a
queue: prompts one behind the other, M/D/1 with as many servers as replicas take turns; sequences
side by side, as in `LoadCurve.under_rate` without prefills.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from suffice.architecture.counts import BYTES_PER_VALUE
from suffice.architecture.model import Model
from suffice.architecture.model_counts import sequence_bytes
from suffice.hardware import Hardware
from suffice.recipes.size.config import SizeConfig
from suffice.recipes.size.layouts import layouts
from suffice.recipes.size.result import Pool, TwoPools
from suffice.throughput.load_curve import ROOM_DEVIATIONS, LoadCurve, load_curve
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

MOST_REPLICAS = 4096
# Beyond this share of what a pool can carry, its queue grows without bound in bad minutes.
BUSIEST = 0.95


class _Half(NamedTuple):
    pool: Pool
    within_s: float  # time that the asked share of requests stays within


def two_pools(
    model: Model, hardware: Hardware, config: SizeConfig, workload: Workload
) -> TwoPools | None:
    """The pools with the fewest devices within the limits; None where there are none."""
    curves = list(_curves(model, hardware, config, workload))
    decode = _best(_decoding(serving, curve, config) for serving, curve in curves)
    if decode is None:
        return None
    step_s = decode.within_s
    found = None
    for serving, curve in curves:
        transfer_s = _transfer_s(model, serving, workload)
        half = _prefilling(serving, curve, config, transfer_s + step_s)
        if half is not None and (found is None or half.pool.devices < found[0].pool.devices):
            found = half, transfer_s
    if found is None:
        return None
    prefill, transfer_s = found
    usd = sum(p.serving.usd_per_hour * p.replicas for p in (prefill.pool, decode.pool))
    return TwoPools(
        prefill=prefill.pool,
        decode=decode.pool,
        ttft_s=prefill.within_s,
        tpot_s=decode.within_s,
        transfer_s=transfer_s,
        usd_per_hour=usd,
    )


def _curves(
    model: Model, hardware: Hardware, config: SizeConfig, workload: Workload
) -> Iterator[tuple[Serving, LoadCurve]]:
    smallest = None
    for serving in layouts(model, hardware, config):
        if smallest is not None and serving.devices > 4 * smallest:
            return
        curve = load_curve(model, serving, workload, random=True, within=config.within)
        if curve is not None:
            smallest = smallest or serving.devices
            yield serving, curve


def _best(halves: Iterable[_Half | None]) -> _Half | None:
    fitting = [half for half in halves if half is not None]
    return min(fitting, key=lambda h: (h.pool.devices, h.within_s), default=None)


def _prefilling(
    serving: Serving, curve: LoadCurve, config: SizeConfig, behind_s: float
) -> _Half | None:
    """The fewest replicas whose prompts are done in time; `behind_s` comes on top."""
    rate, limit = config.rate_per_s or 0.0, config.max_ttft_s or math.inf
    shared_s = curve.prefill_occupied_s
    fewest = max(1, math.ceil(rate * shared_s / BUSIEST))
    for replicas in range(fewest, min(fewest + 256, MOST_REPLICAS)):
        busy = rate * shared_s / replicas
        wait_s = (1.0 / replicas + curve.prompt_variation) / 2.0 * busy / (1.0 - busy) * shared_s
        tail_s = 0.0
        if busy > 1.0 - config.within and wait_s > 0.0:
            tail_s = wait_s / busy * math.log(busy / (1.0 - config.within))
        total_s = curve.longest_prefill_s + max(tail_s, 0.0) + behind_s
        if total_s <= limit:
            return _Half(Pool(serving=serving, replicas=replicas, busy=busy), total_s)
    return None


def _decoding(serving: Serving, curve: LoadCurve, config: SizeConfig) -> _Half | None:
    """The fewest replicas that decode at the limit's pace."""
    rate, limit = config.rate_per_s or 0.0, config.max_tpot_s or math.inf
    steps = (float(curve.scenario.output_tokens) - 1.0) / float(curve.scenario.accepted)
    pace_s = curve.step_s / float(curve.scenario.accepted)
    rates = np.maximum.accumulate(curve.batch / np.maximum(steps * curve.step_s, 1e-12))
    fewest = max(1, math.ceil(rate / float(rates[-1])))
    deviations = NormalDist().inv_cdf(config.within)
    for replicas in range(fewest, min(fewest + 256, MOST_REPLICAS)):
        each = rate / replicas
        if each >= rates[-1]:
            continue
        running = float(np.interp(each, np.concatenate([[0.0], rates]),
                                  np.concatenate([[0.0], curve.batch])))  # fmt: skip
        spread = math.sqrt(max(running, 0.25) / replicas)
        high = running + deviations * spread + 1.0 / replicas
        within_s = float(np.interp(high, curve.batch, pace_s))
        room = running + ROOM_DEVIATIONS * spread <= curve.largest_batch
        if room and within_s <= limit:
            pool = Pool(serving=serving, replicas=replicas, busy=each / float(rates[-1]))
            return _Half(pool, within_s)
    return None


def _transfer_s(model: Model, serving: Serving, workload: Workload) -> float:
    """A prompt's cache over the network, by all devices of the replica that computed it."""
    hardware = serving.hardware
    value_bytes = BYTES_PER_VALUE[serving.kv_dtype_of(model)]
    cache = sequence_bytes(model, round(workload.mean_input_tokens), value_bytes)
    return cache / (hardware.network_bytes_per_s * serving.devices) + hardware.network_latency_s
