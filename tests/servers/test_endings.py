"""How a request ended for its client, as the ledger tells it: answered, failed, or left."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.ledger.export import records
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.test_recording import ASK, VOTE, stack
from tests.servers.tools import Tools

LATE = Reply(tokens=("it ", "is ", "4"), end_delay_s=0.05)
SLOW = Reply(tokens=("word ",) * 200, delay_s=0.01)
WAYS = {"passed through": ASK, "policy": VOTE | {"suffice": {"policy": "single"}}}


def ask_raw(url: str, body: dict[str, Any], until: bytes) -> bytes:
    """What came up to `until`; then the connection is closed at once, whatever else is to come."""
    place = urlsplit(url)
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    got = b""
    with closing(socket.create_connection((place.hostname or "", place.port or 0), 5)) as wire:
        wire.sendall(head.encode() + data)
        while until not in got and (piece := wire.recv(65536)):
            got += piece
    assert until in got, got
    return got


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_came_whole_is_answered_however_late_the_upstream_ends(
    tools: type[Tools], tmp_path: Path, way: str
) -> None:
    """Its last chunk comes 50 ms after [DONE]; the client is gone by then, as curl is."""
    with stack(tools, tmp_path, LATE) as s:
        for _ in range(6):
            ask_raw(s.url, WAYS[way] | {"stream": True}, b"[DONE]")
        rows = s.rows(6)
    assert {(r["ending"], r["status"], r["error_code"]) for r in rows} == {("answered", 200, None)}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_behind_the_products_own_server(
    tools: type[Tools], tmp_path: Path, way: str
) -> None:
    path = str(tmp_path / "ledger.db")
    with FakeEngine(LATE) as engine:
        config = tools.config_for(engine.url, ledger=LedgerConfig(url=path, flush_s=0.02))
        with tools.serving_bounded(config, hooks=serving_hooks) as url:
            for _ in range(6):
                ask_raw(url, WAYS[way] | {"stream": True}, b"[DONE]")
    with closing(Store(path)) as store:
        found = [(row["ending"], row["status"], row["error_code"]) for row in records(store)]
    assert found == [("answered", 200, None)] * 6


@pytest.mark.parametrize("way", WAYS)
def test_a_client_who_goes_in_the_middle_has_left(
    tools: type[Tools], tmp_path: Path, way: str
) -> None:
    with stack(tools, tmp_path, SLOW) as s:
        ask_raw(s.url, WAYS[way] | {"stream": True}, b"word")
        (row,) = s.rows(1)
    assert (row["ending"], row["status"], row["error_code"]) == ("left", 200, "client_left")


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_broke_off_has_failed(tools: type[Tools], tmp_path: Path, way: str) -> None:
    broken = Reply(tokens=("a ", "b ", "c "), misdeed="cut", misdeed_after=2)
    with stack(tools, tmp_path, broken) as s:
        ask_raw(s.url, WAYS[way] | {"stream": True}, b'"error"')
        (row,) = s.rows(1)
    assert row["ending"] == "failed"
