"""The gateway audits by itself: a share of certified answers, answered by the baseline too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import ServingHooks, open_hooks
from suffice.ledger import audits
from suffice.ledger.api_keys import Limits, add_key, make_key
from suffice.ledger.records import COLUMNS, AuditRow
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Talents
from tests.policies.policy_table import policy_table
from tests.servers.tools import Tools

SMALL_LARGE = {
    "cheap": "single@small", "safe": "single@large", "model": ("small", "large"), "loss": "drop",
}  # fmt: skip
VOTES = {
    "cheap": "adaptive_consistency:max_samples=8@small",
    "safe": "self_consistency:samples=8@small",
    "model": "small",
}
ASK: dict[str, Any] = {
    "model": "suffice/careful",
    "messages": [{"role": "user", "content": "what is 2+2"}],
    "suffice": {"answer_format": "number"},
}


class Stack:
    """A gateway that audits, its engine and its ledger."""

    def __init__(self, url: str, engine: FakeEngine, opened: ServingHooks, store: Store) -> None:
        self.url, self.engine, self.opened, self.store = url, engine, opened, store

    def ask(self, key: str | None = None, **changed: Any) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = httpx2.post(
            f"{self.url}/v1/chat/completions", json=ASK | changed, headers=headers, timeout=20
        )
        assert answer.status_code == 200, answer.text
        return answer

    def judge(self, answer: httpx2.Response, **said: Any) -> int:
        body = {"request_id": answer.headers["x-request-id"], **said}
        return httpx2.post(f"{self.url}/v1/feedback", json=body, timeout=20).status_code

    def audits(self, count: int, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """The rows of audits, once there are `count`."""
        names, until = COLUMNS[AuditRow], time.monotonic() + timeout_s
        while True:
            rows = self.store.database.execute(
                f"SELECT {', '.join(names)} FROM audits ORDER BY at_s"
            )
            if len(rows) >= count:
                return [dict(zip(names, row, strict=True)) for row in rows]
            assert time.monotonic() < until, f"{len(rows)} of {count} audits came"
            time.sleep(0.02)

    def asked(self, model: str) -> int:
        """Samples that the engine drew of a model, the gateway's probes aside."""
        return sum(body["model"] == model for body in self.engine.seen.bodies)


@contextmanager
def stack(
    tools: type[Tools],
    path: Path,
    script: Any,
    *,
    table: Any = None,
    share: float = 1.0,
    **settings: Any,
) -> Iterator[Stack]:
    talents = Talents(models=("small", "large"))
    with FakeEngine(script, talents=talents) as engine:
        config = tools.config_for(
            engine.url,
            ledger=LedgerConfig(url=str(path / "ledger.db"), flush_s=0.05),
            policies={"careful": policy_table(**(table or SMALL_LARGE))},
            audit_share=share,
            patience_s=5.0,
            **settings,
        )
        opened = open_hooks(config)
        store = Store(str(path / "ledger.db"))
        try:
            with tools.serving(config, hooks=opened.in_order) as url:
                yield Stack(url, engine, opened, store)
        finally:
            store.close()


def models(large: str, small: str = "4", **how: Any) -> Any:
    """Two models that say the same every time."""
    said = {"small": small, "large": large}
    return lambda number, body: Reply.saying(
        f"it is {said[body['model']]}", **(how if body["model"] == "large" else {})
    )


def test_the_client_gets_the_certified_answer_and_the_books_the_audit(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path, models(large="5")) as s:
        answer = s.ask()
        assert answer.json()["choices"][0]["message"]["content"] == "it is 4"
        (row,) = s.audits(1)
        assert row["request_id"] == answer.headers["x-request-id"]
        assert (row["differs"], row["zeros"], row["error_code"]) == (1, 0, None)
        assert (row["samples"], row["completion_tokens"]) == (1, 3)
        assert row["prompt_tokens"] > 0
        assert answer.json()["usage"]["completion_tokens"] == 3  # the client's own, no more
        tools.wait_for(lambda: 'suffice_audits_total{result="differ"} 1.0' in _metrics(s))
        assert 'suffice_audit_tokens_total{kind="completion"} 3.0' in _metrics(s)
        (sums,) = audits.audits_since(s.store, 0.0)
        assert (sums["compared"], sums["differ"], sums["waiting"]) == (1, 1, 1)
        (waits,) = audits.waiting(s.store)
        assert waits["request_id"] == row["request_id"]


