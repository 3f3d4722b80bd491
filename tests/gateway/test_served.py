"""A policy file calibrated for another model is refused before the first request."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import ConfigError
from suffice.core.prices import Prices
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_file import load_config
from suffice.gateway.startup_check import check_served
from suffice.policies.policy_file import write_policy_file
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.run import calibrate
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Talents
from tests.recipes.known_traces import make


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A policy file about the models small and large."""
    config = CalibrateConfig(
        max_drop=0.08, groups=2, dimensions=64, prices=Prices.parse(["small=0/1", "large=0/10"]),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("policy") / "certified.json"
    write_policy_file(path, calibrate(make(240), config).file)
    return path


def settings(policy, *urls):
    tables = {"mine": json.loads(policy.read_text())}
    return GatewayConfig(
        upstreams=tuple(UpstreamConfig(url=url) for url in urls), policy="mine", policies=tables
    )


def test_models_of_all_upstreams_count(policy):
    with (
        FakeEngine(Reply.saying("4"), talents=Talents(models=("small",))) as one,
        FakeEngine(Reply.saying("4"), talents=Talents(models=("large",))) as other,
    ):
        assert check_served(settings(policy, one.url, other.url)) == []
        with pytest.raises(ConfigError, match=r"no upstream serves large \(served: small\)"):
            check_served(settings(policy, one.url))


def test_an_upstream_that_is_down_leaves_it_open(policy):
    with FakeEngine(Reply.saying("4"), talents=Talents(models=("small",))) as one:
        (note,) = check_served(settings(policy, one.url, "http://127.0.0.1:9"))
    assert "not known yet" in note


def test_nothing_is_asked_without_a_certified_policy():
    nobody = GatewayConfig(upstreams=(UpstreamConfig(url="http://127.0.0.1:9"),))
    assert check_served(nobody) == []
    # But whoever starts a server hears of an upstream that is not there.
    (note,) = check_served(nobody, always=True)
    assert "what 127.0.0.1:9 serves is not known yet" in note


@pytest.mark.parametrize("models", [("small", "large"), ("other",)])
def test_config_check_and_serve_ask_the_upstreams(policy, tmp_path, models):
    served = models != ("other",)
    with FakeEngine(Reply.saying("4"), talents=Talents(models=models)) as engine:
        file = tmp_path / "suffice.toml"
        file.write_text(f'[[upstream]]\nurl = "{engine.url}"\n\n[policies.mine]\n')
        with file.open("a") as table:
            table.write(toml_of(json.loads(policy.read_text())))
        found = CliRunner().invoke(app, ["config", "check", str(file)])
        assert (found.exit_code == 0) == served, found.output
        if not served:
            assert isinstance(found.exception, ConfigError)
            assert "was calibrated for small, large" in str(found.exception)
            words = ["serve", "--upstream", engine.url, "--policy", str(policy)]
            found = CliRunner().invoke(app, [*words, "--ledger", "none", "--port", "0"])
            assert isinstance(found.exception, ConfigError)
            assert "no upstream serves small, large" in str(found.exception)


def toml_of(table) -> str:
    """A table's entries, nested ones inline; what is null is left out, as TOML has no null."""
    return "".join(
        f"{name} = {inline(value)}\n" for name, value in table.items() if value is not None
    )


def inline(value) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{k} = {inline(v)}" for k, v in value.items() if v is not None)
        return "{" + inside + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


@pytest.mark.parametrize(
    ("line", "found_as"),
    [('policy = "sub/certified.json"', ("certified", "certified")),
     ('[policies]\ncareful = "sub/certified.json"', ("careful", None)),
     ('policy = "careful"\n[policies]\ncareful = "sub/certified.json"', ("careful", "careful"))],
)  # fmt: skip
def test_a_policy_file_is_named_in_the_settings(policy, tmp_path, monkeypatch, line, found_as):
    """By a path relative to the settings' own folder, wherever the command is run."""
    name, default = found_as
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "certified.json").write_bytes(policy.read_bytes())
    config = tmp_path / "suffice.toml"
    config.write_text(f'{line}\n[[upstream]]\nurl = "http://127.0.0.1:9"\n')
    monkeypatch.chdir("/")
    found = load_config(config)
    assert found.policy == default
    assert found.policies == {name: json.loads(policy.read_text())}
    # Read again, as SIGHUP does, a new certificate is found.
    (tmp_path / "sub" / "certified.json").write_text('{"policy": "single"}')
    assert load_config(config).policies == {name: {"policy": "single"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [("no such", "does not exist|cannot be read"), ("[1]", "must hold one table"),
     ("{", "is not valid JSON")],
)  # fmt: skip
def test_a_policy_file_that_cannot_be_read_is_named_with_its_line(tmp_path, text, said):
    if text != "no such":
        (tmp_path / "p.json").write_text(text)
    config = tmp_path / "suffice.toml"
    config.write_text('[[upstream]]\nurl = "http://127.0.0.1:9"\n[policies]\nmine = "p.json"\n')
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(config)
    assert "suffice.toml:4" in str(caught.value)
    config.write_text('policy = "mine.json"\n[policies]\nmine = {policy = "single"}\n')
    with pytest.raises(ConfigError, match=r"would be named mine, as one of \[policies\] is"):
        load_config(config)
