"""The error behind an upstream's answer with an error status."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from suffice.backends.wire import error_message
from suffice.core.errors import UpstreamRejected

# Nobody means a longer Retry-After than this; inf and nan are no times either.
LONGEST_RETRY_AFTER_S = 7 * 86400.0


def rejection(
    upstream: str, status: int, data: bytes, headers: Mapping[str, str]
) -> UpstreamRejected:
    """The error behind an answer with an error status."""
    try:
        said = error_message(json.loads(data))
    except (ValueError, RecursionError):
        said = data[:200].decode(errors="replace") or "no reason given"
    return UpstreamRejected(
        f"{upstream} answered {status}: {said}",
        status=status,
        retry_after_s=_seconds(headers.get("retry-after")),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which may also be a date; None if it makes no sense."""
    if retry_after is None:
        return None
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):
            return None
    return max(0.0, wait_s) if wait_s <= LONGEST_RETRY_AFTER_S else None
