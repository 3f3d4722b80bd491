"""Policies: pure state machines that decide how much to run. No clock, no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.core.decisions import BasePolicy, WholeSamples
    from suffice.policies.agreement import AdaptiveConsistency, Agreement, EarlyStopping
    from suffice.policies.answer_stability import AnswerStability
    from suffice.policies.auto import Auto
    from suffice.policies.cascade import Cascade, Rung
    from suffice.policies.certified import Certified
    from suffice.policies.deepconf import DeepConfOffline, DeepConfOnline
    from suffice.policies.fixed import BestOfN, SelfConsistency, Single
    from suffice.policies.policy_file import PolicyFile, read_policy_file, write_policy_file
    from suffice.policies.registry import POLICIES, build_policy, parse_policy
    from suffice.policies.sequential_revision import ReviseOnce, SequentialRevision
    from suffice.policies.short_m_at_k import ShortMAtK
    from suffice.policies.thinking import BudgetForcing, NoThinking
    from suffice.policies.two_sided import TwoSided
    from suffice.policies.vote_table import VoteTable

__all__ = [
    "POLICIES",
    "AdaptiveConsistency",
    "Agreement",
    "AnswerStability",
    "Auto",
    "BasePolicy",
    "BestOfN",
    "BudgetForcing",
    "Cascade",
    "Certified",
    "DeepConfOffline",
    "DeepConfOnline",
    "EarlyStopping",
    "NoThinking",
    "PolicyFile",
    "ReviseOnce",
    "Rung",
    "SelfConsistency",
    "SequentialRevision",
    "ShortMAtK",
    "Single",
    "TwoSided",
    "VoteTable",
    "WholeSamples",
    "build_policy",
    "parse_policy",
    "read_policy_file",
    "write_policy_file",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.core.decisions": ("BasePolicy", "WholeSamples"),
        "suffice.policies.agreement": ("AdaptiveConsistency", "Agreement", "EarlyStopping"),
        "suffice.policies.auto": ("Auto",),
        "suffice.policies.cascade": ("Cascade", "Rung"),
        "suffice.policies.certified": ("Certified",),
        "suffice.policies.deepconf": ("DeepConfOffline", "DeepConfOnline"),
        "suffice.policies.fixed": ("BestOfN", "SelfConsistency", "Single"),
        "suffice.policies.policy_file": ("PolicyFile", "read_policy_file", "write_policy_file"),
        "suffice.policies.answer_stability": ("AnswerStability",),
        "suffice.policies.registry": ("POLICIES", "build_policy", "parse_policy"),
        "suffice.policies.sequential_revision": ("ReviseOnce", "SequentialRevision"),
        "suffice.policies.short_m_at_k": ("ShortMAtK",),
        "suffice.policies.thinking": ("BudgetForcing", "NoThinking"),
        "suffice.policies.two_sided": ("TwoSided",),
        "suffice.policies.vote_table": ("VoteTable",),
    },
)
