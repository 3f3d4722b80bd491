from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.errors import ConfigError, InputError, UnknownName
from suffice.ledger.api_keys import Key, Keyring, Limits, add_key, load_ring, make_key, revoke_key
from suffice.ledger.export import export_file, records
from suffice.ledger.latency_histogram import BOUNDS_S, bin_of, quantile_s
from suffice.ledger.quotas import SLICE_S, Meter
from suffice.ledger.records import Batch, Entry, RequestRow, SampleRow, Window
from suffice.ledger.redact import BUILT_IN, Redactor
from suffice.ledger.store import Store


class Clock:
    now_s = 1_700_000_003.0

    def __call__(self) -> float:
        return self.now_s


def key_with(**limits: object) -> Key:
    return Key(id="k", name="k", digest="", limits=Limits(**limits))  # type: ignore[arg-type]


# --- keys


def test_a_key_is_found_by_its_text_alone() -> None:
    key, text = make_key("alice")
    other, _ = make_key("bob")
    ring = Keyring((key, other))
    assert ring.find(text) is key
    forged = text[:-43] + "A" * 43
    for wrong in ("", "x", text[:-1], text + "A", forged, text.replace(key.id, other.id), "ключ"):
        assert ring.find(wrong) is None
    secret = text.removeprefix(f"sk-suffice-{key.id}-")  # which may hold dashes of its own
    assert len(secret) == 43
    assert secret not in repr(key) + key.digest


def test_keys_are_kept_without_their_secret(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "l.db"))
    key, text = make_key("alice", limits=Limits(budget_usd=2.5, budget_window="day"))
    add_key(store, key)
    assert load_ring(store).find(text) == key
    secret = text[-43:].encode()
    assert revoke_key(store, "alice").id == key.id
    assert load_ring(store).find(text) is None
    assert load_ring(store)  # revoked, but on record
    with pytest.raises(UnknownName, match="alice"):
        revoke_key(store, "alice")
    store.close()
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_two_keys_of_one_name_are_told_apart(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "l.db"))
    made = [make_key("team")[0] for _ in range(2)]
    for key in made:
        add_key(store, key)
    with pytest.raises(InputError, match=made[0].id):
        revoke_key(store, "team")
    assert revoke_key(store, made[0].id).id == made[0].id
    store.close()


@pytest.mark.parametrize("limits", [{"budget_usd": 0.0}, {"requests_per_minute": -1}])
def test_limits_are_positive(limits: dict[str, float]) -> None:
    with pytest.raises(InputError, match="more than 0"):
        Limits(**limits)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hour, day, month, total"):
        Limits(budget_window="year")  # type: ignore[arg-type]


# --- the meter


@given(limit=st.integers(1, 20), gaps=st.lists(st.floats(0.01, 30.0), min_size=1, max_size=60))
def test_no_minute_holds_more_requests_than_the_limit(limit: int, gaps: list[float]) -> None:
    clock = Clock()
    meter, key = Meter(clock), key_with(requests_per_minute=limit)
    admitted: list[float] = []
    for gap_s in gaps:
        clock.now_s += gap_s
        if meter.admit(key) is None:
            meter.settle(key, tokens=1, usd=0.0)
            admitted.append(clock.now_s)
    for start_s in admitted:
        assert sum(start_s <= at_s < start_s + 60 for at_s in admitted) <= limit


@given(limit=st.integers(1, 10), into_s=st.floats(0.0, 300.0))
def test_whoever_waits_as_told_is_admitted(limit: int, into_s: float) -> None:
    clock = Clock()
    clock.now_s += into_s
    meter, key = Meter(clock), key_with(requests_per_minute=limit)
    while (refused := meter.admit(key)) is None:
        meter.settle(key, tokens=1, usd=0.0)
        clock.now_s += 1.0
    assert refused.retry_after_s is not None
    assert refused.retry_after_s <= 60 + SLICE_S
    clock.now_s += refused.retry_after_s
    assert meter.admit(key) is None


def test_running_requests_count_at_their_usual_size() -> None:
    clock = Clock()
    meter, key = Meter(clock), key_with(budget_tokens=1000, budget_window="day")
    assert meter.admit(key) is None
    meter.settle(key, tokens=5000, usd=0.0)  # the mean is now 1000
    clock.now_s += 86400.0
    assert meter.admit(key) is None
    refused = meter.admit(key)  # the first one may take all there is
    assert refused is not None
    assert refused.what == "budget_tokens"