def _metrics(s: Stack) -> str:
    return httpx2.get(f"{s.url}/metrics").text


def test_the_client_does_not_wait_for_the_audit(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, models(large="4", delay_s=0.5)) as s:
        for stream in (False, True):
            s.ask(stream=stream)
            assert s.audits(0) == [] or len(s.audits(0)) < 1 + stream
        assert [row["differs"] for row in s.audits(2)] == [0, 0]


def test_no_key_pays_for_an_audit(tools: type[Tools], tmp_path: Path) -> None:
    store = Store(str(tmp_path / "ledger.db"))
    key, text = make_key("alice", limits=Limits(budget_tokens=2000))
    add_key(store, key)
    store.close()
    with stack(tools, tmp_path, models(large="4")) as s:
        tools.wait_for(lambda: httpx2.get(f"{s.url}/v1/models", headers={
            "authorization": f"Bearer {text}"}).status_code == 200)  # fmt: skip
        usage = s.ask(text).json()["usage"]
        s.audits(1)
        assert s.opened.meter.used(key).tokens == usage["total_tokens"]
        tools.wait_for(
            lambda: (
                s.store.database.execute("SELECT SUM(completion_tokens) FROM requests")[0][0]
                == usage["completion_tokens"]
            )
        )


def test_the_baseline_goes_on_from_the_samples_of_a_vote(
    tools: type[Tools], tmp_path: Path
) -> None:
    """Four samples settled the vote: the audit draws the other four of the eight, no more."""
    script = lambda number, body: Reply.saying(f"it is {4 if number < 4 else 5}")  # noqa: E731
    with stack(tools, tmp_path, script, table=VOTES) as s:
        answer = s.ask()
        assert answer.json()["suffice"]["samples_run"] == 4
        assert answer.json()["suffice"]["exit"] == "accepted"
        (row,) = s.audits(1)
        assert (row["samples"], row["completion_tokens"]) == (4, 12)
        assert s.asked("small") == 8
        assert row["differs"] == 0  # 4 to 4, and the first answer of the vote wins a tie


def test_answers_that_come_to_differ_switch_the_certificate_off(
    tools: type[Tools], tmp_path: Path
) -> None:
    """Certified where at most 5 % of all answers differ: now the baseline says something else."""
    table = SMALL_LARGE | {"most_differ": 0.05}
    with stack(tools, tmp_path, models(large="5"), table=table) as s:
        number = 0
        while (certificate := s.ask().json()["suffice"]["certificate"])["status"] == "valid":
            number += 1
            s.audits(number)
            assert number < 40
        assert certificate["status"] == "switched off"
        assert "differ from the baseline's" in certificate["reason"]
        assert 1 < number < 10
        assert s.ask().json()["choices"][0]["message"]["content"] == "it is 5"
        time.sleep(0.2)
        assert len(s.audits(number)) == number  # nothing is covered any more


def test_answers_that_stay_the_same_raise_no_alarm(tools: type[Tools], tmp_path: Path) -> None:
    table = SMALL_LARGE | {"most_differ": 0.05}
    with stack(tools, tmp_path, models(large="4"), table=table) as s:
        for _ in range(30):
            s.ask()
        s.audits(30)
        assert s.ask().json()["suffice"]["certificate"]["status"] == "valid"


