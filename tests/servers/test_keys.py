"""Keys, limits and budgets, in one process and shared by two."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.config_sections import AutoConfig, KeysConfig, LedgerConfig
from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.ledger import queries
from suffice.ledger.api_keys import Limits, add_key, make_key, revoke_key
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.postgres import PostgresServer
from tests.servers.serve_soon import command
from tests.servers.tools import Tools

ASK = {"model": "fake", "messages": [{"role": "user", "content": "what is 2+2"}]}
VOTE = ASK | {"suffice": {"answer_format": "number", "policy": "adaptive_consistency"}}
WORDS = "one two three four five six seven eight nine 4"


def new_key(url: str, name: str = "alice", *, admin: bool = False, **limits: Any) -> str:
    store = Store(url)
    key, text = make_key(name, admin=admin, limits=Limits(**limits))
    add_key(store, key)
    store.close()
    return text


class Gateways:
    """Gateways on one ledger, as so many processes would be: each has its own opened."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls

    def ask(self, key: str | None, number: int = 0, body: Any = None) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        url = f"{self.urls[number]}/v1/chat/completions"
        return httpx2.post(url, json=body or ASK, headers=headers, timeout=20)

    def get(self, path: str, key: str | None = None) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.get(self.urls[0] + path, headers=headers)


@contextmanager
def gateways(
    tools: type[Tools], url: str, *, count: int = 1, **settings: Any
) -> Iterator[Gateways]:
    with ExitStack() as stack:
        engine = stack.enter_context(FakeEngine(Reply.saying(WORDS)))
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=url, flush_s=0.05), patience_s=5.0, **settings
        )
        urls = [
            stack.enter_context(tools.serving(config, hooks=serving_hooks(config)))
            for _ in range(count)
        ]
        yield Gateways(urls)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def tokens_of(answer: httpx2.Response) -> int:
    usage = answer.json()["usage"]
    return int(usage["prompt_tokens"] + usage["completion_tokens"])


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    return found


def test_without_keys_anyone_may(tools: type[Tools], url: str) -> None:
    with gateways(tools, url) as g:
        assert g.ask(None).status_code == 200
        assert g.ask("sk-anything").status_code == 200


def test_with_keys_only_they_may(tools: type[Tools], url: str) -> None:
    key = new_key(url)
    with gateways(tools, url) as g:
        assert g.ask(key).status_code == 200
        for wrong in (
            None,
            "sk-anything",
            key[:-1],
            key[:-1] + "!",
            key + "x",
            "ключ".encode().hex(),
        ):
            answer = g.ask(wrong)
            assert answer.status_code == 401
            assert error_of(answer)["code"] == "invalid_api_key"
            assert key not in answer.text
        for path in ("/metrics", "/admin/state"):
            assert g.get(path).status_code == 401
            assert g.get(path, key).status_code == 403
        assert g.get("/").status_code == 200  # the page holds nothing; it asks for the key
        assert g.get("/v1/models").status_code == 401
        assert g.get("/v1/models", key).status_code == 200


def test_whoever_is_turned_away_fills_no_disk(tools: type[Tools], url: str) -> None:
    key, admin = new_key(url, requests_per_minute=1), new_key(url, "root", admin=True)
    with gateways(tools, url) as g:
        codes = [g.ask(each).status_code for each in (key, key, None, "sk-x")]
        assert codes == [200, 429, 401, 401]
        text = g.get("/metrics", admin).text
    assert 'ending="refused",status="401"} 2.0' in text
    assert 'ending="refused",status="429"} 1.0' in text
    store = Store(url)
    assert queries.counts(store)["requests"] == 1
    store.close()


def test_keys_come_and_go_while_it_runs(tools: type[Tools], url: str) -> None:
    with gateways(tools, url) as g:
        assert g.ask(None).status_code == 200
        key = new_key(url)
        tools.wait_for(lambda: g.ask(None).status_code == 401)
        assert g.ask(key).status_code == 200
        store = Store(url)
        revoke_key(store, "alice")
        store.close()
        tools.wait_for(lambda: g.ask(key).status_code == 401)
        assert g.ask(None).status_code == 401  # revoking the last key opens nothing


def test_keys_can_be_demanded_before_there_are_any(tools: type[Tools], url: str) -> None:
    with gateways(tools, url, keys=KeysConfig(required=True)) as g:
        assert g.ask(None).status_code == 401


def test_a_rate_limit_says_when_to_come_back(tools: type[Tools], url: str) -> None:
    key = new_key(url, requests_per_minute=3)
    with gateways(tools, url) as g:
        assert [g.ask(key).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        refused = g.ask(key)
    assert error_of(refused)["code"] == "rate_limit_exceeded"
    assert "3 requests per minute" in error_of(refused)["message"]
    assert 50 <= int(refused.headers["retry-after"]) <= 65


def test_a_token_budget_ends_and_says_until_when(tools: type[Tools], url: str) -> None:
    key = new_key(url, budget_tokens=30, budget_window="day")
    with gateways(tools, url) as g:
        found = [g.ask(key) for _ in range(4)]
    codes = [answer.status_code for answer in found]
    used = [tokens_of(answer) for answer in found if answer.status_code == 200]
    assert codes[-1] == 429
    assert sum(used[:-1]) < 30 <= sum(used)  # the request that crosses it is the last
    assert error_of(found[-1])["code"] == "insufficient_quota"
    assert 1 <= int(found[-1].headers["retry-after"]) <= 86400


def test_a_spent_total_gives_no_time(tools: type[Tools], url: str) -> None:
    key = new_key(url, budget_tokens=1, budget_window="total")
    with gateways(tools, url) as g:
        assert g.ask(key).status_code == 200
        refused = g.ask(key)
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers


def test_a_policy_may_spend_what_is_left(tools: type[Tools], url: str) -> None:
    key = new_key(url, budget_tokens=45, budget_window="day")
    with gateways(tools, url) as g:
        answer = g.ask(key, body=VOTE)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] <= 45


