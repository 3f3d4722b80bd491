"""A certificate earned on traffic, through a gateway on real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import LedgerConfig, LiveConfig
from suffice.gateway.observe.serving_hooks import ServingHooks, open_hooks
from suffice.gateway.policy_router import PolicyRouter
from suffice.ledger import shadows
from suffice.ledger.records import AuditRow
from suffice.ledger.shadows import ShadowRow
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine, Reply, Talents
from tests.servers.tools import Tools

LIVE = LiveConfig(
    safe="single@large", cheap=("single@small",), target=0.2, share=1.0, share_after=1.0
)


class Stack:
    def __init__(self, url: str, engine: FakeEngine, opened: ServingHooks, path: str) -> None:
        self.url, self.engine, self.opened, self.path = url, engine, opened, path

    def ask(self, text: str = "what is 2+2", **more: Any) -> dict[str, Any]:
        body = {"model": "large", "messages": [{"role": "user", "content": text}], **more}
        answer = httpx2.post(f"{self.url}/v1/chat/completions", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def control(self) -> LiveControl:
        (found,) = self.opened.totals.monitors.live.values()
        return found

    def settled(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many requests are shadowed and folded."""
        until = time.monotonic() + timeout_s
        while self.control.state.n < count:
            assert time.monotonic() < until, f"{self.control.state.n} of {count} shadowed"
            time.sleep(0.02)

    def asked(self, model: str) -> int:
        return sum(body["model"] == model for body in self.engine.seen.bodies)


@contextmanager
def stack(
    tools: type[Tools], path: Path, script: Any, live: LiveConfig = LIVE, **more: Any
) -> Iterator[Stack]:
    with FakeEngine(script, talents=Talents(models=("small", "large"))) as engine:
        url = str(path / "ledger.db")
        settings = {"answer_format": "number", **more}
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=url, flush_s=0.05), live=live, patience_s=5.0,
            **settings,
        )  # fmt: skip
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as served:
            yield Stack(served, engine, opened, url)


def saying(small: str, large: str) -> Any:
    said = {"small": small, "large": large}
    return lambda number, body: Reply.saying(f"it is {said[body['model']]}")


def test_shadows_then_certifies_then_saves_and_survives_a_restart(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path, saying("4", "4")) as s:
        first = s.ask()
        assert first["model"] == "large"
        assert first["suffice"]["certificate"]["status"] == "shadowing"
        while s.control.answering is None:
            before = s.control.state.n
            s.ask()
            s.settled(before + 1)
            assert before < 60
        certified = s.control.state.n
        cheap = s.ask()
        assert cheap["model"] == "small"
        standing = cheap["suffice"]["certificate"]
        assert (standing["status"], standing["candidate"], standing["target"]) == ("valid", 1, 0.2)
        assert standing["shadowed"] == certified and cheap["suffice"]["exit"] == "accepted"
        s.settled(certified + 1)  # now it is the safe policy that runs in the background
        assert s.asked("large") == s.asked("small") == certified + 1
        state = httpx2.get(f"{s.url}/admin/state").json()["live_certificates"][0]
        assert state["answering"] == 1 and state["events"][0]["happened"] == "promoted"
        metrics = httpx2.get(f"{s.url}/metrics").text
        assert f'suffice_live_candidate{{certificate="{s.control.certificate}"}} 1.0' in metrics
        assert "suffice_shadows_total" in metrics
        kept = s.control.state
    with stack(tools, tmp_path, saying("4", "4")) as s:
        assert s.control.state == kept
        assert s.ask()["model"] == "small"


def test_what_differs_is_never_switched_on_and_loses_its_place(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path, saying("5", "4")) as s:
        for number in range(40):
            assert s.ask()["model"] == "large"
            s.settled(number + 1)
        assert s.control.state.arms[0].evidence.mean == 1.0


def test_shadow_only_changes_no_answer(tools: type[Tools], tmp_path: Path) -> None:
    only = LiveConfig(
        safe="single@large", cheap=("single@small",), target=0.2, share=1.0, share_after=1.0,
        shadow_only=True,
    )  # fmt: skip
    prices = Prices.parse(["small=1/1", "large=10/10"])
    with stack(tools, tmp_path, saying("4", "4"), only, prices=prices) as s:
        for number in range(40):
            assert s.ask()["model"] == "large"
            s.settled(number + 1)
        shown = s.control.shown()
        assert shown["candidates"][0]["on"] and shown["answering"] is None
        assert shown["cheap_cost_share"] == pytest.approx(0.1)


def test_a_cascade_goes_on_from_the_clients_own_sample(tools: type[Tools], tmp_path: Path) -> None:
    cascade = LiveConfig(
        safe="single@large", cheap=("agreement:models=small+other > single@large",), share=1.0
    )
    said = {"small": "1", "other": "2", "large": "3"}
    script = lambda number, body: Reply.saying(said[body["model"]])  # noqa: E731
    with FakeEngine(script, talents=Talents(models=tuple(said))) as engine:
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=str(tmp_path / "l.db"), flush_s=0.05),
            live=cascade, answer_format="number",
        )  # fmt: skip
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            s = Stack(url, engine, opened, "")
            s.ask()
            s.settled(1)
            # The two disagree, so its last step is the client's own answer: not drawn again.
            assert (s.asked("large"), s.asked("small"), s.asked("other")) == (1, 1, 1)
            assert s.control.state.arms[0].evidence.total == 0.0


