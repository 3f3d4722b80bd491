"""Whatever an engine answers, a client gets whole HTTP, and the ledger a row that can be.

The answers are made by benchmarks/gateway/fuzz_upstream.py, which runs for longer; seeds that
failed there are kept here.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import serving_hooks
from tests.servers.tools import config_for, serving_bounded

FILE = Path(__file__).parents[2] / "benchmarks" / "gateway" / "fuzz_upstream.py"
# An error whose text no JSON writer takes (22), choices that are no list (199), an error in a
# translated stream with more behind it (237, 249, 278, 321, 339, 424, 438), a content type in
# capitals (395), a whole answer that calls itself a stream (20128).
FAILED = (22, 199, 237, 249, 278, 321, 339, 395, 424, 438, 20128)


def fuzz() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_upstream", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_whatever_an_engine_says_the_answer_is_whole_and_booked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = fuzz()
    engine = made.Engine()
    ledger = str(tmp_path / "ledger.db")
    config = config_for(engine.url, ledger=LedgerConfig(url=ledger))
    with serving_bounded(config, hooks=serving_hooks) as url:
        parts = urlsplit(url)
        check = partial(made.check, (parts.hostname, parts.port))
        wrong = [found for seed in (*range(40), *FAILED) if (found := check(seed)) is not None]
    assert wrong == []
    assert made.wrong_rows(ledger) == []
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if record.exc_info]