def test_judged_pairs_find_the_loss(tools: type[Tools], tmp_path: Path) -> None:
    """What differs waits for a judgement; unjudged it counts as a gain and alarms nobody."""
    with stack(tools, tmp_path, models(large="5")) as s:
        answers = [s.ask() for _ in range(25)]
        s.audits(25)
        assert s.ask().json()["suffice"]["certificate"]["status"] == "valid"
        for answer in answers:
            assert s.judge(answer, correct=False, baseline_correct=True) == 200
        tools.wait_for(lambda: s.ask().json()["suffice"]["certificate"]["status"] == "switched off")
        assert s.judge(answers[0], correct=False, baseline_correct=True) == 409


def test_an_equal_answer_is_known_to_lose_nothing(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, models(large="4")) as s:
        for number in range(1, 13):
            answer = s.ask()
            s.audits(number)
            assert s.judge(answer, correct=False, baseline_correct=True) == 200
        assert s.ask().json()["suffice"]["certificate"]["status"] == "valid"


@pytest.mark.parametrize(
    "changed",
    [
        {"tools": [{"type": "function", "function": {"name": "pay", "parameters": {}}}]},
        {"store": True},
        {"web_search_options": {}},
        {"n": 2},
        {"suffice": {}},  # free-form text is not covered
        {"model": "suffice/single", "suffice": {"model": "small"}},
    ],
)
def test_what_is_never_audited(tools: type[Tools], tmp_path: Path, changed: Any) -> None:
    with stack(tools, tmp_path, models(large="4")) as s:
        s.ask(**changed)
        s.ask()  # this one is: whatever the other had begun would be there by then
        s.audits(1)
        time.sleep(0.1)
        assert len(s.audits(1)) == 1


def test_a_share_of_nothing_and_of_some(tools: type[Tools], tmp_path: Path) -> None:
    with stack(tools, tmp_path, models(large="4"), share=0.0) as s:
        for _ in range(5):
            s.ask()
        time.sleep(0.2)
        assert s.asked("large") == 0
        assert s.audits(0) == []


def test_a_fault_of_the_upstream_is_booked_and_counts_for_nothing(
    tools: type[Tools], tmp_path: Path
) -> None:
    def script(number: int, body: Any) -> Reply:
        return Reply.saying("it is 4") if body["model"] == "small" else Reply(status=500)

    with stack(tools, tmp_path, script) as s:
        for number in range(1, 4):
            s.ask()
            row = s.audits(number, 10.0)[-1]
            assert row["differs"] is None
            assert row["error_code"] is not None
        assert 'suffice_audits_total{result="failed"} 3.0' in _metrics(s)
        assert s.ask().json()["suffice"]["certificate"]["status"] == "valid"


def test_an_audit_that_is_under_way_ends_with_the_process(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path, models(large="4", delay_s=30.0)) as s:
        s.ask()
        tools.wait_for(lambda: s.asked("large") == 1)
    tools.wait_for(lambda: s.engine.seen.running == 0)
    store = Store(str(tmp_path / "ledger.db"))
    (sums,) = audits.audits_since(store, 0.0)
    assert (sums["compared"], sums["failed"], sums["samples"]) == (0, 1, 1)  # drawn, so booked
    store.close()


def test_a_judgement_before_the_audit_is_over_counts_once(
    tools: type[Tools], tmp_path: Path
) -> None:
    table = SMALL_LARGE | {"most_differ": 0.5}
    with stack(tools, tmp_path, models(large="5", delay_s=0.3), table=table) as s:
        answer = s.ask()
        assert s.judge(answer, correct=False, baseline_correct=True) == 200
        until = time.monotonic() + 5
        while s.audits(1)[0]["differs"] is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        (row,) = s.audits(1)
        assert (row["harmed"], row["differs"]) == (1, 1)
        (monitor,) = s.opened.totals.monitors
        tools.wait_for(lambda: monitor.state.above[1].n == 1)  # told once the row is kept
        drop, differ = monitor.state.above
        assert (drop.n, drop.total) == (1, 1.0)
        assert (differ.n, differ.total) == (1, 1.0)
