"""A workload out of the gateway's ledger: its lengths, and the rate of the busiest time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from suffice.core.errors import InputError
from suffice.ledger.calls import EngineCall, calls_since
from suffice.ledger.store import open_existing
from suffice.throughput.workload import RequestClass, Workload

# Calls are grouped by this many quantiles of their prompts, and each by as many of their outputs.
QUANTILES = 6
# The rate is that of the busiest window of this length.
WINDOW_S = 300.0
_SQLITE = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What engines were asked for: lengths, the highest rate, and since when."""

    workload: Workload
    peak_per_s: float
    mean_per_s: float
    calls: int
    span_s: float


def is_ledger(source: str) -> bool:
    """Whether `source` names a ledger: a URL of a database or a file that SQLite wrote."""
    if "://" in source:
        return True
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def ledger_traffic(url: str, *, since_s: float = 0.0, model: str | None = None) -> Traffic:
    """Traffic of the ledger at `url` since a Unix time, of one model's calls or of all."""
    # Only who sizes from a ledger waits for it to be imported.
    with closing(open_existing(url)) as store:
        calls = calls_since(store, since_s, model)
        if not calls and model is not None:
            known = Counter(c.model or "unnamed" for c in calls_since(store, since_s))
            names = ", ".join(name for name, _ in known.most_common(5))
            raise InputError(
                f"the ledger has no calls of {model!r}"
                + (f"; it has: {names}" if names else " and of no other model")
            )
    if not calls:
        raise InputError("the ledger has no requests with counted tokens yet")
    return traffic_of(calls)


def traffic_of(calls: Sequence[EngineCall]) -> Traffic:
    """Traffic of calls in order of time."""
    span_s = calls[-1].at_s - calls[0].at_s
    if span_s < WINDOW_S:
        # Too short for windows: all of it is one, of a second at least.
        peak = len(calls) / max(span_s, 1.0)
        mean = peak
    else:
        peak = _busiest(calls) / WINDOW_S
        mean = len(calls) / span_s
    prompts = sum(max(call.prompt_tokens, 1) for call in calls)
    cached = sum(min(call.cached_tokens, call.prompt_tokens) for call in calls)
    return Traffic(
        workload=Workload(
            classes=tuple(_classes(calls)), name="ledger", cached_share=cached / prompts
        ),
        peak_per_s=peak,
        mean_per_s=mean,
        calls=len(calls),
        span_s=span_s,
    )


def _busiest(calls: Sequence[EngineCall]) -> int:
    """The most calls that came within one window, wherever it begins."""
    first, most = 0, 0
    for last, call in enumerate(calls):
        while call.at_s - calls[first].at_s >= WINDOW_S:
            first += 1
        most = max(most, last - first + 1)
    return most


def _classes(calls: Sequence[EngineCall]) -> list[RequestClass]:
    """Groups of like lengths, each at its mean prompt and output, which keeps both sums."""
    by_prompt = sorted(calls, key=lambda call: call.prompt_tokens)
    groups: dict[tuple[int, int], list[EngineCall]] = defaultdict(list)
    for i, part in enumerate(_parts(by_prompt)):
        by_output = sorted(part, key=lambda call: call.completion_tokens)
        for j, cell in enumerate(_parts(by_output)):
            groups[i, j].extend(cell)
    return [
        RequestClass(
            input_tokens=max(1, round(sum(c.prompt_tokens for c in cell) / len(cell))),
            output_tokens=max(1, round(sum(c.completion_tokens for c in cell) / len(cell))),
            weight=float(len(cell)),
        )
        for cell in groups.values()
        if cell
    ]


def _parts(calls: Sequence[EngineCall]) -> list[Sequence[EngineCall]]:
    """Cut into equal parts, as many as there are quantiles or calls."""
    parts = min(QUANTILES, len(calls))
    edges = [round(i * len(calls) / parts) for i in range(parts + 1)] if parts else [0]
    return [calls[a:b] for a, b in pairwise(edges)]
