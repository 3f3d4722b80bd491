"""Labels by /v1/feedback as evidence of a live certificate, through gateways on real sockets."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.core.errors import InputError
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.certificates.live_ways import Ways
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import LiveConfig
from suffice.gateway.policy_router import PolicyRouter
from suffice.ledger import live_labels, shadows
from suffice.ledger.live_labels import LabelRow
from suffice.ledger.records import AuditRow, FeedbackRow
from suffice.ledger.shadows import ShadowRow
from suffice.ledger.store import Store
from tests.servers.test_live_certificate import Stack, saying, stack
from tests.servers.tools import Tools

HARM = LiveConfig(
    safe="single@large", cheap=("single@small",), target=0.2, share=1.0, share_after=1.0,
    loss="harm", labels_from="clients",
)  # fmt: skip


def ask(s: Stack) -> dict[str, Any]:
    """The answer, with the request's id in the ledger as `id`."""
    body = {"model": "large", "messages": [{"role": "user", "content": "what is 2+2"}]}
    answer = httpx2.post(f"{s.url}/v1/chat/completions", json=body, timeout=20)
    return answer.json() | {"id": answer.headers["x-request-id"]}


def label(s: Stack, request_id: str, status: int = 200, **judged: Any) -> dict[str, Any]:
    body = {"request_id": request_id, **judged}
    answer = httpx2.post(f"{s.url}/v1/feedback", json=body, timeout=20)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_labels_turn_differences_that_lose_nothing_into_a_certificate(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path, saying("5", "4"), HARM) as s:
        count = 0
        while s.control.answering is None:
            said = ask(s)
            count += 1
            s.settled(count)
            assert said["model"] == "large" and count < 60
            # The client says that the safe answer was wrong: nothing was lost by the other.
            assert label(s, said["id"], correct=False)["label"] == "fresh"
        assert s.control.state.arms[0].evidence.mean == 0.0
        assert s.control.state.arms[0].evidence.log >= s.control.rule.reach
        cheap = ask(s)
        assert cheap["model"] == "small"
        shown = httpx2.get(f"{s.url}/admin/state").json()["live_certificates"][0]
        assert (shown["loss"], shown["labels"]) == ("harm", count)
        assert "wrongly where the safe answer is right" in shown["events"][0]["said"]
        s.settled(count + 1)
        label(s, cheap["id"], correct=True)  # right, and it differs: the safe one is wrong
        tools.wait_for(lambda: s.control.state.arms[0].evidence.total == 0.0)
        kept = s.control.state
    with stack(tools, tmp_path, saying("5", "4"), HARM) as s:
        assert s.control.state == kept


def test_first_label_counts_others_do_not_and_an_early_one_waits(
    tools: type[Tools], tmp_path: Path
) -> None:
    with stack(tools, tmp_path, saying("5", "4"), HARM) as s:
        said = ask(s)
        s.settled(1)
        assert s.control.state.arms[0].evidence.total == 1.0  # not labelled yet: lost
        assert label(s, said["id"], correct=True)["label"] == "fresh"
        assert label(s, said["id"], correct=True)["label"] == "again"
        assert label(s, said["id"], 409, correct=False)["error"]["code"] == "already_judged"
        assert s.control.state.arms[0].evidence.total == 1.0
        both = ask(s)
        s.settled(2)
        found = label(s, both["id"], correct=True, cheap_correct=True)
        assert found["certificate"] == s.control.certificate
        assert s.control.state.arms[0].evidence.total == 1.0  # both are right: nothing is lost
        label(s, both["id"], 400, correct=True, baseline_correct=False)
        label(s, both["id"], 400, correct=True, cheap_correct=[True, False])
        label(s, both["id"], 400, correct=True, harmed=False)
        # One whose shadow run has not come: it counts when it does.
        feedback = FeedbackRow(id="fb-x", request_id="later", at_s=9.0, score=0.0)
        early = LabelRow(certificate=s.control.certificate, request_id="later", at_s=9.0, told="w-")
        store = Store(s.path)
        assert live_labels.record(store, early, feedback) == "early"
        before = s.control.state.arms[0].evidence
        spent = AuditRow(request_id="later", at_s=9.0, certificate=s.control.certificate)
        shadows.record(store, spent, ShadowRow(
            certificate=s.control.certificate, request_id="later", at_s=9.0, share=1.0,
            differs="d", answered=0))  # fmt: skip
        store.close()
        s.settled(3)
        now = s.control.state.arms[0].evidence
        assert (now.n, now.total) == (before.n + 1, before.total)


