"""Raw bytes at the product's own server: it answers or closes, logs no traceback, and goes on.

The bytes are made by benchmarks/gateway/fuzz_http.py, which runs for longer; seeds that failed
there are kept here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from suffice.gateway.admission import TrafficConfig
from tests.servers.test_connections import gateway

FILE = Path(__file__).parents[2] / "benchmarks" / "gateway" / "fuzz_http.py"
FAILED = (1393, 2025, 2442, 1028246)


def fuzz() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_http", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_whatever_comes_it_answers_or_closes_and_goes_on(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    check = fuzz().check
    with gateway(TrafficConfig(header_s=1.0, body_s=1.0)) as address:
        for seed in (*range(120), *FAILED):
            assert check(address, seed) is None
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if record.exc_info]
