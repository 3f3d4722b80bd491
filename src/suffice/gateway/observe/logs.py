"""The log: one line per event on standard error, as text or as JSON; never what people wrote."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from suffice.core.savings import saved_in_words
from suffice.gateway.config_sections import LogConfig
from suffice.ledger.records import RequestRow

requests_log = logging.getLogger("suffice.requests")

# Of a request's row, what a line holds. Nothing here was written by a user, but for the model's
# name and the request's own id, which a client chooses.
_FIELDS = (
    "id", "endpoint", "model", "served_model", "arm", "key_id", "ending", "status", "error_code",
    "stream", "prompt_tokens", "completion_tokens", "usage_source", "samples", "samples_cancelled",
    "baseline", "compared_cost", "baseline_cost", "cost_unit", "saving_basis", "confidence",
    "escalated", "usd", "first_byte_s", "elapsed_s", "overhead_s", "trace_id",
    "request_id",
)  # fmt: skip


class JsonFormatter(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": _when(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        if fields is None:
            line["message"] = record.getMessage()
        else:
            line |= {"message": "request", **fields}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        text = f"{_when(record.created)} {record.levelname.lower():<7} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _when(created_s: float) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s))
    return f"{seconds}.{int(created_s * 1000) % 1000:03d}Z"


def log_request(row: RequestRow) -> None:
    """A line for a request that is over."""
    if not requests_log.isEnabledFor(logging.INFO):
        return
    fields = {name: getattr(row, name) for name in _FIELDS if getattr(row, name) is not None}
    requests_log.info("%s", _Text(row), extra={"fields": fields})


class _Text:
    """A request's line for people, made only when it is printed."""

    def __init__(self, row: RequestRow) -> None:
        self._row = row

    def __str__(self) -> str:
        row = self._row
        parts = [row.id, row.endpoint, str(row.status or row.ending), row.arm or "-"]
        if row.completion_tokens is not None:
            parts.append(f"{row.completion_tokens} tokens")
        if row.saved is not None:
            parts.append(saved_in_words(row.saved))
        if row.error_code:
            parts.append(row.error_code)
        return " ".join([*parts, f"{row.elapsed_s:.3f} s"])


def logging_settings(log: LogConfig, *, quiet: bool = False) -> dict[str, Any]:
    """Settings for `logging.config.dictConfig`, for our loggers and the server's alike."""
    formatter = JsonFormatter if log.format == "json" else TextFormatter
    level = "WARNING" if quiet else log.level.upper()
    handlers = [] if log.format == "none" else ["stderr"]
    wanted = level if log.requests and not quiet else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "stream": "ext://sys.stderr",
            },
            "none": {"class": "logging.NullHandler"},
        },
        "loggers": {
            name: {"handlers": handlers or ["none"], "level": level_of, "propagate": False}
            for name, level_of in (
                ("suffice", level),
                ("suffice.requests", wanted),
                ("uvicorn", "WARNING" if level == "INFO" else level),
                ("uvicorn.error", "WARNING" if level == "INFO" else level),
                ("uvicorn.access", "CRITICAL"),  # suffice.requests says more
            )
        },
    }
