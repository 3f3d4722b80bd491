from __future__ import annotations

import json
import logging
import logging.config

import pytest

from suffice.gateway.config_sections import LogConfig, TracesConfig
from suffice.gateway.observe.logs import JsonFormatter, log_request, logging_settings
from suffice.gateway.observe.tracing import OtelSpans, parse_parent
from suffice.ledger.records import Entry, RequestRow, SampleRow

ROW = RequestRow(
    id="req-1", started_s=1000.0, endpoint="/v1/chat/completions", model="m", arm="esc",
    status=200, completion_tokens=30, baseline="single@m", compared_cost=30.0,
    baseline_cost=120.0, cost_unit="tokens", saving_basis="measured", elapsed_s=0.5, why="because",
    trace_id="0af7651916cd43dd8448eb211c80319c",
)  # fmt: skip
SAMPLE = SampleRow(
    request_id="req-1", choice=0, sample=0, model="m", purpose="answer", status="finished",
    prompt_tokens=3, completion_tokens=30, elapsed_s=0.25,
)  # fmt: skip


@pytest.mark.parametrize("format", ["json", "text", "none"])
def test_a_request_is_one_line(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = {n: logging.getLogger(n).__dict__.copy() for n in ("suffice", "suffice.requests")}
    try:
        logging.config.dictConfig(logging_settings(LogConfig(format=format)))  # type: ignore[arg-type]
        log_request(ROW)
        logging.getLogger("suffice.gateway").warning("a\nb")
        lines = capfd.readouterr().err.splitlines()
    finally:
        for name, state in before.items():
            logging.getLogger(name).__dict__.update(state)
        logging.getLogger("suffice").manager._clear_cache()  # type: ignore[attr-defined]
    if format == "none":
        assert lines == []
    elif format == "json":
        request, warning = map(json.loads, lines)
        assert request["id"] == "req-1"
        assert request["completion_tokens"] == 30
        assert "why" not in request
        assert (warning["level"], warning["message"]) == ("warning", "a\nb")
    else:
        assert lines[0].endswith("req-1 /v1/chat/completions 200 esc 30 tokens 75% saved 0.500 s")


def test_an_exception_stays_on_one_json_line() -> None:
    try:
        raise ValueError("x")
    except ValueError:
        import sys

        record = logging.LogRecord("suffice", 40, "f", 1, "broke", (), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: x" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
         ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", None),
        ("garbage", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_parents_are_read(header: str | None, found: tuple[str, str] | None) -> None:
    assert parse_parent(header) == found


def test_a_request_and_its_samples_become_spans() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    spans = OtelSpans(TracesConfig(endpoint="http://unused"), exporter)
    entry = Entry(request=ROW, samples=(SAMPLE,))
    spans.send(entry, None)
    spans.send(entry, ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"))
    spans.close()
    first, root, second, child = exporter.get_finished_spans()
    assert root.context is not None
    assert f"{root.context.trace_id:032x}" == ROW.trace_id  # the id that the log has
    assert root.parent is None
    assert first.parent is not None
    assert first.parent.span_id == root.context.span_id
    assert child.parent is not None
    assert f"{child.parent.span_id:016x}" == "b7ad6b7169203331"
    assert second.end_time - second.start_time == 250_000_000  # type: ignore[operator]
    assert root.attributes is not None
    assert root.attributes["gen_ai.usage.output_tokens"] == 30
    assert "because" not in str(root.attributes)
