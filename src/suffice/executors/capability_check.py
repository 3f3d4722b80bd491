"""What a policy and a request need of a backend, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping

from suffice.backends.protocol import Backend, Capabilities
from suffice.core.decisions import AnyPolicy, Need
from suffice.core.errors import LacksCapability
from suffice.core.requests import Request


async def able(
    policy: AnyPolicy, request: Request, backend: Backend, *, scored: bool
) -> Capabilities:
    """What the backend can do, which is enough for the policy. Raises LacksCapability."""
    capabilities = await backend.capabilities(request.model or None)
    check_needs(policy, capabilities, backend=backend.name, scored=scored)
    check_effort(request, capabilities, backend=backend.name)
    return capabilities


def check_needs(
    policy: AnyPolicy, capabilities: Capabilities, *, backend: str, scored: bool
) -> None:
    """Raise LacksCapability if the backend (or the caller) cannot give what the policy needs."""
    if not policy.needs:
        return
    given: dict[Need, bool] = {
        "logprobs": capabilities.logprobs and capabilities.max_top_logprobs > 0,
        "prefill": capabilities.prefill,
        "score": scored,
    }
    remedies: dict[Need, str] = {
        "logprobs": f"upstream {backend} returns no top logprobs; choose a policy that votes "
        "(adaptive_consistency) or an upstream that does (vLLM, SGLang, llama.cpp)",
        "prefill": f"upstream {backend} cannot continue a begun answer; choose another policy or "
        "an upstream that can (vLLM, llama.cpp)",
        "score": "no verifier or reward function is set; give one or choose a policy that votes",
    }
    refuse_lacking(policy, given, remedies)


def refuse_lacking(
    policy: AnyPolicy, given: Mapping[Need, bool], remedies: Mapping[Need, str]
) -> None:
    """Raise LacksCapability with the remedy for the first need that is not given."""
    for need in sorted(policy.needs):
        if not given[need]:
            raise LacksCapability(f"policy {policy.name} needs {need}: {remedies[need]}")


def check_effort(request: Request, capabilities: Capabilities, *, backend: str) -> None:
    """Raise LacksCapability if the request asks for an effort that the backend would ignore."""
    if request.thinking is None:
        return
    able = capabilities.thinking_switch, capabilities.mode_tokens
    if able == (None, None) and not capabilities.thinking_budget:
        raise LacksCapability(
            f"effort: upstream {backend} has neither a thinking switch nor a thinking budget and "
            "would ignore it; leave it out, or choose budget_forcing or no_thinking:begin=true"
        )