@pytest.mark.parametrize("by_age", [False, True])
def test_engines_are_told_that_a_shadow_run_can_wait(
    tools: type[Tools], tmp_path: Path, by_age: bool
) -> None:
    """By the field that vLLM schedules by: the larger, the later."""
    waits = replace(LIVE, shadow_priority=1000)
    traffic = TrafficConfig(priority_by_age=by_age)
    with stack(tools, tmp_path, saying("4", "4"), waits, traffic=traffic) as s:
        s.ask()
        s.settled(1)
        told = {body["model"]: body.get("priority") for body in s.engine.seen.bodies}
    assert told["small"] - (told["large"] or 0) == 1000
    assert (told["large"] is None) != by_age


def test_what_is_not_shadowed(tools: type[Tools], tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with stack(tools, tmp_path, saying("4", "4")) as s:
        s.ask(tools=[tool])
        s.ask(n=2)
        s.ask(suffice={"answer_format": "text"})
        s.ask(web_search_options={})
        s.ask()
        s.settled(1)
        assert s.asked("small") == 1


def test_the_books_hold_every_token_and_a_limit_ends_shadowing(
    tools: type[Tools], tmp_path: Path
) -> None:
    limited = LiveConfig(safe="single@large", cheap=("single@small",), share=1.0, tokens_per_day=30)
    with stack(tools, tmp_path, saying("4", "4"), limited) as s:
        for _ in range(8):
            s.ask()
            time.sleep(0.1)
        store = Store(s.path)
        tools.wait_for(lambda: store.database.execute("SELECT COUNT(*) FROM requests")[0][0] == 8)
        sums = "SELECT SUM(prompt_tokens), SUM(completion_tokens) FROM"
        asked = store.database.execute(f"{sums} requests")[0]
        shadowed = store.database.execute(f"{sums} audits")[0]
        store.close()
        took = s.engine.seen.took()
        assert asked[0] + shadowed[0] == took.prompt_tokens
        assert asked[1] + shadowed[1] == took.completion_tokens
        assert s.asked("small") < 8 and sum(shadowed) >= 30
        assert s.control.share() == 0.0


def test_a_request_counts_once_whoever_writes_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "l.db"))
    spent = AuditRow(request_id="a", at_s=1.0, certificate="live-x", zeros=0)
    row = ShadowRow(certificate="live-x", request_id="a", at_s=1.0, share=0.5, differs="d")
    shadows.record(store, spent, row)
    shadows.record(store, spent, row)
    other = AuditRow(request_id="b", at_s=2.0, certificate="live-x", zeros=0)
    shadows.record(store, other, ShadowRow(
        certificate="live-x", request_id="b", at_s=2.0, share=0.5, differs="s"))  # fmt: skip
    found = shadows.since(store, "live-x", 0)
    store.close()
    assert [(each.number, each.request_id) for each in found] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("live", "answer_format", "said"),
    [
        ({"safe": "single@large"}, "number", "safe without cheap"),
        ({"cheap": ("single@small",)}, "number", "cheap has no meaning without safe"),
        ({"safe": "single@a", "cheap": ("single@b",)}, None, "free text needs a judge"),
        ({"safe": "single@a", "cheap": ("single@a",)}, "number", "must differ"),
        ({"safe": "single@a", "cheap": ("sngle@b",)}, "number", "sngle"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    live: dict[str, Any], answer_format: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        PolicyRouter(GatewayConfig(live=LiveConfig(**live), answer_format=answer_format))


def test_saved_engine_time_is_no_less_than_the_engine_itself_took(
    tools: type[Tools], tmp_path: Path
) -> None:
    """What it took for each model at least. Nothing is said before the first comparison."""
    worked: dict[str, float] = {"small": 0.0, "large": 0.0}

    def works(number: int, body: dict[str, Any]) -> Reply:
        took_s = 0.06 if body["model"] == "large" else 0.01
        time.sleep(took_s)  # never shorter
        worked[body["model"]] += took_s
        return Reply.saying("it is 4")

    with stack(tools, tmp_path, works) as s:
        state = lambda: httpx2.get(f"{s.url}/admin/state").json()["live_certificates"][0]  # noqa: E731
        assert state()["engine"]["saved_s"] is None
        count = 0
        while s.control.answering is None:
            s.ask()
            count += 1
            s.settled(count)
        engine = state()["engine"]
        # Shadow runs are all there is yet: it has cost more than it has saved.
        assert engine["cheap_answers"] == 0 and engine["saved_s"] == -engine["shadow_s"] < 0.0
        # A request is a little longer here than in the engine, and never shorter.
        assert engine["safe_s"] * count >= worked["large"]
        assert engine["cheap_s"] * count >= worked["small"]
        assert engine["shadow_s"] == pytest.approx(engine["cheap_s"] * count)
        assert engine["safe_s"] > engine["cheap_s"]
        before = worked.copy()
        for number in range(5):
            assert s.ask()["model"] == "small"
            s.settled(count + number + 1)
        tools.wait_for(lambda: state()["engine"]["cheap_answers"] == 5)
        engine = state()["engine"]
        assert engine["cheap_answers_s"] >= worked["small"] - before["small"]
        shadowed = engine["safe_s"] * (count + 5) - engine["cheap_answers_s"]
        assert engine["saved_s"] == pytest.approx(
            5 * engine["safe_s"] - engine["cheap_answers_s"] - engine["shadow_s"]
        )
        assert shadowed > 0.0 and engine["interval_s"][0] <= engine["saved_s"]
        metrics = httpx2.get(f"{s.url}/metrics").text
        assert "suffice_live_saved_engine_seconds{" in metrics
