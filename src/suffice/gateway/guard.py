"""A certified policy in service: every outcome feeds its watch; once void, the safe arm answers.

The policy itself stays pure. Its watch is what remembers, fed in the event loop by the decisions
that pass through here and shared with other processes through the ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from suffice.core.decisions import Actions, Answer, AnyPolicy, Escalate, Evidence, Need
from suffice.core.requests import Request
from suffice.gateway.watches import SharedWatch, Watches
from suffice.policies.certified import Certified, observation_of
from suffice.policies.drift import Observation

_NOTE = re.compile(r"certificate (\w+) \((valid|void|not covered)[^)]*\)")


@dataclass(slots=True, kw_only=True, eq=False)
class Guard:
    """A `Certified` policy with its running watch; says on every outcome how it stands."""

    policy: Certified
    watch: SharedWatch

    @classmethod
    def over(cls, policy: AnyPolicy, watches: Watches) -> AnyPolicy:
        """The policy guarded if it is certified, else itself."""
        if not isinstance(policy, Certified):
            return policy
        return cls(policy=policy, watch=watches.of(policy))

    @property
    def name(self) -> str:
        """The policy's."""
        return self.policy.name

    @property
    def needs(self) -> frozenset[Need]:
        """The policy's."""
        return self.policy.needs

    @property
    def baseline_samples(self) -> int:
        """The policy's."""
        return self.policy.baseline_samples

    def start(self, request: Request) -> tuple[Any, Actions]:
        """Begin with the certified policy, or with the safe arm once the certificate is void."""
        if self.watch.void is not None:
            state, actions = self.policy.safe.start(request)
            return ("void", state), self._told(actions, "void")
        state, actions = self.policy.start(request)
        covered = "not covered" if state.cluster is None else "valid"
        return (covered, state), self._told(actions, covered)

    def step(self, state: Any, evidence: Evidence) -> tuple[Any, Actions]:
        """Go on as begun: a certificate that is voided meanwhile changes later requests only."""
        status, inner = state
        policy: AnyPolicy = self.policy.safe if status == "void" else self.policy
        inner, actions = policy.step(inner, evidence)
        return (status, inner), self._told(actions, status)

    def feedback(self, harm: bool) -> None:
        """Tell whether an answer was wrong where the safe arm is right."""
        self.watch.observe(Observation(harm=harm))

    def _told(self, actions: Actions, status: str) -> Actions:
        return tuple(
            self._end(action, status) if isinstance(action, Answer | Escalate) else action
            for action in actions
        )

    def _end(self, action: Answer | Escalate, status: str) -> Answer | Escalate:
        if status == "valid":
            self.watch.observe(observation_of(action.why, action.confidence))
        said = self.policy.guarantee
        promise = f"at most {100 * said.max_drop:g} points lost at {100 * said.confidence:g} %"
        note = promise if status == "valid" else self.watch.void or "free-form text"
        told: Answer | Escalate = replace(
            action, why=f"certificate {said.id} ({status}: {note}): {action.why}"
        )
        return told


def is_void(policy: AnyPolicy | None) -> bool:
    """Whether a policy's certificate is void."""
    return isinstance(policy, Guard) and policy.watch.void is not None


def certificate_of(why: str) -> dict[str, str] | None:
    """The certificate that an outcome's `why` names, with its status; None without one."""
    found = _NOTE.match(why)
    return None if found is None else {"id": found.group(1), "status": found.group(2)}
