from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import UnknownName
from suffice.policies.registry import POLICIES


def invoke(*arguments):
    return CliRunner().invoke(app, ["policies", *arguments], catch_exceptions=False)


def test_every_policy_is_listed():
    shown = invoke().stdout
    assert all(name in shown for name in POLICIES)


def test_options_of_one():
    shown = invoke("adaptive_consistency").stdout
    assert "threshold" in shown
    assert "0.95" in shown


def test_json():
    listed = json.loads(invoke("--json").stdout)
    assert [each["name"] for each in listed] == list(POLICIES)
    one = json.loads(invoke("esc", "--json").stdout)
    assert {option["name"]: option["default"] for option in one["options"]} == {
        "window": "5",
        "max_samples": "40",
    }


def test_unknown_policy():
    with pytest.raises(UnknownName, match="did you mean deepconf"):
        invoke("depconf")
