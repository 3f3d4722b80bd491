"""Policies by name: `--policy adaptive_consistency:threshold=.9,max_samples=16`.

    POLICY   NAME[:OPTION=VALUE[,OPTION=VALUE…]][@MODEL]
    CASCADE  POLICY > POLICY [> …]

Options that every policy takes: `effort` (thinking effort of its samples) and, in a cascade,
`accept` (measure from which the rung's answer stands). Tuples are written a+b+c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, get_type_hints

from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, UnknownName
from suffice.core.thinking import Thinking
from suffice.policies.agreement import AdaptiveConsistency, Agreement, EarlyStopping
from suffice.policies.allocation import DifficultyBinned
from suffice.policies.answer_stability import AnswerStability
from suffice.policies.auto import Auto
from suffice.policies.cascade import MOST_RUNGS, Cascade, Rung, too_many_rungs
from suffice.policies.certified import Certified
from suffice.policies.cross_modal import CrossModal
from suffice.policies.dart import DraftAgreement
from suffice.policies.deepconf import DeepConfOffline, DeepConfOnline
from suffice.policies.fixed import BestOfN, SelfConsistency, Single
from suffice.policies.mars import MarginStop
from suffice.policies.mode_certificate import ModeCertificate
from suffice.policies.options import convert, shown, type_name
from suffice.policies.policy_file import policy_file_of
from suffice.policies.policy_of_file import certified_policy
from suffice.policies.sequential_revision import ReviseOnce, SequentialRevision
from suffice.policies.short_m_at_k import ShortMAtK
from suffice.policies.think_block import BudgetForcing, HesitationStop
from suffice.policies.thinking import NoThinking, Overrides
from suffice.policies.tool_plan.abstraction import Abstraction
from suffice.policies.tool_plan.choose import Choose
from suffice.policies.tool_plan.futures import Futures
from suffice.policies.tool_plan.planned import Dag, Rewoo
from suffice.policies.tool_plan.program import Program
from suffice.policies.tool_plan.react import React
from suffice.policies.two_sided import TwoSided
from suffice.policies.vote_table import VoteTable

_CLASSES: tuple[type[Any], ...] = (
    Single,
    SelfConsistency,
    AdaptiveConsistency,
    TwoSided,
    VoteTable,
    EarlyStopping,
    ModeCertificate,
    CrossModal,
    DeepConfOnline,
    DeepConfOffline,
    MarginStop,
    BestOfN,
    ShortMAtK,
    AnswerStability,
    ReviseOnce,
    SequentialRevision,
    NoThinking,
    BudgetForcing,
    HesitationStop,
    DraftAgreement,
    DifficultyBinned,
    Agreement,
    React,
    Rewoo,
    Dag,
    Futures,
    Program,
    Abstraction,
    Choose,
    Auto,
    Cascade,
    Certified,
)
POLICIES: dict[str, type[Any]] = {cls.name: cls for cls in _CLASSES}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionInfo:
    """One option of a policy, as `suffice policies` prints it."""

    name: str
    type: str
    default: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInfo:
    """What `suffice policies` prints about a policy."""

    name: str
    summary: str
    paper: str
    needs: tuple[str, ...]
    options: tuple[OptionInfo, ...]


@cache
def _hints(name: str) -> Mapping[str, Any]:
    """Types of a policy's options; worked out once, as a gateway parses policies by request."""
    return get_type_hints(_class_of(name))


def describe(name: str) -> PolicyInfo:
    """Name, summary, paper and options of a policy, from its dataclass."""
    cls = _class_of(name)
    hints = _hints(name)
    documented = [field for field in fields(cls) if "doc" in field.metadata]
    needs = cls.needs if isinstance(cls.needs, frozenset) else frozenset()
    return PolicyInfo(
        name=name,
        summary=(cls.__doc__ or "").strip().split("\n", 1)[0],
        paper=cls.paper,
        needs=tuple(sorted(needs)),
        options=tuple(
            OptionInfo(
                name=field.name,
                type=type_name(hints[field.name]),
                default=shown(field.default),
                doc=field.metadata["doc"],
            )
            for field in documented
        ),
    )


