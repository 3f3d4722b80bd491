"""A certificate's monitors, shared by all processes on a ledger, and who may move them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.admission import CacheConfig, TrafficConfig
from suffice.gateway.config_sections import KeysConfig
from suffice.ledger.api_keys import Limits, add_key, make_key
from suffice.ledger.store import Store
from suffice.policies.policy_file import PolicyFile, sealed
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.policies.policy_table import policy_table
from tests.postgres import PostgresServer
from tests.servers.test_keys import Gateways, free_port, gateways, served
from tests.servers.tools import Tools

TABLE = policy_table("adaptive_consistency:max_samples=2", "single", model="fake")
ID = TABLE["certificate"]["id"]
NET = policy_table("adaptive_consistency:max_samples=2", "single", model="fake", loss="drop")
ASK: dict[str, Any] = {
    "model": "suffice/careful",
    "messages": [{"role": "user", "content": "what is 2+2"}],
    "suffice": {"answer_format": "number"},
}
# Harmed answers in a row that raise the alarm where 2 points are certified, see test_monitor.
NEEDED = 2


def status(g: Gateways, number: int, key: str | None = None) -> str:
    answer = g.ask(key, number, ASK)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["suffice"]["certificate"]["status"]
    return found


def made(g: Gateways, number: int = 0, key: str | None = None, **changed: Any) -> str:
    """The id of a fresh answer."""
    answer = g.ask(key, number, ASK | changed)
    assert answer.status_code == 200, answer.text
    found: str = answer.headers["x-request-id"]
    return found


def judge(
    g: Gateways, request_id: str, number: int = 0, key: str | None = None, **said: Any
) -> httpx2.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"request_id": request_id, "correct": False, "harmed": True} | said
    return httpx2.post(
        f"{g.urls[number]}/v1/feedback",
        json={name: value for name, value in body.items() if value is not None},
        headers=headers,
        timeout=20,
    )


def audit(g: Gateways, number: int) -> None:
    answer = judge(g, made(g, number), number)
    assert answer.status_code == 200, answer.text


def check(tools: type[Tools], url: str) -> None:
    settings = {"policies": {"careful": TABLE}}
    with gateways(tools, url, count=2, **settings) as g:
        assert [status(g, number) for number in (0, 1)] == ["valid", "valid"]
        for number in range(NEEDED):
            audit(g, number % 2)  # neither process sees enough by itself
        tools.wait_for(lambda: status(g, 0) == status(g, 1) == "switched off", 10)
        page = g.get("/metrics").text
        assert f'suffice_certificate_switched_off{{certificate="{ID}"}} 1.0' in page
    with gateways(tools, url, **settings) as g:
        assert status(g, 0) == "switched off"  # from the first request on


def test_two_processes_share_a_monitor_on_sqlite(tools: type[Tools], tmp_path: Path) -> None:
    check(tools, str(tmp_path / "ledger.db"))


def test_two_processes_share_a_monitor_on_postgres(
    tools: type[Tools], postgres: PostgresServer
) -> None:
    check(tools, postgres.new_url())


def test_what_was_answered_before_the_alarm_is_not_kept_for_later(
    tools: type[Tools], tmp_path: Path
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
        assert last.json()["suffice"]["certificate"]["status"] == "switched off"


@pytest.mark.slow
def test_workers_share_a_monitor(tools: type[Tools], tmp_path: Path) -> None:
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
            for _ in range(NEEDED):
                audit(g, 0)
            tools.wait_for(lambda: [status(g, 0) for _ in range(8)] == ["switched off"] * 8, 20)
        finally:
            process.terminate()
            process.wait(30)
    assert process.returncode == 0, (tmp_path / "log").read_text()


# --- who may judge what


class Keyed(Gateways):
    """Gateways with the key of an ordinary client, of an auditor, and of an admin."""

    def __init__(self, urls: list[str], store: Store) -> None:
        super().__init__(urls)
        self.store = store
        self.alice, self.judge, self.admin = (
            self.new_key(name, **what)
            for name, what in (("alice", {}), ("judge", {"audit": True}), ("root", {"admin": True}))
        )

    def new_key(self, name: str, **what: Any) -> str:
        key, text = make_key(name, **what)
        add_key(self.store, key)
        return text

    def audited(self) -> int:
        (count,) = self.store.database.execute("SELECT COUNT(*) FROM audits")
        return int(count[0])


@contextmanager
def keyed(tools: type[Tools], url: str, table: Any = TABLE, **settings: Any) -> Iterator[Keyed]:
    store = Store(url)
    try:
        with gateways(
            tools, url, keys=KeysConfig(required=True), policies={"careful": table}, **settings
        ) as g:
            found = Keyed(g.urls, store)
            tools.wait_for(lambda: found.get("/admin/state", found.admin).status_code == 200)
            yield found
    finally:
        store.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_an_ordinary_key_never_moves_a_monitor(tools: type[Tools], url: str) -> None:
    with keyed(tools, url) as g:
        mine = [made(g, key=g.alice) for _ in range(2 * NEEDED)]
        for request_id in mine:
            for said in ({}, {"harmed": None, "baseline_correct": True}):
                refused = judge(g, request_id, key=g.alice, **said)
                assert code_of(refused) == (403, "not_an_auditor")
            plain = judge(g, request_id, key=g.alice, harmed=None)
            assert plain.status_code == 200  # its own opinion of its own answer it may give
        assert g.audited() == 0
        assert status(g, 0, g.alice) == "valid"
        for request_id in mine[:NEEDED]:
            assert judge(g, request_id, key=g.judge).json()["certificate"] == ID
        tools.wait_for(lambda: status(g, 0, g.alice) == "switched off")


def test_an_answer_is_audited_once_wherever_and_whenever(tools: type[Tools], url: str) -> None:
    with keyed(tools, url, count=2) as g:
        request_id = made(g, key=g.alice)
        assert judge(g, request_id, key=g.admin).status_code == 200
        for number, key in ((0, g.admin), (1, g.admin), (1, g.judge)):
            again = judge(g, request_id, number, key)
            assert code_of(again) == (409, "already_judged")
        assert g.audited() == 1
    with keyed(tools, url) as g:  # and after a restart
        assert code_of(judge(g, request_id, key=g.admin)) == (409, "already_judged")
        assert status(g, 0, g.alice) == "valid"


def test_only_what_this_certificate_covered_counts(tools: type[Tools], url: str) -> None:
    with keyed(tools, url) as g:
        for changed, due in (
            ({"model": "suffice/single"}, "not_certified"),
            ({"model": "fake", "suffice": {}}, "not_certified"),
            ({"suffice": {}}, "not_covered"),  # free-form text
            ({"n": 2}, "several_choices"),
        ):
            refused = judge(g, made(g, key=g.alice, **changed), key=g.judge)
            assert code_of(refused) == (409, due), changed
        assert code_of(judge(g, "req-unknown", key=g.judge)) == (404, "request_not_found")
        assert g.audited() == 0
        before = made(g, key=g.alice)
        for _ in range(NEEDED):
            judge(g, made(g, key=g.alice), key=g.judge)
        tools.wait_for(lambda: status(g, 0, g.alice) == "switched off")
        off = judge(g, made(g, key=g.alice), key=g.judge)
        assert code_of(off) == (409, "not_covered")
        assert judge(g, before, key=g.judge).status_code == 200  # it was covered when it was given


def test_an_answer_of_the_baseline_is_nothing_to_audit(tools: type[Tools], url: str) -> None:
    never = policy_table("single", "self_consistency:samples=3", model="fake")
    never["groups"][0]["accept"] = None  # nothing but the baseline is certified
    table = sealed(PolicyFile.model_validate(never)).model_dump(mode="json")
    with keyed(tools, url, table) as g:
        refused = judge(g, made(g, key=g.alice), key=g.judge)
        assert code_of(refused) == (409, "answered_by_baseline")


def test_a_certificate_of_the_net_drop_asks_for_both_verdicts(tools: type[Tools], url: str) -> None:
    with keyed(tools, url, NET) as g:
        request_id = made(g, key=g.alice)
        half = judge(g, request_id, key=g.judge, correct=True, harmed=False)
        assert half.status_code == 400
        assert "baseline_correct" in half.json()["error"]["message"]
        for said in (
            {"correct": True, "harmed": True},
            {"correct": True, "harmed": None, "baseline_correct": True, "score": 1.0},
            {"correct": None, "score": 1.0, "harmed": None, "baseline_correct": True},
            {"correct": False, "harmed": False, "baseline_correct": True},
        ):
            wrong = judge(g, request_id, key=g.judge, **said)
            assert code_of(wrong) == (400, "invalid_value"), said
        helped = judge(
            g, request_id, key=g.judge, correct=True, harmed=None, baseline_correct=False
        )
        assert helped.status_code == 200
        neither = judge(g, made(g, key=g.alice), key=g.judge, correct=False, harmed=False)
        assert neither.status_code == 200  # wrong, and not harmed: the baseline is wrong too
        rows = g.store.database.execute("SELECT harmed, helped FROM audits ORDER BY at_s")
        assert rows == [(0, 1), (0, 0)]


def test_a_net_drop_switches_off_although_much_helped_before(tools: type[Tools], url: str) -> None:
    with keyed(tools, url, NET) as g:
        for _ in range(3):
            judge(g, made(g, key=g.alice), key=g.judge, correct=True, harmed=None,
                  baseline_correct=False)  # fmt: skip
        needed = 0
        while status(g, 0, g.alice) == "valid":
            judge(g, made(g, key=g.alice), key=g.judge)
            needed += 1
            assert needed < 40
        assert needed > 8  # of harm alone it would be two


def test_judgements_are_limited_like_other_calls(tools: type[Tools], url: str) -> None:
    with keyed(tools, url) as g:
        slow = g.new_key("slow", limits=Limits(requests_per_minute=3))
        tools.wait_for(lambda: g.get("/v1/models", slow).status_code == 200)
        request_id = made(g, key=slow)
        codes = [judge(g, request_id, key=slow, harmed=None).status_code for _ in range(8)]
        assert codes == [200, 200, *[429] * 6]
        last = judge(g, request_id, key=slow, harmed=None)
        assert last.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(last.headers["retry-after"]) > 0
        (count,) = g.store.database.execute("SELECT COUNT(*) FROM feedback")
        assert count[0] == 2


def test_while_the_ledger_is_away_judgements_are_refused_with_503(
    tools: type[Tools], postgres: PostgresServer
) -> None:
    with keyed(tools, postgres.new_url()) as g:
        request_id = made(g, key=g.alice)
        assert judge(g, request_id, key=g.alice, harmed=None).status_code == 200
        postgres.stop()
        try:
            for said in ({"harmed": None}, {}):
                refused = judge(g, request_id, key=g.judge, **said)
                assert code_of(refused) == (503, "ledger_unavailable")
                assert "retry-after" in refused.headers
                assert "postgres" not in refused.text.lower()
        finally:
            postgres.start()
        tools.wait_for(lambda: judge(g, request_id, key=g.judge).status_code == 200, 20)