def test_a_budget_outlives_the_process(tools: type[Tools], url: str) -> None:
    key = new_key(url, budget_tokens=5, budget_window="day")
    with gateways(tools, url) as g:
        assert g.ask(key).status_code == 200
    with gateways(tools, url) as g:
        assert g.ask(key).status_code == 429


def check_shared(tools: type[Tools], url: str) -> None:
    """Two gateways on one ledger hold one limit, one budget and one lambda."""
    rate = new_key(url, "rate", requests_per_minute=6)
    quota = new_key(url, "quota", budget_tokens=60, budget_window="day")
    auto = AutoConfig(spend_target=1.0, price=0.001, rate=0.01)
    with gateways(tools, url, count=2, auto=auto) as g:
        codes = []
        for number in range(10):
            codes.append(g.ask(rate, number % 2).status_code)
            time.sleep(0.15)  # longer than the totals take to be exchanged
        assert codes.count(200) in (6, 7)
        assert codes[-1] == 429
        spent = 0
        for number in range(12):
            answer = g.ask(quota, number % 2)
            if answer.status_code == 200:
                spent += tokens_of(answer)
            time.sleep(0.15)
        assert answer.status_code == 429
        assert 60 <= spent <= 60 + 2 * 25
        admin = new_key(url, "root", admin=True)
        ask = ASK | {"model": "suffice/auto", "suffice": {"answer_format": "number"}}
        tools.wait_for(lambda: g.ask(admin, 1, ask).status_code == 200, 10)

        def prices() -> list[float]:
            headers = {"authorization": f"Bearer {admin}"}
            return [
                float(httpx2.get(f"{u}/admin/state", headers=headers).json().get("lambda", "nan"))
                for u in g.urls
            ]

        tools.wait_for(lambda: prices()[0] > 0.001 and prices()[0] == prices()[1], 10)


def test_two_processes_share_limits_on_sqlite(tools: type[Tools], url: str) -> None:
    check_shared(tools, url)


def test_two_processes_share_limits_on_postgres(
    tools: type[Tools], postgres: PostgresServer
) -> None:
    check_shared(tools, postgres.new_url())


def test_postgres_goes_away_and_comes_back(tools: type[Tools], postgres: PostgresServer) -> None:
    url = postgres.new_url()
    key = new_key(url, "alice", admin=True)
    with gateways(tools, url) as g:
        assert g.ask(key).status_code == 200
        tools.wait_for(lambda: "suffice_ledger_up 1.0" in g.get("/metrics", key).text)
        postgres.stop()
        try:
            for _ in range(3):
                assert g.ask(key).status_code == 200  # keys and traffic go on from memory
            tools.wait_for(lambda: "suffice_ledger_up 0.0" in g.get("/metrics", key).text, 10)
            assert g.get("/admin/state", key).json()["ledger"]["away"]
        finally:
            postgres.start()
        tools.wait_for(lambda: "suffice_ledger_up 1.0" in g.get("/metrics", key).text, 15)
    store = Store(url)
    assert queries.counts(store)["requests"] == 4  # what waited was written
    store.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        found: int = one.getsockname()[1]
    return found


def served(argv: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    """`suffice serve` in processes of its own, once it answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command("serve", "--port", port, *argv), stdout=out, stderr=subprocess.STDOUT
        )
    until = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        try:
            httpx2.get(f"http://127.0.0.1:{port}/ready")
        except httpx2.TransportError:
            time.sleep(0.02)
        else:
            return process


@pytest.mark.slow
def test_workers_share_a_limit_and_one_page_of_metrics(
    tools: type[Tools], postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_url()
    key, admin = new_key(url, requests_per_minute=20), new_key(url, "root", admin=True)
    port = free_port()
    with FakeEngine(Reply.saying("it is 4")) as engine:
        argv = ["--upstream", engine.url, "--ledger", url, "--workers", "2"]
        process = served(argv, port, tmp_path / "log")
        try:
            g = Gateways([f"http://127.0.0.1:{port}"])
            codes = []
            for _ in range(30):
                codes.append(g.ask(key).status_code)
                time.sleep(0.05)
            # Both admit from what they heard last, so a few may be more.
            assert 20 <= codes.count(200) <= 26
            assert codes[-1] == 429
            answered = f'arm="bypass",ending="answered",status="200"}} {codes.count(200)}.0'
            for _ in range(4):  # whichever worker answers
                tools.wait_for(lambda: answered in g.get("/metrics", admin).text, 10)
        finally:
            process.terminate()
            process.wait(30)
    assert process.returncode == 0, (tmp_path / "log").read_text()
