"""The public names of each package: what is here can be relied on; files may move behind it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PUBLIC = {
    "suffice": (
        "Budget", "CalibrateConfig", "DesignConfig", "DesignResult", "Message", "Model",
        "OpenAIBackend", "Outcome", "Prediction", "Request", "Sampling", "Serving", "Shape",
        "SizeConfig", "SizeResult", "Workload", "__version__", "calibrate", "design",
        "load_hardware", "load_model", "load_shape", "parse_policy", "predict", "read_traces",
        "run", "size", "stream",
    ),
    "suffice.policies": (
        "AdaptiveConsistency", "Agreement", "AnswerStability", "Auto", "BasePolicy", "BestOfN",
        "BudgetForcing",
        "Cascade", "Certified", "CrossModal", "DeepConfOffline", "DeepConfOnline",
        "DraftAgreement", "EarlyStopping", "HesitationStop", "MarginStop", "ModeCertificate",
        "NoThinking",
        "POLICIES", "PolicyFile", "ReviseOnce", "Rung", "SelfConsistency", "SequentialRevision",
        "ShortMAtK", "Single", "TwoSided", "VoteTable", "WholeSamples", "build_policy",
        "parse_policy",
        "read_policy_file", "write_policy_file",
    ),
    "suffice.executors": (
        "Failed", "Finished", "Launched", "Settled", "Stopped", "Streamed", "run", "stream",
    ),
    "suffice.backends": (
        "Backend", "BackendPool", "Capabilities", "Chunk", "FakeBackend", "Fault", "OpenAIBackend",
        "Script",
    ),
    "suffice.tools": (
        "FunctionTools", "ToolLost", "ToolResult", "ToolServer", "Toolbox", "tool_hints",
    ),
    "suffice.testing": (
        "FakeBackend", "FakeEngine", "Fault", "PolicyConformance", "Reply", "Script", "Talents",
        "check_policy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these(package: str) -> None:
    module = import_module(package)
    assert tuple(sorted(module.__all__)) == tuple(sorted(PUBLIC[package]))
    for name in PUBLIC[package]:
        assert getattr(module, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'suffice' has no attribute 'nothing'"):
        import_module("suffice").nothing  # noqa: B018


def test_importing_suffice_imports_nothing_heavy() -> None:
    code = (
        "import sys, suffice; heavy = {'numpy', 'scipy', 'pydantic', 'matplotlib', 'torch', "
        "'pyarrow', 'starlette'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
