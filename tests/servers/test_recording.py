"""Ledger, feedback and metrics as a client of the gateway meets them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.app import create_app
from suffice.gateway.calls import Call
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import AutoConfig, KeysConfig, LedgerConfig
from suffice.gateway.observe.serving_hooks import ServingHooks, open_hooks, serving_hooks
from suffice.ledger import queries
from suffice.ledger.export import records
from suffice.ledger.records import Batch
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.tools import Tools

CANARY = "canary-7f3a9c"
ASK = {"model": "fake", "messages": [{"role": "user", "content": f"what is 2+2 {CANARY}"}]}
VOTE = ASK | {"suffice": {"answer_format": "number", "policy": "adaptive_consistency"}}


class Stack:
    """A gateway with its hooks, its engine and its ledger."""

    def __init__(self, url: str, engine: FakeEngine, opened: ServingHooks, path: str) -> None:
        self.url, self.engine, self.opened, self.path = url, engine, opened, path

    def ask(self, body: Any, **headers: str) -> httpx2.Response:
        url = f"{self.url}/v1/chat/completions"
        return httpx2.post(url, json=body, headers=headers, timeout=60.0)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", headers=headers)

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The ledger's records once there are `count`, newest last."""
        until = time.monotonic() + 5
        while True:
            store = Store(self.path)
            try:
                found = list(records(store))
            finally:
                store.close()
            if len(found) >= count:
                return found
            assert time.monotonic() < until, f"{len(found)} of {count} rows came"
            time.sleep(0.05)


@contextmanager
def stack(
    tools: type[Tools], path: Path, script: Any = None, /, *, ledger: Any = None, **settings: Any
) -> Iterator[Stack]:
    url = str(path / "ledger.db")
    kept = LedgerConfig(**{"url": url, "flush_s": 0.05, **(ledger or {})})
    with FakeEngine(script or Reply.saying("it is 4")) as engine:
        config = tools.config_for(engine.url, ledger=kept, **settings)
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as gateway:
            yield Stack(gateway, engine, opened, url)


def votes(*answers: str) -> Any:
    return lambda number, body: Reply.saying(f"it is {answers[number % len(answers)]}")


