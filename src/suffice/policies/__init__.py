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
    from suffice.policies.cross_modal import CrossModal
    from suffice.policies.dart import DraftAgreement
    from suffice.policies.deepconf import DeepConfOffline, DeepConfOnline
    from suffice.policies.fixed import BestOfN, SelfConsistency, Single
    from suffice.policies.mars import MarginStop
    from suffice.policies.mode_certificate import ModeCertificate
    from suffice.policies.policy_file import PolicyFile, read_policy_file, write_policy_file
    from suffice.policies.registry import POLICIES, build_policy, parse_policy
    from suffice.policies.sequential_revision import ReviseOnce, SequentialRevision
    from suffice.policies.short_m_at_k import ShortMAtK
    from suffice.policies.think_block import BudgetForcing, HesitationStop
    from suffice.policies.thinking import NoThinking
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
    "CrossModal",
    "DeepConfOffline",
    "DeepConfOnline",
    "DraftAgreement",
    "EarlyStopping",
    "HesitationStop",
    "MarginStop",
    "ModeCertificate",
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
        "suffice.policies.cross_modal": ("CrossModal",),
        "suffice.policies.dart": ("DraftAgreement",),
        "suffice.policies.deepconf": ("DeepConfOffline", "DeepConfOnline"),
        "suffice.policies.fixed": ("BestOfN", "SelfConsistency", "Single"),
        "suffice.policies.mars": ("MarginStop",),
        "suffice.policies.mode_certificate": ("ModeCertificate",),
        "suffice.policies.policy_file": ("PolicyFile", "read_policy_file", "write_policy_file"),
        "suffice.policies.answer_stability": ("AnswerStability",),
        "suffice.policies.registry": ("POLICIES", "build_policy", "parse_policy"),
        "suffice.policies.sequential_revision": ("ReviseOnce", "SequentialRevision"),
        "suffice.policies.short_m_at_k": ("ShortMAtK",),
        "suffice.policies.think_block": ("BudgetForcing", "HesitationStop"),
        "suffice.policies.thinking": ("NoThinking",),
        "suffice.policies.two_sided": ("TwoSided",),
        "suffice.policies.vote_table": ("VoteTable",),
    },
)
