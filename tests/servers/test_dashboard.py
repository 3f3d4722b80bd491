"""The dashboard in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.core.prices import Prices
from suffice.gateway.config_sections import KeysConfig
from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Talents
from tests.policies.policy_table import policy_table
from tests.servers.tools import Tools

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
MARKUP = "<img src=x onerror=alert(1)>"
VOTE = {
    "model": "suffice/adaptive_consistency",
    "messages": [{"role": "user", "content": "what is 2+2"}],
    "suffice": {"answer_format": "number"},
}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@contextmanager
def gateway(tools: type[Tools], **settings: Any) -> Iterator[str]:
    with FakeEngine(Reply.saying("it is 4")) as engine:
        config = tools.config_for(engine.url, patience_s=5.0, **settings)
        with tools.serving(config, hooks=serving_hooks(config)) as url:
            yield url


def rendered(url: str, folder: Path) -> str:
    """The page's elements after its script has asked for the state."""
    assert BROWSER is not None
    found = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={folder / 'profile'}", "--window-size=1440,1200",
            "--virtual-time-budget=3000", "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return found.stdout


def text_of(page: str) -> str:
    return re.sub(r"<[^>]+>", " ", page)


def test_the_page_shows_what_happened(tools: type[Tools], tmp_path: Path) -> None:
    with gateway(tools) as url:
        name = httpx2.post(f"{url}/v1/chat/completions", json=VOTE).headers["x-request-id"]
        httpx2.post(f"{url}/v1/feedback", json={"request_id": name, "correct": True})
        httpx2.post(f"{url}/v1/chat/completions", json=VOTE | {"model": MARKUP})
        page = rendered(url, tmp_path)
    shown = text_of(page)
    assert "Saved vs baseline costs 4.0×" in re.sub(r"\s+", " ", shown)
    assert "agreement 0.969 reaches 0.95 after 4" in shown
    assert "100.0%" in shown  # judged
    assert "404 model_not_found" in shown
    assert "<img" not in page  # a model's name is text, whatever is in it
    assert "&lt;img src=x" in page
    assert page.count('class="finished') == 4  # the samples of the vote


def test_certificates_models_and_failures_are_shown(tools: type[Tools], tmp_path: Path) -> None:
    table = policy_table(
        cheap="single@small", safe="single@large", model=("small", "large"), loss="drop"
    )
    talents = Talents(models=("small", "large"))
    with FakeEngine(Reply.saying("it is 4"), talents=talents) as engine:
        config = tools.config_for(
            engine.url, policies={"mine": table}, prices=Prices.parse(["small=1/2", "large=4/8"])
        )
        with tools.serving(config, hooks=serving_hooks(config)) as url:
            body = VOTE | {"model": "suffice/mine", "suffice": {"answer_format": "number"}}
            for _ in range(3):
                assert httpx2.post(f"{url}/v1/chat/completions", json=body).status_code == 200
            for _ in range(2):
                httpx2.post(f"{url}/v1/chat/completions", json=VOTE | {"model": "absent"})
            page = rendered(url, tmp_path)
    shown = re.sub(r"\s+", " ", text_of(page))
    assert "in force at most 2.0 points lost, 95% sure" in shown
    assert "saved, promised" in shown and "saved, seen" in shown
    assert "Models model answered share completion tokens cost" in shown
    assert re.search(r"(small|large) 3 100%", shown)
    assert re.search(r"Failures 2 in this span 404 model_not_found absent 2 last", shown)
    assert page.count('class="failure"') == 2  # each opens


def test_with_keys_it_asks_for_one(tools: type[Tools], tmp_path: Path) -> None:
    with gateway(tools, keys=KeysConfig(required=True)) as url:
        page = rendered(url, tmp_path)
    assert 'id="login" hidden' not in page
    assert 'id="main" hidden' in page
    assert "suffice keys add me --admin" in text_of(page)


def test_the_page_may_run_nothing_but_its_own_script(tools: type[Tools]) -> None:
    with gateway(tools) as url:
        answer = httpx2.get(url)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", answer.text)
        for name in ("dashboard.css", "dashboard.js"):
            body = httpx2.get(f"{url}/{name}").text
            assert not re.search(r"innerHTML|eval\(|https?://(?!www\.w3\.org)", body)