def test_every_request_is_written_with_its_samples(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, votes("4")) as s:
        answer = s.ask(VOTE).json()
        s.ask(ASK)
        s.ask(ASK | {"stream": True})
        s.ask(ASK | {"model": "none"})
        found = s.rows(4)
    voted, plain, streamed, refused = found
    assert voted["arm"] == "adaptive_consistency"
    assert voted["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert voted["samples"] == len(voted["sample_rows"]) == answer["suffice"]["samples_run"]
    assert (voted["baseline"], voted["cost_unit"]) == ("single@fake", "tokens")
    assert voted["compared_cost"] == 4 * voted["baseline_cost"]
    assert voted["saved"] == answer["suffice"]["saved"] == -3.0
    assert plain["saved"] is None
    assert (plain["arm"], plain["ending"], plain["usage_source"]) == (
        "bypass",
        "answered",
        "engine",
    )
    assert plain["completion_tokens"] == 3
    assert (streamed["stream"], streamed["status"]) == (1, 200)
    assert streamed["completion_tokens"] is not None
    assert (refused["ending"], refused["status"]) == ("failed", 404)
    assert refused["error_code"] == "model_not_found"
    assert all(
        row["first_byte_s"] is None or 0 < row["first_byte_s"] <= row["elapsed_s"] for row in found
    )


def test_nothing_that_was_written_leaks(
    tools: type[Tools], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = votes(f"4 {CANARY}")
    caplog.set_level("DEBUG")
    with stack(tools, tmp_path, script) as s:
        s.ask(VOTE)
        s.ask(ASK, authorization=f"Bearer sk-{CANARY}")
        s.ask(ASK | {"stream": True})
        httpx2.post(f"{s.url}/v1/chat/completions", content=b"{" + CANARY.encode())
        s.rows(4)
        metrics = s.get("/metrics").text
        state = s.get("/admin/state").text
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for place in (stored.decode("latin-1"), metrics, state, caplog.text):
        assert CANARY not in place
    assert "suffice_requests_total" in metrics


def test_texts_are_kept_only_if_asked_and_redacted(tools: type[Tools], tmp_path: Path) -> None:
    ledger = {"texts": "all", "redact": ("email", r"secret-\d+")}
    with stack(tools, tmp_path, Reply.saying("mail me@example.org it is 4"), ledger=ledger) as s:
        body = {
            "model": "fake",
            "messages": [{"role": "user", "content": "secret-12 sk-abcdefghijklmnop"}],
        }
        s.ask(body)
        s.ask(body | {"suffice": {"policy": "single"}})
        for row in s.rows(2):
            assert "secret-12" not in row["prompt"]
            assert "[redacted] [key]" in row["prompt"]
            assert "[email] it is 4" in row["output"]


def test_feedback_is_attached(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path) as s:
        name = s.ask(ASK).headers["x-request-id"]
        said = {"request_id": name, "correct": True, "comment": "thanks, me@example.org"}
        assert httpx2.post(f"{s.url}/v1/feedback", json=said).status_code == 200
        (row,) = s.rows(1)
        assert row["score"] == 1.0
        unknown = httpx2.post(f"{s.url}/v1/feedback", json=said | {"request_id": "req-none"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "request_not_found")
        for wrong in ({"request_id": name}, {"request_id": name, "score": 2}, {"score": 1}, []):
            answer = httpx2.post(f"{s.url}/v1/feedback", json=wrong)
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["type"] == "invalid_request_error"
        state = s.get("/admin/state").json()
    assert state["total"]["judged"] == 1
    assert state["total"]["score"] == 1.0


def test_a_client_that_leaves_is_counted(tools: type[Tools], tmp_path: Path) -> None:
    script = lambda number, body: Reply.saying("a b c d e f g h it is 4", delay_s=0.4)  # noqa: E731
    with stack(tools, tmp_path, script, patience_s=5.0) as s:
        for body in (ASK, VOTE):
            with pytest.raises(httpx2.TimeoutException):
                httpx2.post(f"{s.url}/v1/chat/completions", json=body, timeout=2.0)
        passed, voted = s.rows(2)
        tools.wait_for(lambda: s.engine.seen.running == 0)
    assert passed["ending"] == voted["ending"] == "left"
    assert voted["completion_tokens"] > 0  # what its samples drew was drawn
    assert (passed["usage_source"], voted["usage_source"]) == ("estimated", "engine")
    assert passed["prompt_tokens"] > 0  # it was with the engine, which had not answered yet
    assert {row["status"] for row in voted["sample_rows"]} == {"cancelled"}


def test_metrics_count(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, votes("4")) as s:
        for _ in range(3):
            s.ask(VOTE)
        s.ask(ASK | {"model": "none"})
        s.rows(4)
        tools.wait_for(lambda: 'code="model_not_found",' in s.get("/metrics").text)
        text = s.get("/metrics").text
        spent = sum(row["completion_tokens"] or 0 for row in s.rows(4))
    assert (
        'suffice_requests_total{arm="adaptive_consistency",ending="answered",status="200"} 3.0'
        in text
    )
    assert f'suffice_tokens_total{{arm="adaptive_consistency",kind="completion"}} {spent}.0' in text
    assert 'suffice_request_duration_seconds_count{phase="total"} 3.0' in text
    assert 'suffice_upstream_up{upstream="' in text
    assert "suffice_ledger_up 1.0" in text
    assert "# TYPE suffice_ledger_dropped_requests_total counter" in text
    assert "suffice_build_info{version=" in text
    drawn = sum(len(row["sample_rows"]) for row in s.rows(4))
    upstream = s.engine.url.removeprefix("http://")
    asked = f'suffice_model_requests_total{{ending="finished",model="fake",upstream="{upstream}"}}'
    assert f"{asked} {drawn}.0" in text
    usage = 'gen_ai_client_token_usage_sum{gen_ai_request_model="fake",gen_ai_token_type="output"}'
    assert f"{usage} {spent}.0" in text
    assert 'gen_ai_server_request_duration_seconds_count{gen_ai_request_model="fake"} 3.0' in text
    times = "gen_ai_client_operation_duration_seconds_count"
    assert f'{times}{{gen_ai_request_model="fake"}} {drawn}.0' in text


def test_the_live_view_shows_samples_racing(tools: type[Tools], tmp_path: Path) -> None:
    words = " ".join(["word"] * 300)  # far longer than the test looks
    script = lambda number, body: Reply.saying(words, delay_s=0.1)  # noqa: E731

    with stack(tools, tmp_path, script, patience_s=5.0) as s:

        def live() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = s.get("/admin/state").json()["live"]
            return found

        with httpx2.stream("POST", f"{s.url}/v1/chat/completions", json=VOTE | {"stream": True}):
            tools.wait_for(
                lambda: any(r["tokens"] > 1 for call in live() for r in call["samples"]), 20
            )
            (call,) = live()
        assert call["arm"] == "adaptive_consistency"
        assert {sample["status"] for sample in call["samples"]} == {"running"}
        tools.wait_for(lambda: not live(), 20)


@pytest.mark.parametrize("kept", [True, False])
def test_what_has_ended_is_counted_for_whoever_asks_next(
    tools: type[Tools], tmp_path: Path, kept: bool
) -> None:
    # The ledger is written every ten seconds here; nobody who asks has to wait for that.
    ledger = LedgerConfig(url=str(tmp_path / "ledger.db") if kept else None, flush_s=10.0)
    with FakeEngine(Reply.saying("it is 4")) as engine:
        config = replace(tools.config_for(engine.url), ledger=ledger)
        with tools.serving(config, hooks=serving_hooks(config)) as url:
            for asked in range(1, 4):
                httpx2.post(f"{url}/v1/chat/completions", json=ASK)
                state = httpx2.get(f"{url}/admin/state").json()
                known = 2 * asked - 1
                assert (state["total"]["requests"], len(state["recent"])) == (known, known)
                httpx2.post(f"{url}/v1/chat/completions", json=ASK | {"model": "none"})
                metrics = httpx2.get(f"{url}/metrics").text
                assert f'code="model_not_found",model="",upstream=""}} {asked}.0' in metrics


def test_without_a_file_the_last_requests_are_shown(tools: type[Tools]) -> None:
    with FakeEngine(Reply.saying("it is 4")) as engine:
        config = tools.config_for(engine.url)
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            httpx2.post(f"{url}/v1/chat/completions", json=ASK)
            tools.wait_for(lambda: bool(httpx2.get(f"{url}/admin/state").json()["recent"]))


def test_another_sites_page_cannot_use_a_gateway_without_keys(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path) as s:
        assert s.ask(ASK, origin="https://evil.example").status_code == 403
        assert s.ask(ASK, host="rebound.example").status_code == 403
        assert s.get("/admin/state", host="rebound.example").status_code == 403
        assert s.ask(ASK, origin=s.url).status_code == 200
        assert s.ask(ASK, host="localhost:99").status_code == 200


def test_the_sums_agree_with_the_rows(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, votes("4", "5", "4")) as s:
        for _ in range(5):
            s.ask(VOTE)
        rows = s.rows(5)
    store = Store(str(tmp_path / "ledger.db"))
    (arm,) = queries.arms_since(store, 0)
    store.close()
    assert arm["requests"] == 5
    for name in ("prompt_tokens", "completion_tokens", "samples", "samples_cancelled"):
        assert arm[name] == sum(row[name] for row in rows)
    assert arm["baseline_cost_tokens"] == pytest.approx(sum(row["baseline_cost"] for row in rows))
    assert arm["compared_cost_tokens"] == pytest.approx(sum(row["compared_cost"] for row in rows))
    assert arm["saved"] == 1 - arm["compared_cost_tokens"] / arm["baseline_cost_tokens"]
    assert json.loads(json.dumps(rows)) == rows


def test_new_settings_are_taken_over_while_it_runs(
    tools: type[Tools], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeEngine(Reply.saying("it is 4")) as engine:
        config = tools.config_for(engine.url, ledger=LedgerConfig(url=str(tmp_path / "l.db")))
        opened = open_hooks(config)
        app = create_app(config, hooks=opened.in_order)
        new = replace(
            config,
            auto=AutoConfig(price=0.5),
            keys=KeysConfig(required=True),
            ledger=LedgerConfig(url="elsewhere.db"),
        )
        app.state.gateway.apply(new)
        assert opened.recorder.price() == 0.5
        assert opened.authenticator.locked
        assert opened.recorder.config.ledger == config.ledger
        assert "ledger has changed: it takes effect after a restart" in caplog.text
        opened.writer.start()
        asyncio.run(opened.recorder.stop())
        asyncio.run(app.state.gateway.aclose())


@pytest.mark.parametrize("policy", ["auto", "adaptive_consistency", "single"])
def test_a_streamed_call_is_over_when_its_stream_is(
    tools: type[Tools], tmp_path: Path, policy: str
) -> None:
    slow = Reply(tokens=("it", " is", " 4"), delay_s=0.05)
    wishes = {"policy": policy, "answer_format": "number"}
    with stack(tools, tmp_path, slow) as s:
        for _ in range(3):
            answer = s.ask(ASK | {"stream": True, "suffice": wishes})
            assert answer.text.rstrip().endswith("[DONE]")
            tools.wait_for(lambda: not s.opened.process.live, 0.2)  # not for the tick of anything
            assert "\nsuffice_running 0.0" in s.get("/metrics").text


def test_other_processes_hear_at_once_that_nothing_runs(tmp_path: Path) -> None:
    opened = open_hooks(
        GatewayConfig(upstreams=(), ledger=LedgerConfig(url=str(tmp_path / "ledger.db")))
    )

    def published(at_s: float) -> dict[str, Any] | None:
        batch = Batch(id="", at_s=at_s)
        opened.totals.fill(batch)
        return None if batch.process is None else json.loads(batch.process[1])

    call = Call(path="/v1/chat/completions")
    opened.process.live[call.id] = call
    found = published(100.0)
    assert found is not None
    assert found["running"] == 1
    assert published(100.2) is None  # a second has not passed, and nothing has ended
    del opened.process.live[call.id]
    found = published(100.4)
    assert found is not None
    assert found["running"] == 0
    assert published(100.6) is None
    opened.writer.start()
    asyncio.run(opened.recorder.stop())
