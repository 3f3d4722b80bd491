"""A certified policy in service: once a monitor raises the alarm, the baseline answers.

The policy itself stays pure. Its monitor is what remembers: it is fed the outcomes of requests as
they are settled, and shared with other processes through the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from suffice.core.completions import Outcome
from suffice.core.coverage import Coverage
from suffice.core.decisions import Actions, Answer, AnyPolicy, Escalate
from suffice.core.requests import Request
from suffice.evals.extract import VERSION as EXTRACTION_VERSION
from suffice.gateway.certificates.monitors import Monitors, SharedMonitor
from suffice.policies.certified import Certified, stamped
from suffice.policies.wrapper import Choice, Chosen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuardedPolicy(Choice):
    """A `Certified` policy with its monitor; says on every outcome how the certificate stands."""

    policy: Certified
    monitor: SharedMonitor

    @classmethod
    def over(cls, policy: AnyPolicy, monitors: Monitors) -> AnyPolicy:
        """The policy guarded if it is certified, else itself."""
        if not isinstance(policy, Certified):
            return policy
        read = replace(policy, extraction_version=EXTRACTION_VERSION)
        return cls(policy=read, monitor=monitors.of(policy))

    @property
    def name(self) -> str:
        """The policy's."""
        return self.policy.name

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The certified policy, and what answers once it is switched off."""
        return (self.policy, self.policy.safe)

    def choose(self, request: Request) -> tuple[int, str]:
        """The baseline once the alarm was raised, with the reason.

        A request goes on as it began: an alarm meanwhile changes later ones only.
        """
        del request
        alarm = self.monitor.alarm
        return (0, "") if alarm is None else (1, alarm)

    def told(self, state: Chosen, actions: Actions) -> Actions:
        """The actions, every verdict with how the certificate stands."""
        if state.note:
            off = Coverage(id=self.policy.guarantee.id, status="switched off", reason=state.note)
            actions = stamped(actions, off, always="safe")
        return tuple(
            self._noted(action) if isinstance(action, Answer | Escalate) else action
            for action in actions
        )

    def filled(self, request: Request) -> Request:
        """The request with what it leaves open as the certificate's questions were asked."""
        return self.policy.subject.filled(request)

    def observe(self, outcome: Outcome) -> int | None:
        """Feed the monitor with an answer that the certificate covers.

        For one that the baseline did not give: how many of the baseline's were right before it.
        """
        return self.monitor.answered(outcome) if is_covered(outcome) else None

    def _noted(self, action: Answer | Escalate) -> Answer | Escalate:
        """The verdict with the certificate in its sentence too, for people."""
        said, standing = self.policy.guarantee, action.certificate
        assert standing is not None  # Certified stamps every verdict
        promise = f"at most {100 * said.max_drop:g} points lost at {100 * said.confidence:g} %"
        note = f"certificate {said.id} ({standing.status}: {standing.reason or promise})"
        noted: Answer | Escalate = replace(action, why=f"{note}: {action.why}")
        return noted


def is_covered(outcome: Outcome) -> bool:
    """Whether a certificate that is in force covers the answer."""
    standing = outcome.certificate
    return standing is not None and standing.status == "valid" and outcome.exit is not None


def is_switched_off(policy: AnyPolicy | None) -> bool:
    """Whether a policy's certificate is switched off."""
    return isinstance(policy, GuardedPolicy) and policy.monitor.alarm is not None
