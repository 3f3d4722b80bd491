"""OpenTelemetry: a span per request, a child per sample, made after the fact from the rows.

Nothing is done for them on the response path. The W3C header `traceparent` of the request becomes
the parent. Attributes follow the semantic conventions for generative AI; none holds any text.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Protocol, cast

from suffice.core.errors import MissingExtra
from suffice.gateway.config_sections import TracesConfig
from suffice.ledger.records import Entry, RequestRow, SampleRow

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
NANOSECONDS = 1e9


def parse_parent(header: str | None) -> tuple[str, str] | None:
    """(trace id, span id) of a `traceparent` header; None without a valid one."""
    match = _PARENT.fullmatch(header) if header else None
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return match[1], match[2]


def new_trace_id() -> str:
    """A random trace id."""
    return secrets.token_hex(16)


class Spans(Protocol):
    """Where finished requests become spans."""

    def send(self, entry: Entry, parent: tuple[str, str] | None) -> None:
        """Hand over one request; must not block."""
        ...

    def close(self) -> None:
        """Send what is waiting."""
        ...


class OtelSpans:
    """Spans through OpenTelemetry's SDK."""

    def __init__(self, config: TracesConfig, exporter: Any = None) -> None:
        """`exporter` takes the place of OTLP over HTTP to `config.endpoint`."""
        try:
            from opentelemetry import trace  # noqa: PLC0415 - the extra otel
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtra.of(error.name or "opentelemetry", "otel", "traces") from None
        self._trace = trace
        resource = Resource.create({"service.name": config.service_name})
        self._ids: Any = RandomIdGenerator()
        self._wanted: int | None = None  # the trace id that the log has already told
        self._provider = TracerProvider(resource=resource, id_generator=cast(Any, self))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _otlp(config)))
        self._tracer = self._provider.get_tracer("suffice")

    def generate_span_id(self) -> int:
        """As the SDK asks for it."""
        return int(self._ids.generate_span_id())

    def generate_trace_id(self) -> int:
        """As the SDK asks for it: the request's own."""
        return self._wanted or int(self._ids.generate_trace_id())

    def is_trace_id_random(self) -> bool:
        """As the SDK asks for it."""
        return True

    def send(self, entry: Entry, parent: tuple[str, str] | None) -> None:
        """A span for the request and one for every sample."""
        row = entry.request
        self._wanted = int(row.trace_id, 16) if row.trace_id else None
        began_ns = int(row.started_s * NANOSECONDS)
        span = self._tracer.start_span(
            f"chat {row.served_model or row.model or ''}".strip(),
            context=self._context(row.trace_id, parent),
            kind=self._trace.SpanKind.SERVER,
            start_time=began_ns,
            attributes=_request_attributes(row),
        )
        if row.ending == "failed":
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, row.error_code or ""))
        inside = self._trace.set_span_in_context(span)
        for sample in entry.samples:
            child = self._tracer.start_span(
                f"sample {sample.sample}",
                context=inside,
                kind=self._trace.SpanKind.CLIENT,
                start_time=began_ns,
                attributes=_sample_attributes(sample),
            )
            child.end(began_ns + int(sample.elapsed_s * NANOSECONDS))
        span.end(began_ns + int(row.elapsed_s * NANOSECONDS))

    def _context(self, trace_id: str | None, parent: tuple[str, str] | None) -> Any:
        if trace_id is None or parent is None:
            return None
        known = self._trace.SpanContext(
            trace_id=int(trace_id, 16),
            span_id=int(parent[1], 16),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(1),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(known))

    def close(self) -> None:
        """Send what is waiting."""
        self._provider.shutdown()


def _otlp(config: TracesConfig) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise MissingExtra.of(error.name or "opentelemetry", "otel", "traces") from None
    return OTLPSpanExporter(endpoint=config.endpoint)


def _request_attributes(row: RequestRow) -> dict[str, Any]:
    return _known(
        {
            "gen_ai.operation.name": "chat" if "chat" in row.endpoint else "text_completion",
            "gen_ai.request.model": row.model,
            "gen_ai.response.model": row.served_model,
            "gen_ai.response.id": row.id,
            "gen_ai.usage.input_tokens": row.prompt_tokens,
            "gen_ai.usage.output_tokens": row.completion_tokens,
            "http.response.status_code": row.status,
            "error.type": row.error_code,
            "suffice.arm": row.arm,
            "suffice.key_id": row.key_id,
            "suffice.samples": row.samples,
            "suffice.samples_cancelled": row.samples_cancelled,
            "suffice.baseline": row.baseline,
            "suffice.saved": row.saved,
            "suffice.saving_basis": row.saving_basis,
            "suffice.confidence": row.confidence,
            "suffice.first_byte_s": row.first_byte_s,
            "suffice.overhead_s": row.overhead_s,
        }
    )


def _sample_attributes(row: SampleRow) -> dict[str, Any]:
    return _known(
        {
            "gen_ai.request.model": row.model,
            "gen_ai.usage.input_tokens": row.prompt_tokens,
            "gen_ai.usage.output_tokens": row.completion_tokens,
            "suffice.purpose": row.purpose,
            "suffice.status": row.status,
            "suffice.ttft_s": row.ttft_s,
            "suffice.confidence": row.confidence,
        }
    )


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
