"""Prometheus text of a counters: names, help, and the bins as a histogram."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from suffice.core.version import __version__
from suffice.gateway.observe.model_counters import HISTOGRAMS, ModelSums
from suffice.ledger.latency_histogram import BOUNDS_S

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A metric's name, labels and help, by the counters's name for it.
_COUNTERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "requests": ("suffice_requests", ("arm", "ending", "status"), "Requests that are over."),
    "errors": (
        "suffice_errors", ("code", "model", "upstream"),
        "Error objects sent, by code and the model and upstream that were asked last.",
    ),
    "tokens": ("suffice_tokens", ("arm", "kind"), "Tokens of all samples."),
    "compared": (
        "suffice_compared", ("arm", "basis"),
        "Answers compared with the baseline, by how its cost is known.",
    ),
    "compared_cost": (
        "suffice_compared_cost", ("arm", "unit"),
        "Cost of the answers compared with the baseline, in USD or weighted tokens.",
    ),
    "baseline_cost": (
        "suffice_baseline_cost", ("arm", "unit"),
        "What the baseline would have cost for them; one minus the ratio is saved.",
    ),
    "samples": ("suffice_samples", ("status", "purpose"), "Samples sent to engines."),
    "usd": ("suffice_cost_usd", ("arm",), "Money, where prices are known."),
    "futile_votes": (
        "suffice_futile_votes", ("arm", "note"),
        "Votes that decided nothing: no answer could be compared, or no two were equal.",
    ),
    "escalated": ("suffice_escalated", ("arm",), "Answers that a policy gave up on."),
    "upstream_errors": ("suffice_upstream_errors", ("code",), "Faults of upstreams, by code."),
    "audits": (
        "suffice_audits", ("result",),
        "Certified answers that the baseline gave too: same, differ, or failed.",
    ),
    "shadows": (
        "suffice_shadows", ("result",),
        "Shadowed requests: the other way gave the same answer, another one, or failed.",
    ),
    "audit_tokens": (
        "suffice_audit_tokens", ("kind",), "Tokens drawn for audits and shadow runs alone.",
    ),
    "audit_usd": ("suffice_audit_cost_usd", (), "Money for them, where prices are known."),
    "feedback": ("suffice_feedback", ("verdict",), "Judgements received."),
}  # fmt: skip
_PHASES = "Seconds by phase of answered requests: queue, first_byte, total; overhead is a policy's."
_GAUGES = {
    "lambda": "Spending level of auto.",
    "running": "Requests that are being answered.",
    "waiting": "Requests that wait for a place.",
    "upstream_up": "Whether an upstream answered its last health check.",
    "certificate_switched_off": "Whether a monitor has raised the alarm: the baseline answers.",
    "live_candidate": "Candidate of a live certificate that answers; 0: the safe policy.",
    "live_shadowed": "Shadowed requests of a live certificate.",
    "live_share": "Share of requests that is shadowed now.",
    "live_differ": "Share of shadowed requests that differed, of the candidate next in turn.",
    "live_evidence": "Log wealth of that candidate over what certifies; 1 or more: certified.",
    "live_saved_engine_seconds": "Engine time saved against the safe policy answering everything, "
    "shadow runs taken off, over what the ledger holds.",
    "live_shadow_engine_seconds": "Engine time that shadow runs took.",
    "live_doubt": "Change detector over its alarm, the largest of what is switched on.",
    "promised_saved": "Share of the baseline's cost that a policy file promises to save.",
    "processes": "Processes of this gateway that are counted here.",
    "ledger_up": "Whether the ledger could be written last time.",
    "ledger_waiting_rows": "Rows in memory that are not acknowledged.",
    "ledger_flush_seconds": "Time of the last transaction.",
}
# Counted elsewhere than in the counters, and only rising.
_RISING = {
    "ledger_acknowledged_rows": "Rows on disk since the processes began.",
    "ledger_dropped_requests": "Requests that the ledger will never hold.",
}
_GEN_AI = {
    "gen_ai_client_operation_duration_seconds": "Time of one answer of a model.",
    "gen_ai_client_token_usage": "Tokens of one answer of a model.",
    "gen_ai_server_request_duration_seconds": "From a request's arrival to the end of its answer.",
    "gen_ai_server_time_to_first_token_seconds": "Time to the first token, of streamed answers.",
    "gen_ai_server_time_per_output_token_seconds": "Time per token after the first.",
}


class _Families(Collector):
    def __init__(self, counters: Mapping[str, Any], gauges: Mapping[Any, float]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Every family of metrics."""
        yield from _counters(self._counters["counters"])
        yield _histogram(self._counters["times"])
        yield from _models(self._counters["models"])
        yield from _gauges(self._gauges)
        build = GaugeMetricFamily("suffice_build_info", "This version.", labels=["version"])
        build.add_metric([__version__], 1.0)
        yield build


