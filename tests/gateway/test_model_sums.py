"""Counts by model: told apart, bounded, and summed over processes."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from suffice.gateway.observe.counters import Counters, merged
from suffice.gateway.observe.model_counters import MOST_MODELS, ModelSums, merged_models
from suffice.gateway.observe.prometheus import exposition
from suffice.ledger.records import Entry, RequestRow, SampleRow


def passed(model: str, **row: Any) -> Entry:
    request = RequestRow(id="r", started_s=1.0, endpoint="/v1/chat/completions", **row)
    return Entry(request=request, samples=(), text=None)


def drawn(model: str, status: str = "finished") -> Entry:
    sample = SampleRow(
        request_id="r", choice=0, sample=0, model=model, purpose="answer", status=status,
        prompt_tokens=10, completion_tokens=5, ttft_s=0.2, elapsed_s=1.0,
    )  # fmt: skip
    request = RequestRow(id="r", started_s=1.0, endpoint="/v1/chat/completions", elapsed_s=1.0)
    return Entry(request=request, samples=(sample,), text=None)


def test_which_model_and_upstream_fails_is_told() -> None:
    tally = Counters()
    tally.count(passed("a", ending="failed", status=500), model="a", upstream="one")
    tally.count(passed("b", completion_tokens=3, elapsed_s=0.5), model="b", upstream="two")
    tally.count(drawn("b", "failed"), sampled_by={"b": "two"})
    tally.count(passed("b", ending="failed", error_code="upstream_timeout"), sampled_by={"b": "c"})
    text = exposition(merged([json.loads(json.dumps(tally.shown()))]), {}).decode()
    for line in (
        'suffice_model_requests_total{ending="failed",model="a",upstream="one"} 1.0',
        'suffice_model_requests_total{ending="answered",model="b",upstream="two"} 1.0',
        'suffice_model_requests_total{ending="failed",model="b",upstream="two"} 1.0',
        'suffice_errors_total{code="upstream_timeout",model="b",upstream="c"} 1.0',
    ):
        assert line in text


def test_time_per_token_leaves_the_first_out() -> None:
    sums = ModelSums()
    sums.count(drawn("m"), model=None, asked={"m": "u"})
    each = sums.bins["gen_ai_server_time_per_output_token_seconds", "m", ""]
    assert each[0] == (1.0 - 0.2) / 4
    assert sum(each[1:]) == 1


def test_names_that_clients_make_up_are_bounded() -> None:
    sums = ModelSums()
    for number in range(3 * MOST_MODELS):
        sums.count(passed(f"m{number}"), model=f"m{number}", asked={f"m{number}": "u"})
    assert len({model for model, _, _ in sums.requests}) == MOST_MODELS + 1
    assert sums.requests["other", "u", "answered"] == 2 * MOST_MODELS


def test_processes_add_up() -> None:
    sums = ModelSums()
    sums.count(drawn("m"), model=None, asked={"m": "u"})
    both = merged_models(iter([sums.shown(), sums.shown(), {}]))
    assert both.requests == {("m", "u", "finished"): 2.0}
    assert both.bins["gen_ai_client_token_usage", "m", "output"][0] == 10


def test_the_page_is_what_prometheus_reads() -> None:
    """By its own parser: counters end in _total, times in _seconds, buckets rise."""
    tally = Counters()
    tally.refuse(401, "invalid_api_key")
    tally.count(
        passed("m", stream=1, first_byte_s=0.5, elapsed_s=1.0), 0.1, model="m", upstream="u"
    )
    tally.count(drawn("m"), sampled_by={"m": "u"})
    gauges: dict[Any, float] = {"running": 1.0, "ledger_dropped_requests": 2.0}
    text = exposition(merged([tally.shown()]), gauges).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in families.items():
        assert family.type in ("counter", "gauge", "histogram"), name
        if family.type == "counter":
            assert all(sample.name == f"{name}_total" for sample in family.samples)
        if family.type == "histogram":
            assert name.endswith("_seconds") or name == "gen_ai_client_token_usage"
            last: dict[Any, float] = {}
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    at = tuple(v for label, v in sample.labels.items() if label != "le")
                    assert sample.value >= last.get(at, 0.0)
                    last[at] = sample.value
    assert families["suffice_ledger_dropped_requests"].type == "counter"
    wanted = {"client_token_usage", "server_time_to_first_token_seconds",
              "server_time_per_output_token_seconds",
              "server_request_duration_seconds"}  # fmt: skip
    assert {f"gen_ai_{name}" for name in wanted} <= set(families)
