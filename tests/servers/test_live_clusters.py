"""A certificate for each kind of prompt, through one gateway and through two on one ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.core.requests import Message, Request, TextPart
from suffice.gateway.certificates.live_policy import LivePolicy, cluster_of
from suffice.gateway.config_sections import LedgerConfig, LiveConfig
from suffice.gateway.observe.serving_hooks import ServingHooks, open_hooks
from suffice.testing.fake_engine import FakeEngine, Reply, Talents
from tests.servers.tools import Tools

LIVE = LiveConfig(
    safe="single@large", cheap=("single@small",), target=0.2, share=1.0, share_after=1.0,
    cluster_by="metadata.task", clusters=4,
)  # fmt: skip
KINDS = ("sums", "riddles")


def numbers() -> dict[str, int]:
    def of(kind: str) -> Request:
        extra = f'{{"metadata": {{"task": "{kind}"}}}}'
        return Request(model="m", messages=(Message(role="user", content="q"),), extra_json=extra)

    return {kind: cluster_of(of(kind), "metadata.task", 4) for kind in KINDS}


def test_kinds_are_known_by_the_system_message_or_by_what_the_client_says() -> None:
    found = numbers()
    assert len(set(found.values())) == 2

    def of(*messages: Message) -> int:
        return cluster_of(Request(model="m", messages=messages), "system", 64)

    user, other = (Message(role="user", content=text) for text in ("a", "b"))
    plain = Message(role="system", content="Sort the mail.")
    parts = Message(role="system", content=(TextPart(text="Sort the mail."),))
    assert of(plain, user) == of(plain, other) == of(parts, user) != of(user)


def says(number: int, body: dict[str, Any]) -> Reply:
    """Small is right on sums and wrong on riddles."""
    wrong = body["model"] == "small" and "riddle" in body["messages"][0]["content"]
    return Reply.saying("it is 5" if wrong else "it is 4")


def ask(url: str, kind: str) -> str:
    body = {
        "model": "large", "metadata": {"task": kind},
        "messages": [{"role": "user", "content": f"a question of {kind}"}],
    }  # fmt: skip
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"])


def states(opened: ServingHooks) -> dict[str, Any]:
    return {name: live.state for name, live in opened.totals.monitors.live.items()}


def test_one_kind_is_certified_the_other_is_not_and_two_processes_agree(
    tools: type[Tools], tmp_path: Path
) -> None:
    with FakeEngine(says, talents=Talents(models=("small", "large"))) as engine:
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=str(tmp_path / "l.db"), flush_s=0.05), live=LIVE,
            answer_format="number",
        )  # fmt: skip
        one, two = open_hooks(config), open_hooks(config)
        with (
            tools.serving(config, hooks=one.in_order) as here,
            tools.serving(config, hooks=two.in_order) as there,
        ):
            for number in range(60):
                for kind in KINDS:
                    ask((here, there)[number % 2], kind)
            until = time.monotonic() + 20.0
            while (
                states(one) != states(two) or sum(state.n for state in states(one).values()) < 120
            ):
                assert time.monotonic() < until
                time.sleep(0.05)
            by_kind = {
                kind: next(live for name, live in one.totals.monitors.live.items()
                           if name.endswith(f".{number}"))
                for kind, number in numbers().items()
            }  # fmt: skip
            assert by_kind["sums"].answering == 0 and by_kind["riddles"].answering is None
            assert by_kind["riddles"].state.arms[0].evidence.mean == 1.0
            for url in (here, there):
                assert [ask(url, kind) for kind in KINDS] == ["small", "large"]
            shown = httpx2.get(f"{here}/admin/state").json()["live_certificates"]
            assert [each["cluster"] for each in shown] == [0, 1, 2, 3]


@pytest.mark.parametrize("by", ["topic", "metadata."])
def test_what_is_no_kind_is_refused(by: str, tmp_path: Path) -> None:
    from suffice.core.errors import InputError
    from suffice.gateway.config_file import load_config

    path = tmp_path / "suffice.toml"
    path.write_text(f'[live]\nsafe = "single@a"\ncheap = ["single@b"]\ncluster_by = "{by}"\n')
    with pytest.raises(InputError, match="cluster_by"):
        load_config(path)


def test_without_kinds_there_is_one_policy() -> None:
    assert LivePolicy.__dataclass_fields__["clusters"].default == ()