def exposition(counters: Mapping[str, Any], gauges: Mapping[Any, float]) -> bytes:
    """Text for Prometheus; a gauge's key is its name, or (name, label, value)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counters, gauges))
    return generate_latest(registry)


def _counters(counters: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
    by_name: dict[str, list[tuple[list[str], float]]] = defaultdict(list)
    for name, value in sorted(counters.items()):
        by_name[name[0]].append((list(name[2::2]), value))
    for counter, (metric, labels, text) in _COUNTERS.items():
        family = CounterMetricFamily(metric, text, labels=labels)
        for values, value in by_name.get(counter, []):
            family.add_metric(values, value)
        yield family


def _histogram(times: Mapping[str, list[float]]) -> Metric:
    family = HistogramMetricFamily("suffice_request_duration_seconds", _PHASES, labels=["phase"])
    for phase, sums in sorted(times.items()):
        family.add_metric([phase], buckets=_buckets(BOUNDS_S, sums), sum_value=sums[0])
    return family


def _buckets(bounds: Sequence[float], sums: Sequence[float]) -> list[tuple[str, float]]:
    """Bounds with how many lie at or below each; `sums` has the sum first, then counts by bin."""
    counts = [*sums[1:], *[0.0] * (len(bounds) + 2 - len(sums))]
    below, buckets = 0.0, []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        below += count
        buckets.append((bound, below))
    return buckets


def _models(sums: ModelSums) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "suffice_model_requests",
        "Samples, and answers that passed through, by the model that was asked.",
        labels=["model", "upstream", "ending"],
    )
    for at, count in sorted(sums.requests.items()):
        requests.add_metric(list(at), count)
    yield requests
    for name, bounds in HISTOGRAMS.items():
        kinds = ["gen_ai_token_type"] if name == "gen_ai_client_token_usage" else []
        family = HistogramMetricFamily(name, _GEN_AI[name], labels=["gen_ai_request_model", *kinds])
        for (histogram, model, kind), values in sorted(sums.bins.items()):
            if histogram == name:
                labels = [model, *([kind] if kinds else [])]
                family.add_metric(labels, buckets=_buckets(bounds, values), sum_value=values[0])
        yield family


def _gauges(gauges: Mapping[Any, float]) -> Iterator[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    rising = [
        CounterMetricFamily(f"suffice_{name}", text, value=gauges[name])
        for name, text in _RISING.items()
        if name in gauges
    ]
    gauges = {key: value for key, value in gauges.items() if key not in _RISING}
    for key, value in gauges.items():
        name, label, labelled = key if isinstance(key, tuple) else (key, "", "")
        family = families.get(name)
        if family is None:
            labels = [label] if label else []
            text = _GAUGES.get(str(name), str(name))
            family = families[name] = GaugeMetricFamily(f"suffice_{name}", text, labels=labels)
        family.add_metric([labelled] if label else [], value)
    yield from rising
    yield from families.values()
