from __future__ import annotations

from pathlib import Path

import pytest

from suffice.core.errors import InputError, UnknownName
from suffice.core.serial import dumps, loads, stored
from suffice.core.thinking import Thinking
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.allocation import DifficultyBinned
from suffice.policies.cascade import Cascade
from suffice.policies.fixed import BestOfN, SelfConsistency, Single
from suffice.policies.registry import POLICIES, build_policy, describe_all, parse_policy
from suffice.policies.thinking import Overrides

DOCS = Path(__file__).parents[2] / "docs" / "policies.md"


def test_every_policy_describes_itself():
    infos = describe_all()
    assert [info.name for info in infos] == list(POLICIES)
    for info in infos:
        assert info.summary.endswith((".", ":"))
        assert info.paper
        assert all(option.doc for option in info.options)


@pytest.mark.parametrize("name", list(POLICIES))
def test_the_strategy_table_has_a_row_for_every_policy(name):
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}`")]
    assert len(rows) == 1
    assert POLICIES[name].paper.split(" ")[-1] in rows[0]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("single", Single()),
        ("adaptive_consistency:threshold=.9,max_samples=16",
         AdaptiveConsistency(threshold=0.9, max_samples=16)),
        ("self_consistency: samples=4 , stop_when_decided=yes",
         SelfConsistency(samples=4, stop_when_decided=True)),
        ("best_of_n:enough=none,wave=2", BestOfN(wave=2)),
        ("difficulty_binned:edges=.2+.8,more=1+2+3",
         DifficultyBinned(edges=(0.2, 0.8), more=(1, 2, 3))),
        ("single@big", Overrides(inner=Single(), model="big")),
        ("self_consistency:effort=low",
         Overrides(inner=SelfConsistency(), thinking=Thinking(budget_tokens=1024))),
        ("single:effort=none", Single(effort="none")),
        ("single:effort=", Single()),
    ],
)  # fmt: skip
def test_text_names_a_policy(text, policy):
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("adaptive", "did you mean adaptive_consistency"),
        ("adaptive_consistency:treshold=.9", "did you mean threshold"),
        ("adaptive_consistency:threshold", "write threshold=VALUE"),
        ("adaptive_consistency:threshold=high", "must be a number"),
        ("adaptive_consistency:max_samples=2.5", "must be a whole number"),
        ("self_consistency:stop_when_decided=maybe", "true or false"),
        ("single > ", "empty step"),
        ("single:accept=.9", "belongs to a step"),
        ("cascade", "written as its steps"),
        ("self_consistency:samples=1000000000", "samples must be 4096 or less"),
        ("adaptive_consistency:max_samples=1e9", "max_samples must be 4096 or less"),
        ("deepconf:max_samples=1e9", "max_samples must be 4096 or less"),
        ("short_m_at_k:k=1e9", "k must be 4096 or less"),
        ("adaptive_consistency:escalate_below=nan", "escalate_below must be above 0"),
        (" > ".join(["single"] * 17), "16 steps at most"),
        ("", "empty step"),
    ],
)
def test_wrong_text_is_explained(text, says):
    with pytest.raises(InputError, match=says):
        parse_policy(text)


def test_tables_name_the_same_policies():
    table = {
        "policy": "cascade",
        "steps": [
            {"policy": "adaptive_consistency", "max_samples": 8, "model": "s", "accept": 0.9},
            {"policy": "single", "model": "l"},
        ],
    }
    assert build_policy(table) == parse_policy(
        "adaptive_consistency:max_samples=8,accept=.9@s > single@l"
    )
    assert isinstance(build_policy(table), Cascade)
    older = {"policy": "cascade", "rungs": table["steps"]}
    assert build_policy(older) == build_policy(table)
    for wrong in ({}, {"policy": "cascade"}, {"policy": "cascade", "steps": [], "x": 1}):
        with pytest.raises(InputError):
            build_policy(wrong)
    with pytest.raises(UnknownName):
        build_policy({"policy": "single", "samples": 3})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"policy": "agreement", "models": 5}, "must be a list"),
        ({"policy": "agreement", "models": [["a"], ["b"]]}, "must be text"),
        ({"policy": "answer_stability", "probe": {}}, "must be text"),
        ({"policy": "single", "model": 5}, "model of policy single must be text"),
    ],
)
def test_tables_of_other_types_are_explained(table, says):
    with pytest.raises(InputError, match=says):
        build_policy(table)


def test_stored_data_is_checked():
    assert loads(dumps((1, float("inf"), "a", None, Thinking()))) == (
        1, float("inf"), "a", None, Thinking(),
    )  # fmt: skip
    with pytest.raises(InputError, match="cannot store a list"):
        dumps([1])
    with pytest.raises(InputError, match="no stored class"):
        loads('{"$": "Popen", "args": "true"}')
    with pytest.raises(InputError, match="another version"):
        loads('{"$": "Thinking", "colour": 1}')
    with pytest.raises(InputError, match="two stored classes"):
        stored(type("Thinking", (), {"__module__": "elsewhere"}))
