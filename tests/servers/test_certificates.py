"""A certificate's watch, shared by all processes on a ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.traffic import CacheConfig, TrafficConfig
from suffice.testing.fake_engine import FakeEngine, Reply
from suffice.testing.postgres import PostgresServer
from tests.policies.policy_table import policy_table
from tests.servers.test_keys import Gateways, free_port, gateways, served

TABLE = policy_table("adaptive_consistency:max_samples=2", "single", model="fake")
ASK: dict[str, Any] = {
    "model": "suffice/careful",
    "messages": [{"role": "user", "content": "what is 2+2"}],
    "suffice": {"answer_format": "number"},
}
# Bad audits in a row that void it: enough for the wealth of one watch, see test_watches.
NEEDED = 6


def status(g: Gateways, number: int) -> str:
    answer = g.ask(None, number, ASK)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["suffice"]["certificate"]["status"]
    return found


def audit(g: Gateways, number: int) -> None:
    made = g.ask(None, number, ASK).headers["x-request-id"]
    body = {"request_id": made, "correct": False, "harmed": True}
    answer = httpx2.post(f"{g.urls[number]}/v1/feedback", json=body)
    assert answer.status_code == 200, answer.text


def check(tools: Any, url: str) -> None:
    settings = {"policies": {"careful": TABLE}}
    with gateways(tools, url, count=2, **settings) as g:
        assert [status(g, number) for number in (0, 1)] == ["valid", "valid"]
        for number in range(NEEDED):
            audit(g, number % 2)  # neither process sees enough by itself
        tools.wait_for(lambda: status(g, 0) == status(g, 1) == "void", 10)
        page = g.get("/metrics").text
        assert f'suffice_certificate_void{{certificate="{TABLE["certificate"]["id"]}"}} 1.0' in page
    with gateways(tools, url, **settings) as g:
        assert status(g, 0) == "void"  # from the first request on


def test_two_processes_share_a_watch_on_sqlite(tools: Any, tmp_path: Path) -> None:
    check(tools, str(tmp_path / "ledger.db"))


def test_two_processes_share_a_watch_on_postgres(tools: Any, postgres: PostgresServer) -> None:
    check(tools, postgres.new_url())


def test_what_was_answered_under_a_void_certificate_is_not_kept_for_later(
    tools: Any, tmp_path: Path
) -> None:
    traffic = TrafficConfig(cache=CacheConfig(max_bytes=2**20))
    cached = ASK | {"suffice": ASK["suffice"] | {"cache": True}}
    url = str(tmp_path / "ledger.db")
    with gateways(tools, url, traffic=traffic, policies={"careful": TABLE}) as g:
        first, second = g.ask(None, 0, cached), g.ask(None, 0, cached)
        assert second.headers["x-suffice-cache"] == "hit"
        assert second.json()["suffice"] == first.json()["suffice"]
        for _ in range(NEEDED):
            audit(g, 0)
        last = g.ask(None, 0, cached)
        assert "x-suffice-cache" not in last.headers
        assert last.json()["suffice"]["certificate"]["status"] == "void"


@pytest.mark.slow
def test_workers_share_a_watch(tools: Any, tmp_path: Path) -> None:
    """Two processes of one `suffice serve`: whichever answers."""
    policy = tmp_path / "careful.json"
    policy.write_text(json.dumps(TABLE))
    with FakeEngine(Reply.saying("it is 4")) as engine:
        argv = [
            "--upstream", engine.url, "--policy", str(policy), "--workers", "2",
            "--ledger", str(tmp_path / "ledger.db"),
        ]  # fmt: skip
        port = free_port()
        process = served(argv, port, tmp_path / "log")
        try:
            g = Gateways([f"http://127.0.0.1:{port}"])
            for _ in range(NEEDED + 2):
                audit(g, 0)
            tools.wait_for(lambda: [status(g, 0) for _ in range(8)] == ["void"] * 8, 20)
        finally:
            process.terminate()
            process.wait(30)
    assert process.returncode == 0, (tmp_path / "log").read_text()
