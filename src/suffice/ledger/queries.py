"""Questions that the dashboard and `suffice ledger stats` ask; answers are plain JSON values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from suffice.core.savings import CostUnit, Promise, share_saved
from suffice.ledger.latency_histogram import quantile_s
from suffice.ledger.migrations import BUCKET_S, TRAFFIC
from suffice.ledger.records import COLUMNS, RequestRow, SampleRow, ToolCallRow, saved_of
from suffice.ledger.store import Store

Json = dict[str, Any]
_SUMS = ", ".join(f"SUM({name})" for name in TRAFFIC)


def arms_since(store: Store, since_s: float) -> list[Json]:
    """Sums of every arm since `since_s` (Unix time), the busiest first, with what was judged."""
    rows = store.database.execute(
        f"SELECT arm, {_SUMS} FROM traffic WHERE bucket_s >= ? GROUP BY arm", (_bucket(since_s),)
    )
    judged = _judged(store, since_s)
    found = []
    for arm, *sums in rows:
        one = _sums(sums)
        one["arm"] = arm
        one["judged"], one["score"] = judged.get(arm, (0, None))
        found.append(one)
    return sorted(found, key=lambda one: -one["requests"])


def total_of(arms: Sequence[Json]) -> Json:
    """The sum over arms."""
    total = _sums([sum(one[name] for one in arms) for name in TRAFFIC])
    judged = sum(one["judged"] for one in arms)
    total["judged"] = judged
    total["score"] = (
        sum(one["score"] * one["judged"] for one in arms if one["judged"]) / judged
        if judged
        else None
    )
    return total


def _judged(store: Store, since_s: float) -> dict[str, tuple[int, float]]:
    """(judgements, mean score) by arm; of several judgements of one request the last counts."""
    rows = store.database.execute(
        "SELECT r.arm, COUNT(*), AVG(f.score) FROM feedback f "
        "JOIN requests r ON r.id = f.request_id "
        "WHERE r.started_s >= ? AND f.at_s = "
        "(SELECT MAX(g.at_s) FROM feedback g WHERE g.request_id = f.request_id) GROUP BY r.arm",
        (since_s,),
    )
    return {arm or "none": (int(count), float(mean)) for arm, count, mean in rows}


def _sums(values: Sequence[float | None]) -> Json:
    """Sums by name, and what was saved: in money where any was compared in money, else tokens."""
    one: Json = {name: float(v or 0) for name, v in zip(TRAFFIC, values, strict=True)}
    unit: CostUnit = "usd" if one["baseline_cost_usd"] else "tokens"
    cost, baseline = one[f"compared_cost_{unit}"], one[f"baseline_cost_{unit}"]
    one["saved"] = share_saved(cost, baseline) if one["compared"] else None
    one |= {"cost_unit": unit, "compared_cost": cost, "baseline_cost": baseline}
    return one


def series(store: Store, since_s: float, until_s: float, step_s: int) -> list[Json]:
    """Sums and latencies in steps of `step_s` seconds, empty steps included."""
    step = max(BUCKET_S, step_s // BUCKET_S * BUCKET_S)
    first = int(since_s // step) * step
    rows = store.database.execute(
        f"SELECT bucket_s / {step} * {step}, arm, {_SUMS} FROM traffic WHERE bucket_s >= ? "
        f"GROUP BY bucket_s / {step} * {step}, arm",
        (first,),
    )
    by_step: dict[int, dict[str, list[float]]] = defaultdict(dict)
    for at, arm, *sums in rows:
        by_step[int(at)][arm] = [float(value) for value in sums]
    times = _latencies(store, first, step)
    found = []
    for at in range(first, int(until_s) + 1, step):
        arms = by_step.get(at, {})
        one = _sums(
            [sum(column) for column in zip(*arms.values(), strict=True)] or [0] * len(TRAFFIC)
        )
        one["at_s"] = at
        one["arms"] = {arm: of_arm[0] for arm, of_arm in arms.items()}
        for phase, counts in times.get(at, {}).items():
            one[f"{phase}_p50_s"] = quantile_s(counts, 0.5)
            one[f"{phase}_p95_s"] = quantile_s(counts, 0.95)
        found.append(one)
    return found


def _latencies(store: Store, first: int, step: int) -> dict[int, dict[str, dict[int, int]]]:
    rows = store.database.execute(
        f"SELECT bucket_s / {step} * {step}, phase, bin, SUM(count) FROM latency "
        f"WHERE bucket_s >= ? GROUP BY bucket_s / {step} * {step}, phase, bin",
        (first,),
    )
    found: dict[int, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for at, phase, number, count in rows:
        found[int(at)][phase][int(number)] = int(count)
    return found


def latency_since(store: Store, since_s: float) -> Json:
    """Median, 95th and 99th percentile (seconds) of every phase since `since_s`."""
    rows = store.database.execute(
        "SELECT phase, bin, SUM(count) FROM latency WHERE bucket_s >= ? GROUP BY phase, bin",
        (_bucket(since_s),),
    )
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for phase, number, count in rows:
        counts[phase][int(number)] = int(count)
    return {
        phase: {f"p{q:.0f}_s": quantile_s(found, q / 100) for q in (50, 95, 99)}
        for phase, found in counts.items()
    }


def recent(store: Store, limit: int) -> list[Json]:
    """The newest requests with their samples, calls of tools and last judgement."""
    columns = COLUMNS[RequestRow]
    rows = store.database.execute(
        f"SELECT {', '.join(columns)} FROM requests ORDER BY started_s DESC LIMIT ?", (limit,)
    )
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    by_id: dict[str, Json] = {one["id"]: one for one in found}
    for one in found:
        one["sample_rows"], one["tool_rows"], one["score"] = [], [], None
        one["saved"] = saved_of(one["compared_cost"], one["baseline_cost"], one["saving_basis"])
    if by_id:
        marks = ", ".join("?" * len(by_id))
        names = COLUMNS[SampleRow]
        for row in store.database.execute(
            f"SELECT {', '.join(names)} FROM samples WHERE request_id IN ({marks}) "
            "ORDER BY choice, sample",
            tuple(by_id),
        ):
            sample = dict(zip(names, row, strict=True))
            by_id[sample["request_id"]]["sample_rows"].append(sample)
        names = COLUMNS[ToolCallRow]
        for row in store.database.execute(
            f"SELECT {', '.join(names)} FROM tool_calls WHERE request_id IN ({marks}) "
            "ORDER BY choice, number",
            tuple(by_id),
        ):
            call = dict(zip(names, row, strict=True))
            by_id[call["request_id"]]["tool_rows"].append(call)
        for request_id, score in store.database.execute(
            f"SELECT request_id, score FROM feedback WHERE request_id IN ({marks}) ORDER BY at_s",
            tuple(by_id),
        ):
            by_id[request_id]["score"] = score
    return found


def certificates_since(store: Store, since_s: float) -> list[Json]:
    """What requests that a certificate covered cost beside the baseline, by certificate and unit.

    `seen` is what was saved since then (None: nothing was compared), `promised` what the policy
    file says of the same: they are comparable if the baseline is the file's own.
    """
    rows = store.database.execute(
        "SELECT certificate, baseline, cost_unit, COUNT(*), SUM(compared_cost), "
        "SUM(baseline_cost), SUM(CASE WHEN saving_basis = 'estimated' THEN 1 ELSE 0 END) "
        "FROM requests WHERE certificate_status = 'valid' AND baseline_cost IS NOT NULL AND "
        "started_s >= ? GROUP BY certificate, baseline, cost_unit ORDER BY 4 DESC",
        (since_s,),
    )
    promises = {
        certificate: Promise(
            baseline=baseline, saved=saved, low=low, high=high, confidence=confidence, unit=unit
        )
        for certificate, baseline, saved, low, high, confidence, unit in store.database.execute(
            "SELECT certificate, baseline, saved, low, high, confidence, unit FROM promises"
        )
    }
    found = []
    for certificate, baseline, unit, n, cost, baseline_cost, estimated in rows:
        seen = {
            "saved": share_saved(cost, baseline_cost), "baseline": baseline, "unit": unit,
            "requests": int(n), "cost": cost, "baseline_cost": baseline_cost,
            "estimated": int(estimated),
        }  # fmt: skip
        promise = promises.pop(certificate, None)
        found.append(_standing(certificate, seen, promise, comparable_to=baseline))
    return found + [
        _standing(certificate, None, promise, comparable_to=promise.baseline)
        for certificate, promise in promises.items()
    ]


def _standing(
    certificate: str, seen: Json | None, promise: Promise | None, *, comparable_to: str
) -> Json:
    promised = None
    if promise is not None:
        promised = asdict(promise) | {"comparable": promise.comparable(comparable_to)}
    return {"certificate": certificate, "seen": seen, "promised": promised}


def keys_since(store: Store, since_s: float) -> list[Json]:
    """Requests, tokens and money by key since `since_s`, the dearest first."""
    rows = store.database.execute(
        "SELECT r.key_id, k.name, COUNT(*), SUM(COALESCE(r.prompt_tokens, 0) + "
        "COALESCE(r.completion_tokens, 0)), SUM(COALESCE(r.usd, 0)) FROM requests r "
        "LEFT JOIN keys k ON k.id = r.key_id WHERE r.started_s >= ? "
        "GROUP BY r.key_id, k.name ORDER BY 4 DESC",
        (since_s,),
    )
    return [
        {"key": name or "no key", "id": key_id, "requests": int(n), "tokens": int(t), "usd": usd}
        for key_id, name, n, t, usd in rows
    ]


def counts(store: Store) -> Json:
    """Rows per table and the time of the oldest and newest request."""
    execute = store.database.execute
    found: Json = {
        table: int(execute(f"SELECT COUNT(*) FROM {table}")[0][0])
        for table in ("requests", "samples", "tool_calls", "texts", "feedback", "keys")
    }
    oldest, newest = execute("SELECT MIN(started_s), MAX(started_s) FROM requests")[0]
    return found | {"oldest_s": oldest, "newest_s": newest}


def _bucket(since_s: float) -> int:
    return int(since_s // BUCKET_S) * BUCKET_S
