"""Who answered, and what failed: sums that the dashboard opens; answers are plain JSON values."""

from __future__ import annotations

from statistics import median
from typing import Any

from suffice.core.completions import Usage
from suffice.core.prices import Prices
from suffice.ledger.store import Store

Json = dict[str, Any]
# Failures of one kind that are named one by one.
SHOWN_FAILURES = 5
MOST_TIMES = 20_000


def models_since(store: Store, since_s: float, prices: Prices) -> list[Json]:
    """By model: requests that it answered, its samples and tokens, and what they cost (USD).

    A passed-through request has no samples of its own: its tokens are the request's. `usd` is None
    where the model has no price.
    """
    execute = store.database.execute
    found: dict[str, Json] = {}

    def of(model: str | None) -> Json:
        empty = {"requests": 0, "samples": 0, "prompt_tokens": 0, "completion_tokens": 0}
        return found.setdefault(model or "unknown", {"model": model or "unknown", **empty})

    for model, count in execute(
        "SELECT served_model, COUNT(*) FROM requests WHERE started_s >= ? AND ending = 'answered' "
        "AND served_model IS NOT NULL GROUP BY served_model",
        (since_s,),
    ):
        of(model)["requests"] = int(count)
    spent = [
        *execute(
            "SELECT s.model, COUNT(*), SUM(s.prompt_tokens), SUM(s.completion_tokens) "
            "FROM samples s JOIN requests r ON r.id = s.request_id WHERE r.started_s >= ? "
            "GROUP BY s.model",
            (since_s,),
        ),
        *execute(
            "SELECT served_model, COUNT(*), SUM(COALESCE(prompt_tokens, 0)), "
            "SUM(COALESCE(completion_tokens, 0)) FROM requests WHERE started_s >= ? "
            "AND served_model IS NOT NULL AND prompt_tokens IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM samples s WHERE s.request_id = requests.id) GROUP BY served_model",
            (since_s,),
        ),
    ]
    for model, samples, prompt_tokens, completion_tokens in spent:
        one = of(model)
        one["samples"] += int(samples)
        one["prompt_tokens"] += int(prompt_tokens or 0)
        one["completion_tokens"] += int(completion_tokens or 0)
    for one in found.values():
        price = prices.of(one["model"])
        usage = Usage(
            prompt_tokens=one["prompt_tokens"], completion_tokens=one["completion_tokens"]
        )
        one["usd"] = None if price is None else price.usd(usage)
    return sorted(found.values(), key=lambda one: -one["completion_tokens"])


def medians_since(store: Store, since_s: float) -> dict[str, float]:
    """Median time (seconds) of answered requests by policy, over the newest MOST_TIMES."""
    rows = store.database.execute(
        "SELECT COALESCE(arm, 'none'), elapsed_s FROM requests WHERE started_s >= ? AND "
        "ending = 'answered' ORDER BY started_s DESC LIMIT ?",
        (since_s, MOST_TIMES),
    )
    times: dict[str, list[float]] = {}
    for policy, elapsed_s in rows:
        times.setdefault(policy, []).append(float(elapsed_s))
    return {policy: median(each) for policy, each in times.items()}


def failures_since(store: Store, since_s: float) -> list[Json]:
    """Failed requests by code and model, the most frequent first, the newest of each by id."""
    rows = store.database.execute(
        "SELECT COALESCE(error_code, 'unknown'), status, COALESCE(served_model, model, ''), "
        "COUNT(*), MAX(started_s) FROM requests WHERE started_s >= ? AND ending = 'failed' "
        "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 5 DESC LIMIT 50",
        (since_s,),
    )
    found = []
    for code, status, model, count, newest_s in rows:
        newest = store.database.execute(
            "SELECT id, started_s FROM requests WHERE started_s >= ? AND ending = 'failed' AND "
            "COALESCE(error_code, 'unknown') = ? AND COALESCE(served_model, model, '') = ? "
            "ORDER BY started_s DESC LIMIT ?",
            (since_s, code, model, SHOWN_FAILURES),
        )
        found.append(
            {
                "code": code, "status": status, "model": model, "count": int(count),
                "newest_s": newest_s,
                "requests": [{"id": name, "at_s": at_s} for name, at_s in newest],
            }
        )  # fmt: skip
    return found
