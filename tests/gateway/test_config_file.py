"""What `suffice config` says about a file."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import MISSING, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from suffice.backends.http_client import HttpClient
from suffice.cli.main import app
from suffice.core.errors import ConfigError
from suffice.core.settings import settings_of
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_errors import InvalidConfig, lines_of
from suffice.gateway.config_file import ConfigFile, config_from, load_config
from suffice.gateway.config_init import template
from suffice.gateway.config_sections import LedgerConfig
from tests.gateway import settings_page

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
mode_tokens = { think = 1, short = 2, shout = 3 }
"""


def said_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        load_config(path)
    return [problem.shown("s.toml") for problem in caught.value.problems]


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    found = sorted(said_of(tmp_path, WRONG))
    starts = [
        "s.toml:10: ledger.flush_s: input should be greater than",
        "s.toml:17: upstream.1.connect_s: input should be a valid number",
        "s.toml:18: upstream.1.api_key: a key does not belong into a file: name its environment",
        "s.toml:19: upstream.1.usd_per_million_tokens: is gone: prices are by model, in a table of "
        "their own: [prices]",
        "s.toml:20: upstream.1.mode_tokens.shout: unknown key; did you mean short?",
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
    found = said_of(tmp_path, '[ledger]\nurl = "postgresql://me:canary@db/x"')
    assert "url_env" in found[0]
    assert "canary" not in found[0]


def test_the_template_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "suffice.toml"
    runner = CliRunner()
    assert runner.invoke(app, ["config", "init", str(path)]).exit_code == 0
    assert path.read_text() == template()
    found = load_config(path)
    assert found.ledger == LedgerConfig()
    assert len(found.upstreams) == 1
    defaults = GatewayConfig(upstreams=found.upstreams)
    assert found == defaults
    assert runner.invoke(app, ["config", "check", str(path)]).exit_code == 0
    assert runner.invoke(app, ["config", "init", str(path)]).exit_code != 0  # nothing overwritten


def test_the_template_shows_every_setting() -> None:
    """Against the definitions, by another way than the template is written."""
    uncommented = "\n".join(
        re.sub(r"^# (?=[a-z_]+ = |\[)", "", line) for line in template().splitlines()
    )
    shown = tomllib.loads(uncommented)
    missing = []

    def compare(tables: dict[str, Any], kind: type, path: str) -> None:
        for setting in settings_of(kind):
            if setting.name not in tables:
                missing.append(f"{path}{setting.name}")
                continue
            given = tables[setting.name]
            below = [each for each in setting.kinds if is_dataclass(each)]
            if isinstance(given, list) and below:
                given = given[0]
            if below and setting.about.example is None:
                compare(given, below[0], f"{path}{setting.name}.")
            elif setting.default not in (None, MISSING, {}):
                wanted = setting.default
                assert given == (list(wanted) if isinstance(wanted, tuple) else wanted), path

    compare(shown, ConfigFile, "")
    assert missing == []
    assert set(settings_of_classes()) >= set(GatewayConfig.__dataclass_fields__) - {"upstreams"}


def settings_of_classes() -> list[str]:
    return [setting.name for setting in settings_of(ConfigFile)]


def test_a_setting_that_nobody_explains_is_an_error() -> None:
    @dataclass(frozen=True)
    class Table:
        limit: int = 3

    with pytest.raises(TypeError, match=r"Table\.limit has no About"):
        settings_of(Table)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:hunter2@host/v1", "user name or password"),
        ("https://hunter2@host/v1", "user name or password"),
        ("http://:hunter2@host/v1", "user name or password"),
        ("http://me:hun/hunter2@host/v1", "is not a URL"),
        ("http://me:a@hunter2@host:8000", "user name or password"),
        ("me:hunter2@host:8000", "is not a URL"),
        ("http://me:hunter2@", "is not a URL"),
        ("http://host/v1?api_key=hunter2", "'api_key' in its query"),
        ("http://host/v1?sig=hunter2", "'sig' in its query"),
        ("http://host:hunter2/v1", "is not a URL"),
        ("localhost:8000", "did you mean http://localhost:8000?"),
        ("localhost", "did you mean http://localhost?"),
        ("ftp://host", "is not a URL"),
        ("http://", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://host/\tv1", "control character"),
        ("http://ho st", "space"),
        ("", "is not a URL"),
    ],
)
def test_upstream_urls_are_refused_with_their_line(tmp_path: Path, url: str, said: str) -> None:
    found = said_of(tmp_path, f"port = 1\n[[upstream]]\nurl = {json.dumps(url)}")
    assert len(found) == 1
    assert found[0].startswith("s.toml:3: upstream.0.url: ")
    assert said in found[0]
    if "did you mean" not in said and "host:hunter2" not in url:
        assert "hunter2" not in found[0]
    with pytest.raises(ValueError, match=re.escape(said)):
        UpstreamConfig(url=url)
    with pytest.raises(ValueError, match=re.escape(said)):
        HttpClient(url, name="u", connect_s=1.0)


@pytest.mark.parametrize(
    "url", ["http://a", "https://a.b:1/v1", "http://[::1]:8000/v1?api-version=2", "http://a/@x"]
)
def test_other_urls_are_taken(url: str) -> None:
    assert UpstreamConfig(url=url).url == url


def test_an_upstream_twice_is_a_mistake(tmp_path: Path) -> None:
    text = (
        '[[upstream]]\nurl = "http://A:80/v1"\nname = "x"\n[[upstream]]\nurl = "http://a/"\n'
        '[[upstream]]\nname = "x"\nurl = "http://a:81"\n'
    )
    assert said_of(tmp_path, text) == [
        "s.toml:5: upstream.1.url: is the same as upstream.0.url: give each upstream once",
        "s.toml:7: upstream.2.name: is the same as upstream.0.name: give each upstream once",
    ]


def test_what_only_shows_when_it_is_built_has_its_line_too(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'answer_format = "numbers"\npolicy = "singel"\nscorer = "nothing"\n[[upstream]]\n'
        'url = "http://a"\n[policies.mine]\npolicy = "esc"\nwindw = 3\n[policies.other]\n'
    )
    result = CliRunner().invoke(app, ["config", "check", str(path)])
    assert result.exit_code == 2
    lines = result.output.splitlines()
    starts = [
        f"{path}:6: policies.mine: ",
        f"{path}:9: policies.other: ",
        f"{path}:1: answer_format: unknown answer format 'numbers'; did you mean number?",
        f"{path}:3: scorer: ",
        f"{path}:2: policy: ",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)
    served = CliRunner().invoke(app, ["serve", "--config", str(path)])
    assert served.exit_code != 0
    assert "did you mean number" in str(served.exception)


def test_a_mistyped_answer_format_is_not_served() -> None:
    arguments = ["serve", "--upstream", "http://a", "--answer-format", "numbers"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert "did you mean number" in str(result.exception)


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


def test_the_page_of_settings_is_up_to_date() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), (
        "write it anew: python -m tests.gateway.settings_page"
    )