def test_a_budget_is_new_with_its_window() -> None:
    clock = Clock()
    for window, length_s in (("hour", 3600), ("day", 86400), ("month", 31 * 86400)):
        meter = Meter(clock)
        key = key_with(budget_usd=1.0, budget_window=window)
        assert meter.admit(key) is None
        meter.settle(key, tokens=10, usd=1.5)
        refused = meter.admit(key)
        assert refused is not None
        assert refused.retry_after_s is not None
        assert refused.retry_after_s <= length_s
        assert "$1.5 of $1" in refused.message
        clock.now_s += refused.retry_after_s
        assert meter.admit(key) is None


def test_what_others_used_counts() -> None:
    clock = Clock()
    meters = [Meter(clock), Meter(clock)]
    key = key_with(budget_tokens=100, budget_window="day")
    totals: dict[Window, int] = {}

    def exchange(meter: Meter) -> None:
        from suffice.ledger.records import Used

        taken, watched = meter.take()
        for window, used in taken.items():
            totals[window] = totals.get(window, 0) + used.tokens
        meter.confirm({w: Used(0, t, 0.0) for w, t in totals.items()})
        assert all(each.budget.kind == "day" for each in watched)

    for meter in meters:
        assert meter.admit(key) is None
        meter.settle(key, tokens=60, usd=0.0)
    for meter in (*meters, meters[0]):
        exchange(meter)
    for meter in meters:
        assert meter.used(key).tokens == 120
        assert meter.admit(key) is not None
        assert meter.left(key) == (0, None)


# --- text


def test_redaction_takes_out_what_it_names() -> None:
    redact = Redactor(("email", "phone", "card", "iban", r"case-\d+"))
    text = (
        "a.b+c@mail.example.org +49 (170) 123 45 67, 4111 1111 1111 1111, "
        "DE89 3704 0044 0532 0130 00, "
        "case-77 sk-abcdefghijklmnop keep 12 apples and 3.14"
    )
    shown = redact(text)
    for gone in ("mail.example", "123 45", "4111", "DE89", "case-77", "sk-abc"):
        assert gone not in shown
    assert "keep 12 apples and 3.14" in shown
    with pytest.raises(ConfigError, match=re.escape("redact: '(' is neither one of key, email")):
        Redactor(("(",))


@pytest.mark.timeout(60)  # a rule that backtracks would take hours
@pytest.mark.parametrize("rule", BUILT_IN)
def test_rules_run_in_linear_time(rule: str) -> None:
    redact = Redactor((rule,))
    for unit in ("a", "1", "a.", "1 ", "a@a.", "A1", "sk-"):
        redact(unit * 200_000)


# --- sums and files


@given(st.lists(st.floats(1e-4, 600.0), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bin_of_the_true_one(times: list[float], q: float) -> None:
    counts: dict[int, int] = {}
    for time_s in times:
        counts[bin_of(time_s)] = counts.get(bin_of(time_s), 0) + 1
    found = quantile_s(counts, q)
    assert found is not None
    below = sum(time_s <= found * (1 + 1e-9) for time_s in times)
    number = bin_of(found)
    high = BOUNDS_S[number]
    assert sum(time_s <= high for time_s in times) >= q * len(times) - 1e-6
    assert below <= len(times)


def test_an_export_reads_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "l.db"))
    entries = [
        Entry(
            request=RequestRow(id=f"r{n:04d}", started_s=float(n // 3), endpoint="/v1/x", usd=0.5),
            samples=(
                SampleRow(request_id=f"r{n:04d}", choice=0, sample=0, model="m", purpose="answer",
                          status="finished", prompt_tokens=1, completion_tokens=n),
            ),
        )
        for n in range(4100)
    ]  # fmt: skip
    store.write(Batch(id="b", at_s=0.0, entries=entries))
    assert export_file(records(store), tmp_path / "x.parquet") == 4100
    assert export_file(records(store, since_s=10.0, until_s=20.0), tmp_path / "x.jsonl") == 30
    with pytest.raises(InputError, match=r"\.jsonl or \.parquet"):
        export_file(records(store), tmp_path / "x.csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["id"] for row in table] == [f"r{n:04d}" for n in range(4100)]
    assert table[77]["sample_rows"][0]["completion_tokens"] == 77
    store.close()
