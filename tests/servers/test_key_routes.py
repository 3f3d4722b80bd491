"""Keys that end, rotate, are for some models and so many requests at a time; their API."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.ledger.api_keys import load_ring
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Talents
from tests.servers.tools import Tools

CHAT = "/v1/chat/completions"
KEYS = "/admin/keys"


class Site:
    """One gateway, asked with keys."""

    def __init__(self, url: str, engine: FakeEngine) -> None:
        self.url, self.engine = url, engine

    def call(
        self, path: str, body: Any = None, *, key: str | None = None, method: str = "POST"
    ) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.request(method, self.url + path, json=body, headers=headers, timeout=20)

    def ask(self, key: str, model: str = "small", **more: Any) -> httpx2.Response:
        turn = [{"role": "user", "content": "what is 2+2"}]
        return self.call(CHAT, {"model": model, "messages": turn, **more}, key=key)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


@contextmanager
def site(tools: type[Tools], ledger: str, **reply: Any) -> Iterator[Site]:
    talents = Talents(models=("small", "large"))
    with FakeEngine(Reply.saying("it is 4", **reply), talents=talents) as engine:
        kept = LedgerConfig(url=ledger, flush_s=0.05)
        config = tools.config_for(engine.url, patience_s=20.0, ledger=kept)
        with tools.serving(config, hooks=serving_hooks(config)) as url:
            yield Site(url, engine)


def made(site: Site, by: str | None, /, **body: Any) -> str:
    answer = site.call(KEYS, body, key=by)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    key: str = answer.json()["key"]
    return key


def code_of(answer: httpx2.Response) -> str:
    code: str = answer.json()["error"]["code"]
    return code


def test_an_admin_makes_lists_rotates_and_revokes(tools: type[Tools], ledger: str) -> None:
    with site(tools, ledger) as s:
        admin = made(s, None, name="ops", admin=True)  # on a loopback without keys anyone may
        assert s.call(KEYS, {"name": "x"}).status_code == 401  # from then on nobody without one
        alice = made(s, admin, name="alice", requests_per_minute=60, budget_usd=5)
        assert s.ask(alice).status_code == 200
        for path, method in ((KEYS, "GET"), (KEYS, "POST"), (f"{KEYS}/ops", "DELETE"),
                             (f"{KEYS}/ops/rotate", "POST")):  # fmt: skip
            refused = s.call(path, {"name": "mine"}, key=alice, method=method)
            assert (refused.status_code, code_of(refused)) == (403, "not_an_admin")
        listed = s.call(KEYS, key=admin, method="GET")
        assert [each["name"] for each in listed.json()["keys"]] == ["ops", "alice"]
        assert listed.json()["keys"][1]["used_requests"] == 1
        secret = alice[-43:]
        assert secret not in listed.text and "digest" not in listed.text
        rotated = s.call(f"{KEYS}/alice/rotate", {"grace_s": 300}, key=admin).json()["key"]
        assert rotated != alice
        assert [s.ask(key).status_code for key in (rotated, alice)] == [200, 200]
        third = s.call(f"{KEYS}/alice/rotate", key=admin).json()["key"]  # without a body: no grace
        assert [s.ask(key).status_code for key in (third, rotated, alice)] == [200, 401, 401]
        assert s.call(f"{KEYS}/alice", key=admin, method="DELETE").json()["revoked_s"]
        assert s.ask(third).status_code == 401
        absent = s.call(f"{KEYS}/alice", key=admin, method="DELETE")
        assert absent.status_code == 404
        for wrong in ({"name": ""}, {"name": "x", "rpm": 3}, {"name": "x", "budget_usd": -1}, []):
            assert s.call(KEYS, wrong, key=admin).status_code == 400
    store = Store(ledger)
    assert len(load_ring(store).keys) == 2
    store.close()


def test_a_key_for_some_models_asks_for_no_other(tools: type[Tools], ledger: str) -> None:
    with site(tools, ledger) as s:
        admin = made(s, None, name="ops", admin=True)
        key = made(s, admin, name="team", models=["small", "suffice/s*"])
        assert s.ask(key).status_code == 200
        assert s.ask(key, "suffice/single").status_code == 200
        drawn = s.engine.seen.took("large").completion_tokens
        table = {"policy": "single", "model": "large"}
        refused = [
            s.ask(key, "large"),
            s.ask(key, "suffice/auto"),
            s.ask(key, "suffice/single", suffice={"model": "large"}),
            s.ask(key, "suffice/single", suffice={"policy": "single@large"}),
            s.ask(key, "suffice/single", suffice={"policy": table}),
            s.call("/v1/embeddings", {"model": "large", "input": "x"}, key=key),
        ]
        assert [(one.status_code, code_of(one)) for one in refused] == [
            (403, "model_not_allowed")
        ] * len(refused)
        assert s.engine.seen.took("large").completion_tokens == drawn
        shown = {each["id"] for each in s.call("/v1/models", key=key, method="GET").json()["data"]}
        assert "small" in shown and "suffice/single" in shown
        assert not {"large", "suffice/auto"} & shown


def test_a_key_that_has_expired_is_refused(tools: type[Tools], ledger: str) -> None:
    with site(tools, ledger) as s:
        admin = made(s, None, name="ops", admin=True)
        brief, long = (made(s, admin, name="x", expires_in_s=each) for each in (0.001, 3600.0))
        time.sleep(0.01)
        assert [s.ask(key).status_code for key in (long, brief)] == [200, 401]


def test_so_many_requests_at_a_time(tools: type[Tools], ledger: str) -> None:
    with site(tools, ledger, delay_s=0.2) as s:
        key = made(s, None, name="ops", admin=True, parallel_requests=2)
        found: list[httpx2.Response] = []
        threads = [threading.Thread(target=lambda: found.append(s.ask(key))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [one.status_code for one in found]
        assert statuses.count(200) >= 2, found[-1].text
        assert set(statuses) == {200, 429}
        assert s.engine.seen.most_running <= 2
        assert all("retry-after" in one.headers for one in found if one.status_code == 429)
        assert s.ask(key).status_code == 200  # whoever has ended holds no place


def test_where_a_key_stands_with_its_limits(tools: type[Tools], ledger: str) -> None:
    with site(tools, ledger) as s:
        key = made(s, None, name="ops", admin=True, requests_per_minute=2, tokens_per_minute=9000)
        answers = [s.ask(key), s.ask(key, "suffice/single", stream=True), s.ask(key)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        left = [one.headers["x-ratelimit-remaining-requests"] for one in answers]
        assert left == ["1", "0", "0"]
        assert {one.headers["x-ratelimit-limit-tokens"] for one in answers} == {"9000"}
        assert 0 < int(answers[2].headers["x-ratelimit-reset-requests"].rstrip("s")) <= 65
