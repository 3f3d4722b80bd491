"""Calls of engines as the ledger has them."""

from __future__ import annotations

from collections.abc import Callable

from suffice.ledger.calls import calls_since
from suffice.ledger.records import Batch, Entry, RequestRow, SampleRow
from suffice.ledger.store import Store


def passed(name: str, at_s: float, prompt: int, output: int, cached: int | None = None) -> Entry:
    return Entry(
        request=RequestRow(
            id=name, started_s=at_s, endpoint="chat", served_model="m", prompt_tokens=prompt,
            completion_tokens=output, cached_tokens=cached,
        )
    )  # fmt: skip


def sampled(name: str, at_s: float, outputs: tuple[int, ...]) -> Entry:
    request = RequestRow(
        id=name, started_s=at_s, endpoint="chat", served_model="m", prompt_tokens=100,
        completion_tokens=sum(outputs),
    )  # fmt: skip
    samples = [
        SampleRow(
            request_id=name, choice=0, sample=i, model="small" if i else "large",
            purpose="sample", status="finished", prompt_tokens=100, completion_tokens=tokens,
        )
        for i, tokens in enumerate(outputs)
    ]  # fmt: skip
    return Entry(request=request, samples=tuple(samples))


def test_samples_stand_for_a_request_that_has_them(
    url: str, opened: Callable[[str], Store]
) -> None:
    store = opened(url)
    entries = [
        passed("a", 10.0, 500, 50, cached=300),
        sampled("b", 20.0, (30, 40, 0)),
        passed("c", 30.0, 700, 0),
    ]
    store.write(Batch(id="1", at_s=40.0, entries=entries))
    calls = calls_since(store, 0.0)
    # b counts as its two samples that produced tokens, c produced none.
    assert [(c.at_s, c.model, c.prompt_tokens, c.completion_tokens) for c in calls] == [
        (10.0, "m", 500, 50), (20.0, "large", 100, 30), (20.0, "small", 100, 40),
    ]  # fmt: skip
    assert [c.cached_tokens for c in calls] == [300, 0, 0]
    assert [c.completion_tokens for c in calls_since(store, 15.0)] == [30, 40]
    assert [c.completion_tokens for c in calls_since(store, 0.0, "small")] == [40]
