"""A certified policy in service: once its certificate is void, the safe arm answers.

The policy itself stays pure. Its monitor is what remembers: it is fed the outcomes of requests as
they are settled, and shared with other processes through the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from suffice.core.completions import Outcome
from suffice.core.coverage import EARLY, Coverage
from suffice.core.decisions import Actions, Answer, AnyPolicy, Escalate
from suffice.core.requests import Request
from suffice.evals.extract import VERSION as EXTRACTION_VERSION
from suffice.gateway.watches import SharedWatch, Watches
from suffice.policies.certified import Certified, stamped
from suffice.policies.drift import Observation
from suffice.policies.wrapper import Choice, Chosen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guard(Choice):
    """A `Certified` policy with its running monitor; says on every outcome how it stands."""

    policy: Certified
    monitor: SharedWatch

    @classmethod
    def over(cls, policy: AnyPolicy, watches: Watches) -> AnyPolicy:
        """The policy guarded if it is certified, else itself."""
        if not isinstance(policy, Certified):
            return policy
        read = replace(policy, extraction_version=EXTRACTION_VERSION)
        return cls(policy=read, monitor=watches.of(policy))

    @property
    def name(self) -> str:
        """The policy's."""
        return self.policy.name

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The certified policy, and what answers once its certificate is void."""
        return (self.policy, self.policy.safe)

    def choose(self, request: Request) -> tuple[int, str]:
        """The safe arm once the certificate is void, with the reason.

        A request goes on as it began: an alarm meanwhile changes later ones only.
        """
        del request
        void = self.monitor.void
        return (0, "") if void is None else (1, void)

    def told(self, state: Chosen, actions: Actions) -> Actions:
        """The actions, every verdict with how the certificate stands."""
        if state.note:
            standing = Coverage(id=self.policy.guarantee.id, status="void", reason=state.note)
            actions = stamped(actions, standing, safe=True)
        return tuple(
            self._noted(action) if isinstance(action, Answer | Escalate) else action
            for action in actions
        )

    def filled(self, request: Request) -> Request:
        """The request with what it leaves open as the certificate's questions were asked."""
        return self.policy.subject.filled(request)

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