def test_whose_labels_count(tools: type[Tools], tmp_path: Path) -> None:
    counts_differences = LiveConfig(safe="single@large", cheap=("single@small",), share=1.0)
    with stack(tools, tmp_path, saying("5", "4"), counts_differences) as s:
        said = ask(s)
        s.settled(1)
        assert "label" not in label(s, said["id"], correct=False)
        refused = label(s, said["id"], 400, correct=False, cheap_correct=True)
        assert "needs no label" in refused["error"]["message"]


CERTIFICATE_OF = GatewayConfig(live=HARM, answer_format="number")


def _control() -> LiveControl:
    ways = Ways.of(CERTIFICATE_OF)
    assert ways is not None
    return LiveControl(CERTIFICATE_OF, ways)


def test_every_process_folds_rows_and_labels_in_one_order(tmp_path: Path) -> None:
    """Two that write at once, two that read as it happens, and one that starts afterwards."""
    path = str(tmp_path / "l.db")
    Store(path).close()
    readers = [_control(), _control()]
    certificate, done = readers[0].certificate, threading.Event()

    def write(name: str) -> None:
        store, chance = Store(path), random.Random(name)
        waiting: list[str] = []
        for number in range(60):
            request = f"{name}{number}"
            if chance.random() < 0.2:
                _label(store, certificate, request, chance)  # before it is shadowed
            else:
                waiting.append(request)
            spent = AuditRow(request_id=request, at_s=1.0, certificate=certificate)
            letter = "d" if chance.random() < 0.4 else "s"
            row = ShadowRow(certificate=certificate, request_id=request, at_s=float(number),
                            share=1.0, differs=letter, answered=0)  # fmt: skip
            shadows.record(store, spent, row)
            if chance.random() < 0.3:
                shadows.record(store, spent, row)  # written again: it counts once
            while waiting and chance.random() < 0.5:
                _label(store, certificate, waiting.pop(chance.randrange(len(waiting))), chance)
        store.close()

    def read(control: LiveControl) -> None:
        store = Store(path)
        while not done.is_set():
            control.pull(store)
        control.pull(store)
        store.close()

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    watching = [threading.Thread(target=read, args=(control,)) for control in readers]
    for thread in (*writers, *watching):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in watching:
        thread.join()
    late, store = _control(), Store(path)
    late.pull(store)
    rows, marks = shadows.since(store, certificate, 0), live_labels.since(
        store, certificate, 0, 10**6)  # fmt: skip
    store.close()
    assert [row.number for row in rows] == list(range(120))
    assert [mark.number for mark in marks] == list(range(len(marks))) and len(marks) > 60
    places = [mark.shadows_before for mark in marks]
    assert places == sorted(places) and all(mark.shadow < mark.shadows_before for mark in marks)
    for control in readers:
        assert control.state == late.state
        assert [each for _, each in control.events] == [each for _, each in late.events]
    assert late.state.n == 120


def _label(store: Store, certificate: str, request: str, chance: random.Random) -> None:
    told = "r-" if chance.random() < 0.3 else "w-"
    row = LabelRow(certificate=certificate, request_id=request, at_s=1.0, told=told)
    feedback = FeedbackRow(id=f"fb-{request}", request_id=request, at_s=1.0, score=0.0)
    assert live_labels.record(store, row, feedback) in ("fresh", "early")


def test_a_judge_and_labels_are_refused_together(tmp_path: Path) -> None:
    live = LiveConfig(safe="single@a", cheap=("single@b",), loss="harm", judge=str(tmp_path / "j"))
    with pytest.raises(InputError, match="leave one out"):
        PolicyRouter(GatewayConfig(live=live, answer_format="number"))
