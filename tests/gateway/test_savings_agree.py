"""What was saved is one number: on the receipt, in the header, in the ledger's row, in its sums."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.completions import Completion, Cost, Outcome, SampleRecord, Usage
from suffice.core.savings import Saving, share_saved
from suffice.gateway.calls import Call
from suffice.gateway.observe.counters import Counters
from suffice.gateway.observe.records import entry_of
from suffice.gateway.wire.receipt import headers, receipt
from suffice.ledger import queries
from suffice.ledger.records import Batch
from suffice.ledger.store import Store

COSTS = st.floats(min_value=0.0, max_value=1e9, allow_nan=False)


@st.composite
def savings(draw: Any) -> Saving | None:
    basis = draw(st.sampled_from([None, "same", "measured", "recorded", "estimated"]))
    if basis is None:
        return None
    cost = draw(COSTS)
    return Saving(
        baseline="single@large", cost=cost, baseline_cost=cost if basis == "same" else draw(COSTS),
        unit=draw(st.sampled_from(["usd", "tokens"])), basis=basis, method="calls",
    )  # fmt: skip


def outcome(saving: Saving | None) -> Outcome:
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    return Outcome(
        completion=Completion(text="4", finish_reason="stop", usage=usage, model="small"),
        sample=0, arm="any", why="", confidence=None, usage=usage, cost=Cost(tokens=5),
        records=(SampleRecord(sample=0, model="small", purpose="answer", status="finished",
                              usage=usage),),
        elapsed_s=0.1, overhead_s=0.0, saving=saving,
    )  # fmt: skip


def row_of(*found: Saving | None) -> Any:
    call = Call(path="/v1/chat/completions", status=200, complete=True, arm="any")
    call.outcomes = [outcome(saving) for saving in found]
    entry = entry_of(
        call, usage=Usage(), source="engine", cost=Cost(), price=None, text=None, answers=False,
        body_bytes=0,
    )  # fmt: skip
    return call, entry


@given(st.lists(savings(), min_size=1, max_size=3))
def test_receipt_header_and_row_agree(found: list[Saving | None]) -> None:
    call, entry = row_of(*found)
    told = receipt(call.outcomes)
    assert entry.request.saved == told["saved"]
    header = headers(call.outcomes).get("x-suffice-saved")
    assert header == (None if told["saved"] is None else f"{told['saved']:.4f}")
    if all(saving is None or saving.basis == "same" for saving in found):
        assert told["saved"] is None
    for saving, choice in zip(found, told["choices"], strict=True):
        assert choice["saved"] == (None if saving is None else saving.saved)


@given(st.lists(savings(), max_size=12))
def test_the_sums_are_those_of_the_rows(found: list[Saving | None]) -> None:
    tally = Counters()
    for saving in found:
        tally.count(row_of(saving)[1])
    batch = Batch(id="one", at_s=1.0)
    tally.fill(batch)
    store = Store(":memory:")
    try:
        store.write(batch)
        total = queries.total_of(queries.arms_since(store, 0.0))
    finally:
        store.close()
    known = [saving for saving in found if saving is not None]
    unit = "usd" if any(s.unit == "usd" and s.baseline_cost for s in known) else "tokens"
    kept = [saving for saving in known if saving.unit == unit]
    cost = sum(saving.cost for saving in kept)
    baseline = sum(saving.baseline_cost for saving in kept)
    if all(saving.basis == "same" for saving in known):
        assert total["saved"] is None
    else:
        expected = share_saved(cost, baseline)
        assert total["saved"] == (None if expected is None else pytest.approx(expected))
    assert total["compared"] == sum(saving.basis != "same" for saving in known)
