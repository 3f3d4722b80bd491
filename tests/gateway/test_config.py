from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from suffice.backends.nano.backend import shipped_folder
from suffice.core.completions import Budget, Usage
from suffice.core.errors import ConfigError
from suffice.core.prices import TokenPrice
from suffice.core.thinking import ModeTokens
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_file import config_from, load_config
from suffice.gateway.policy_router import PolicyRouter
from suffice.throughput.pricing import OwnModel

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"


UPSTREAM = '[[upstream]]\nurl = "http://x"\n'


def config_of(text: str) -> GatewayConfig:
    return config_from(tomllib.loads(text), source="test.toml")


def test_an_empty_file_is_the_defaults() -> None:
    assert config_of("") == GatewayConfig()


def test_the_documented_file_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_API_KEY", "secret")
    texts = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    whole = max(texts, key=len)
    for part in texts:
        config_of(part)  # parts of a file are files
    config = config_of(whole)
    own, hosted = config.upstreams
    assert isinstance(own.cost, OwnModel)
    usage = Usage(prompt_tokens=1000, completion_tokens=100)
    assert own.cost.cost(usage).flops is not None
    assert hosted.cost is None
    price = config.prices.of("hosted/large")
    assert price == TokenPrice(prompt_usd=0.5, completion_usd=1.5, cached_usd=0.1)
    assert config.baseline == "single@hosted/large"
    assert config.models.allows("meta-llama/Llama-3.2-1B", "hosted/large")
    assert not config.models.allows("hosted/large", "meta-llama/Llama-3.2-1B")
    assert hosted.api_key == "secret"
    assert "secret" not in repr(config)
    assert PolicyRouter(config).model_names()[:2] == ["suffice/auto", "suffice/careful"]


def test_mode_tokens_are_given_or_read_from_the_models_folder(tmp_path: Path) -> None:
    given = config_of(f"{UPSTREAM}[upstream.mode_tokens]\nthink = 9\nshort = 8")
    assert given.upstreams[0].mode_tokens == ModeTokens(think=9, short=8)
    read = config_of(f"{UPSTREAM}mode_tokens = {{ model = '{shipped_folder()}' }}")
    assert read.upstreams[0].mode_tokens == ModeTokens(think=6, short=5)
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 3, "content": "<think>"}]}')
    with pytest.raises(ConfigError, match="no token <short>"):
        config_of(f"{UPSTREAM}mode_tokens = {{ model = '{tmp_path}' }}")


def test_a_budget_table_keeps_the_cap_on_samples() -> None:
    assert config_of("[budget]\nusd = 0.1").budget == Budget(samples=64, usd=0.1, tool_calls=64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "prot"),
        ("port = 99999", "port"),
        ('[[upstream]]\nname = "x"', "upstream.0.url"),
        ('[[upstream]]\nurl = "http://x"\nshape = "meta-llama/Llama-3.2-1B"', "shape and hardware"),
        ('[[upstream]]\nurl = "http://x"\napi_key_env = "SUFFICE_NO_SUCH"', "SUFFICE_NO_SUCH"),
        (f"{UPSTREAM}mode_tokens = {{ think = 6 }}", "give the ids of both tokens"),
        (
            f'{UPSTREAM}mode_tokens = {{ think = 6, short = 5, model = "x" }}',
            "give the ids of both",
        ),
        (f"{UPSTREAM}mode_tokens = {{ think = 6, short = 6 }}", "two different token ids"),
        (f'{UPSTREAM}mode_tokens = {{ model = "/no/such" }}', "no tokenizer.json"),
        ("[budget]\nsamples = -1", "budget.samples"),
        ("keep_alive_s = nan", "keep_alive_s"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        config_of(text)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "adaptive_consistancy"},
        {"policies": {"mine": {"policy": "esc", "windw": 3}}},
        {"policies": {"mine": {"window": 3}}},
    ],
)
def test_an_operators_policy_is_checked_at_start(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="gateway config"):
        PolicyRouter(GatewayConfig(**settings))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("port = ")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(broken)
