"""A certified policy in service: once its certificate is void, the safe arm answers.

The policy itself stays pure. Its monitor is what remembers: it is fed the outcomes of requests as
they are settled, and shared with other processes through the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from suffice.core.completions import Outcome
from suffice.core.coverage import EARLY, Coverage
from suffice.core.decisions import (
    Actions,
    Answer,
    AnyPolicy,
    Escalate,
    Evidence,
    Need,
    Watch,
    watch_of,
)
from suffice.core.requests import Request
from suffice.gateway.watches import SharedWatch, Watches
from suffice.policies.certified import Certified, stamped
from suffice.policies.drift import Observation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guard:
    """A `Certified` policy with its running monitor; says on every outcome how it stands."""

    policy: Certified
    monitor: SharedWatch

    @classmethod
    def over(cls, policy: AnyPolicy, watches: Watches) -> AnyPolicy:
        """The policy guarded if it is certified, else itself."""
        if not isinstance(policy, Certified):
            return policy
        return cls(policy=policy, monitor=watches.of(policy))

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
        void = self.monitor.void
        state, actions = (self.policy if void is None else self.policy.safe).start(request)
        return (void, state), self._told(actions, void)

    def step(self, state: Any, evidence: Evidence) -> tuple[Any, Actions]:
        """Go on as begun: a certificate that is voided meanwhile changes later requests only."""
        void, inner = state
        inner, actions = (self.policy if void is None else self.policy.safe).step(inner, evidence)
        return (void, inner), self._told(actions, void)

    def watch(self, state: Any, sample: int) -> Watch:
        """What the policy that answers watches."""
        void, inner = state
        return watch_of(self.policy if void is None else self.policy.safe, inner, sample)

    def observe(self, outcome: Outcome) -> None:
        """Feed the monitor with an answer that the certificate covers."""
        standing = outcome.certificate
        if standing is None or standing.status != "valid" or outcome.exit is None:
            return
        early = outcome.exit in EARLY
        sure = outcome.confidence if early else None
        self.monitor.observe(Observation(stopped=early, confidence=sure))

    def feedback(self, harm: bool) -> None:
        """Tell whether an answer was wrong where the safe arm is right."""
        self.monitor.observe(Observation(harm=harm))

    def _told(self, actions: Actions, void: str | None) -> Actions:
        if void is not None:
            standing = Coverage(id=self.policy.guarantee.id, status="void", reason=void)
            actions = stamped(actions, standing, safe=True)
        return tuple(
            self._noted(action) if isinstance(action, Answer | Escalate) else action
            for action in actions
        )

    def _noted(self, action: Answer | Escalate) -> Answer | Escalate:
        """The verdict with the certificate in its sentence too, for people."""
        said, standing = self.policy.guarantee, action.certificate
        assert standing is not None  # Certified stamps every verdict
        promise = f"at most {100 * said.max_drop:g} points lost at {100 * said.confidence:g} %"
        note = f"certificate {said.id} ({standing.status}: {standing.reason or promise})"
        noted: Answer | Escalate = replace(action, why=f"{note}: {action.why}")
        return noted


def is_void(policy: AnyPolicy | None) -> bool:
    """Whether a policy's certificate is void."""
    return isinstance(policy, Guard) and policy.monitor.void is not None
