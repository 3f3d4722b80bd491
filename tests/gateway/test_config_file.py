"""What `suffice config` says about a file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from suffice.cli.config import TEMPLATE
from suffice.cli.main import app
from suffice.core.errors import ConfigError
from suffice.gateway.config import GatewayConfig, config_from, load_config
from suffice.gateway.config_problems import NotValid, lines_of
from suffice.gateway.sections import LedgerConfig

WRONG = """\
host = "127.0.0.1"
prot = 8080
budget.samples = -2

[ledger]
texts = "everything"
redact = [
  "email",
]
flush_s = 0

[[upstream]]
url = "http://a"

[[upstream]]
url = "http://b"
connect_s = "soon"
api_key = "sk-123"
usd_per_million_tokens = { prompt_usd = 1, completion_used = 2 }
"""


def said(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotValid) as caught:
        load_config(path)
    return [problem.shown("s.toml") for problem in caught.value.problems]


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    found = sorted(said(tmp_path, WRONG))
    starts = [
        "s.toml:10: ledger.flush_s: input should be greater than",
        "s.toml:17: upstream.1.connect_s: input should be a valid number",
        "s.toml:18: upstream.1.api_key: a key does not belong into a file: name its environment",
        "s.toml:19: upstream.1.usd_per_million_tokens.completion_usd: is missing",
        "s.toml:19: upstream.1.usd_per_million_tokens.completion_used: unknown key; did you mean "
        "completion_usd?",
        "s.toml:2: prot: unknown key; did you mean port? (allowed: allowed_hosts,",
        "s.toml:3: budget.samples: input should be greater than or equal to 0, got -2",
        "s.toml:6: ledger.texts: input should be 'none', 'prompts', 'outputs' or 'all', got "
        "'everything'",
    ]
    assert len(found) == len(starts)
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)
    assert "sk-123" not in "".join(found)


def test_a_rule_that_is_no_pattern_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[ledger]\nredact = ["("]')
    with pytest.raises(ConfigError, match="neither one of key, email"):
        load_config(path)


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[ledger]\nurl_env = "DB"\n[[upstream]]\nurl = "http://x"\napi_key_env = "KEY"')
    with pytest.raises(ConfigError, match="KEY, which is not set"):
        load_config(path)
    monkeypatch.setenv("KEY", "sk-canary")
    with pytest.raises(ConfigError, match="DB, which is not set"):
        load_config(path)
    monkeypatch.setenv("DB", "postgresql://me:canary@db/x")
    found = load_config(path)
    assert found.ledger.url == "postgresql://me:canary@db/x"
    shown = CliRunner().invoke(app, ["config", "show", str(path)])
    assert shown.exit_code == 0
    assert "canary" not in shown.output
    assert json.loads(shown.output)["ledger"]["url"] == "postgresql://me@db/x"
    assert "canary" not in repr(found)


def test_a_url_with_a_password_does_not_belong_into_a_file(tmp_path: Path) -> None:
    found = said(tmp_path, '[ledger]\nurl = "postgresql://me:canary@db/x"')
    assert "url_env" in found[0]
    assert "canary" not in found[0]


def test_the_template_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "suffice.toml"
    runner = CliRunner()
    assert runner.invoke(app, ["config", "init", str(path)]).exit_code == 0
    assert path.read_text() == TEMPLATE
    found = load_config(path)
    assert found.ledger == LedgerConfig()
    assert len(found.upstreams) == 1
    defaults = GatewayConfig(upstreams=found.upstreams)
    assert found == defaults
    assert runner.invoke(app, ["config", "check", str(path)]).exit_code == 0
    assert runner.invoke(app, ["config", "init", str(path)]).exit_code != 0  # nothing overwritten


def test_check_exits_with_2_and_names_all(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(WRONG)
    result = CliRunner().invoke(app, ["config", "check", str(path)])
    assert result.exit_code == 2
    assert result.output.count("s.toml:") == 8


def test_lines_of_nested_and_quoted_keys() -> None:
    text = (
        'a.b = 1\n"x.y" = 2\n[t]\nk = """\nz = 1\n"""\nl = [\n  1, # ]\n]\nm = 3\n'
        "[[u]]\n[u.v]\nw = 1\n[[u]]\n[u.v]\nw = 2\n"
    )
    tomllib.loads(text)
    lines = lines_of(text)
    assert lines["a", "b"] == 1
    assert lines["t", "k"] == 4
    assert lines["t", "l"] == 7
    assert lines["t", "m"] == 10
    assert ("z",) not in lines
    assert (lines["u", 0, "v", "w"], lines["u", 1, "v", "w"]) == (13, 16)


NAMES = st.sampled_from(
    [*GatewayConfig.__dataclass_fields__, "upstream", "url", "texts", "redact", "samples", "x", ""]
)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_no_file_makes_the_loader_crash(tables: dict[str, Any]) -> None:
    try:
        config_from(tables, source="s.toml")
    except ConfigError as error:
        assert str(error)


@given(st.text(max_size=300))
def test_no_text_makes_the_line_finder_crash(text: str) -> None:
    assert all(1 <= line <= len(text.splitlines()) for line in lines_of(text).values())
