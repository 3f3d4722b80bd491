"""Recording against a fake server: whole samples, going on after a stop, errors that end it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("pyarrow")

from suffice.backends.fake import ABLE, FakeBackend, Fault, Script
from suffice.core.errors import InputError, LacksCapability, UnknownName, UpstreamRefused
from suffice.core.requests import Sampling
from suffice.evals.datasets import Item
from suffice.evals.grading import check_of
from suffice.evals.traces.files import parts_folder, read_traces
from suffice.evals.traces.trace_set import Question, messages_json
from suffice.recipes.record.config import Mode, RecordConfig, mode_of
from suffice.recipes.record.run import record


def items(count=3):
    return [
        Item(
            question=Question(
                dataset="d",
                name=str(n),
                messages_json=messages_json(f"{n}+{n}?"),
                reference=str(2 * n),
                answer_format="number",
            ),
            check=check_of("number", str(2 * n)),
        )
        for n in range(count)
    ]


SCRIPT = Script.of("the answer is 4", confidences=(1.0, 2.0, 3.0, 4.0))


def test_samples_are_kept_whole(tmp_path):
    out = tmp_path / "t.parquet"
    config = RecordConfig(
        samples=2, sampling=Sampling(top_logprobs=5, temperature=0.5), licence="x"
    )
    result = asyncio.run(record(items(), FakeBackend([SCRIPT]), out, config))
    assert result.complete and result.progress.drawn == 6
    found = read_traces(out)
    assert len(found) == 6 and found.information.top_logprobs == 5
    trace = found.trace(found.rows(2, 0).start)
    assert trace.text == "the answer is 4" and trace.answer == "4" and trace.correct
    assert "".join(trace.tokens) == trace.text
    assert trace.confidences.tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0], abs=2e-3)
    assert len(trace.logprobs) == 4 and trace.completion_tokens == 4 and trace.prompt_tokens == 10
    assert trace.sampling_json == '{"temperature": 0.5, "top_logprobs": 5}'
    assert trace.ttft_s is not None and trace.e2e_s is not None and trace.ttft_s <= trace.e2e_s


def test_a_stopped_recording_goes_on(tmp_path):
    out = tmp_path / "t.parquet"
    backend = FakeBackend(lambda n, call: SCRIPT if n < 4 else Script.of("4", delay_s=60.0))
    config = RecordConfig(samples=4, concurrency=2)

    async def interrupted():
        task = asyncio.create_task(record(items(), backend, out, config))
        while backend.traffic.finished < 4:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert not out.exists() and parts_folder(out).exists()
    again = FakeBackend([SCRIPT])
    result = asyncio.run(record(items(), again, out, config))
    assert (result.progress.known, result.progress.drawn) == (4, 8)
    assert len(again.traffic.calls) == 8
    assert read_traces(out).count.tolist() == [[4]] * 3
    more = RecordConfig(samples=5, mode=mode_of("think"))
    asyncio.run(record(items(), again, out, more))
    found = read_traces(out)
    assert found.count.tolist() == [[4, 5]] * 3
    assert found.information.modes == {"answer": "the messages as they are", "think": "thinking on"}


def test_faults_are_retried_and_counted(tmp_path, monkeypatch):
    real = asyncio.sleep
    monkeypatch.setattr("suffice.recipes.record.run.asyncio.sleep", lambda seconds: real(0))
    cut = Script.of("the answer is 4", fault=Fault(kind="disconnected", after_chunks=1))
    out = tmp_path / "t.parquet"
    backend = FakeBackend(lambda n, call: cut if n in (0, 3, 4, 5, 6) else SCRIPT)
    config = RecordConfig(samples=1, concurrency=1, retries=3)
    result = asyncio.run(record(items(), backend, out, config))
    # The first succeeds at its second try, the third never does.
    assert (result.progress.drawn, result.progress.failed, result.complete) == (2, 1, False)
    assert len(read_traces(out)) == 2
    gone = FakeBackend([Script.of("x", fault=Fault(kind="refused"))])
    with pytest.raises(UpstreamRefused):
        asyncio.run(record(items(40), gone, tmp_path / "u.parquet", config))


def test_the_rate_is_kept(tmp_path, monkeypatch):
    """By a clock that only the waiting moves: twelve starts, a fortieth of a second apart."""
    real, waits = asyncio.sleep, []

    async def sleep(seconds):
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr("suffice.recipes.record.run.asyncio.sleep", sleep)
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr("suffice.recipes.record.run.time", clock)
    config = RecordConfig(samples=4, rate_per_s=40.0, concurrency=8)
    asyncio.run(record(items(), FakeBackend([SCRIPT]), tmp_path / "t.parquet", config))
    waited = [seconds for seconds in waits if seconds]  # the engine's own are none
    assert waited == pytest.approx([n / 40.0 for n in range(1, 12)])


def test_no_more_run_at_a_time_than_asked(tmp_path):
    running, most = 0, 0

    class Counted(FakeBackend):
        async def stream(self, *given, **named):
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                async for chunk in super().stream(*given, **named):
                    await asyncio.sleep(0)
                    yield chunk
            finally:
                running -= 1

    config = RecordConfig(samples=8, concurrency=3)
    asyncio.run(record(items(), Counted([SCRIPT]), tmp_path / "t.parquet", config))
    assert most == 3


def test_without_an_answer_samples_are_kept_and_nothing_is_known(tmp_path):
    asked = Question(dataset="d", name="open", messages_json=messages_json("Why?"))
    item = Item(question=asked, check=check_of(None, None))
    out = tmp_path / "t.parquet"
    asyncio.run(record([item], FakeBackend([SCRIPT]), out, RecordConfig(samples=3)))
    assert [trace.correct for trace in read_traces(out)] == [None] * 3


def test_what_cannot_be_recorded(tmp_path):
    out = tmp_path / "t.parquet"
    plain = FakeBackend([SCRIPT], capabilities=type(ABLE)(models=("fake",)))
    with pytest.raises(LacksCapability, match="--top-logprobs 0"):
        asyncio.run(record(items(), plain, out, RecordConfig()))
    with pytest.raises(UnknownName, match="served: fake"):
        asyncio.run(record(items(), FakeBackend([SCRIPT]), out, RecordConfig(model="other")))
    with pytest.raises(InputError, match="would ask exactly as"):
        mode_of("short")
    assert mode_of("short", " Be brief.") == Mode(name="short", suffix=" Be brief.")
    with pytest.raises(InputError, match="think:TOKENS"):
        mode_of("think:much")
