"""A password in a URL is refused wherever a URL comes in, and no message shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError, SufficeError
from suffice.throughput.engines.openai_engine import OpenAIEngine

SECRET = "hunter2"
UPSTREAMS = [
    f"http://me:{SECRET}@127.0.0.1:9/v1",
    f"http://{SECRET}@127.0.0.1:9",
    f"http://127.0.0.1:9/v1?api_key={SECRET}",
    f"me:{SECRET}@127.0.0.1:9",
]
LEDGERS = [
    f"mysql://me:{SECRET}@h/db",
    f"postgresql://me:{SECRET}/x@h/db",
    f"postgresql://me:x@{SECRET}@h/db",
    f"postgresql://me:{SECRET}@h:port/db",
    f"postgresql://me@h/db?password={SECRET}&x=%",
    f"host=h user=me password={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1:9/db",
    f"http://me:{SECRET}@h/db",
]


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code != 0
    error = result.exception
    assert isinstance(error, SufficeError | SystemExit), repr(error)
    return f"{result.output}{error}"


@pytest.mark.parametrize("url", UPSTREAMS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--upstream", "URL", "--ledger", "none"),
        ("ask", "2+2", "--upstream", "URL"),
        ("record", "--dataset", "DATA", "--upstream", "URL", "--out", "OUT"),
        ("quickstart", "--upstream", "URL", "--questions", "DATA"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_upstreams(url: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "2+2?", "answer": "4", "checker": "number"}\n' * 20)
    names = {"URL": url, "DATA": str(data), "OUT": str(tmp_path / "out.parquet")}
    found = said(*(names.get(each, each) for each in arguments))
    assert SECRET not in found
    assert "api_key_env" in found or "not a URL" in found or "leave it out" in found, found


@pytest.mark.parametrize("url", UPSTREAMS)
def test_an_endpoint_that_is_measured(url: str) -> None:
    with pytest.raises(InputError) as caught:
        OpenAIEngine(url=url, model="m", load=None)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", LEDGERS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("ledger", "stats", "--ledger", "URL"),
        ("ledger", "export", "--ledger", "URL", "--out", "x.jsonl"),
        ("keys", "list", "--ledger", "URL"),
        ("keys", "add", "x", "--ledger", "URL"),
        ("serve", "--upstream", "http://127.0.0.1:9", "--ledger", "URL"),
        ("config", "check", "FILE"),
        ("config", "show", "FILE"),
    ],
    ids=" ".join,
)
def test_ledgers(url: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    file = tmp_path / "s.toml"
    file.write_text(f'[ledger]\nurl = "{url}"\n')
    names = {"URL": url, "FILE": str(file)}
    found = said(*(names.get(each, each) for each in arguments))
    assert SECRET not in found


def test_the_environment_may_hold_a_password_and_nothing_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", f"postgresql://me:{SECRET}@h/db")
    file = tmp_path / "s.toml"
    file.write_text('[ledger]\nurl_env = "DB"\n')
    result = CliRunner().invoke(app, ["config", "show", str(file)])
    assert result.exit_code == 0
    assert SECRET not in result.output