def describe_all() -> tuple[PolicyInfo, ...]:
    """Every policy, in the order to read them in."""
    return tuple(describe(name) for name in POLICIES)


def parse_policy(text: str) -> AnyPolicy:
    """The policy that a line of text names."""
    if text.count(">") >= MOST_RUNGS:
        raise too_many_rungs(text.count(">") + 1)
    rungs = [part.strip() for part in text.split(">")]
    if not all(rungs):
        raise InputError(f"policy {text!r} has an empty step: write policy@model > policy@model")
    if len(rungs) == 1:
        policy, accept = _parse_rung(rungs[0])
        if accept is not None:
            raise InputError("accept belongs to a step of a cascade: write policy:accept=.9 > …")
        return policy
    built = []
    for rung in rungs:
        policy, accept = _parse_rung(rung)
        built.append(Rung(policy=policy, accept=accept))
    return Cascade(rungs=tuple(built))


def build_policy(spec: Mapping[str, Any]) -> AnyPolicy:
    """The policy that a table (of a TOML or JSON file) describes.

    {"policy": NAME, OPTION: VALUE, …, "model": …, "effort": …}; for a cascade
    {"policy": "cascade", "steps": [{…, "accept": 0.9}, …]} ("rungs" in older files).
    """
    rest = dict(spec)
    name = rest.pop("policy", None)
    if not isinstance(name, str):
        raise InputError('a policy table needs its name: policy = "adaptive_consistency"')
    if name == Certified.name and rest:
        return certified_policy(policy_file_of(dict(spec)), parse_policy)
    if name != Cascade.name:
        return _build(name, rest)
    rungs = rest.pop("steps", None) or rest.pop("rungs", None)
    if rest or not isinstance(rungs, list) or not all(isinstance(rung, dict) for rung in rungs):
        raise InputError("a cascade table has one field, steps: a list of policy tables")
    if len(rungs) > MOST_RUNGS:
        raise too_many_rungs(len(rungs))
    built = []
    for table in rungs:
        rung = dict(table)
        accept = rung.pop("accept", None)
        built.append(
            Rung(
                policy=build_policy(rung),
                accept=None if accept is None else convert("accept", float, accept),
            )
        )
    return Cascade(rungs=tuple(built))


def _parse_rung(text: str) -> tuple[AnyPolicy, float | None]:
    head, _, model = text.partition("@")
    name, _, options = head.partition(":")
    values: dict[str, Any] = {"model": model.strip()} if model.strip() else {}
    for item in filter(None, (part.strip() for part in options.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"option {item!r} of policy {name!r} has no value: write {item}=VALUE")
        values[key.strip()] = value.strip()
    accept = values.pop("accept", None)
    return _build(name.strip(), values), (
        None if accept is None else convert("accept", float, accept)
    )


def _build(name: str, values: dict[str, Any]) -> AnyPolicy:
    cls = _class_of(name)
    if cls is Cascade:
        raise InputError("a cascade is written as its steps: policy@model > policy@model")
    if cls is Certified:
        # Names may come from a client: they never make this process open a file.
        raise InputError(
            "a certified policy is its file, as `suffice calibrate` writes it: --policy policy.json"
        )
    hints = _hints(name)
    known = {field.name for field in fields(cls) if "doc" in field.metadata}
    if cls is Auto:
        known = {"price"}
    model = values.pop("model", None)
    effort = values.pop("effort", None) if "effort" not in known else None
    if model is not None and not isinstance(model, str):
        raise InputError(f"model of policy {name} must be text, got {model!r}")
    for key in values:
        if key not in known:
            raise UnknownName.of(
                f"option of policy {name}:",
                key,
                known,
                f"(it has {', '.join(sorted(known)) or 'none'})",
            )
    policy: AnyPolicy = cls(
        **{key: convert(key, hints[key], value) for key, value in values.items()}
    )
    if model is None and effort is None:
        return policy
    thinking = None if effort is None else Thinking.of_effort(str(effort))
    return Overrides(inner=policy, model=model, thinking=thinking)


def _class_of(name: str) -> type[Any]:
    if name not in POLICIES:
        raise UnknownName.of("policy", name, POLICIES, "(`suffice policies` lists them)")
    return POLICIES[name]
