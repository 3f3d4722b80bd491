"""The policy of `[live]`: the safe one answers, or the candidate that is switched on."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.core.completions import Outcome
from suffice.core.coverage import Coverage
from suffice.core.decisions import Actions, AnyPolicy
from suffice.core.requests import Request
from suffice.gateway.certificates.live_control import LiveControl
from suffice.policies.certified import ends_in, stamped
from suffice.policies.wrapper import Choice, Chosen

FREE_FORM = "free text is not compared: the safe policy answers"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LivePolicy(Choice):
    """Chooses by the state of its live certificate; says on every outcome how it stands."""

    control: LiveControl

    @property
    def name(self) -> str:
        """`live`."""
        return "live"

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The safe policy, then the candidates."""
        return (self.control.ways.safe, *self.control.ways.cheap)

    def choose(self, request: Request) -> tuple[int, str]:
        """The part that answers. A request goes on as it began: a change meets later ones only."""
        if request.answer_format is None and not self.control.judges(request):
            return 0, FREE_FORM
        answering = self.control.answering
        return (0 if answering is None else answering + 1), ""

    def told(self, state: Chosen, actions: Actions) -> Actions:
        """The actions, every verdict with how the certificate stands."""
        standing = self._standing(state)
        if state.part == 0:
            return stamped(actions, standing, always="safe")
        safe = self.control.ways.safe
        reverts = ends_in(self.parts[state.part], safe)
        return stamped(actions, standing, last="safe" if reverts else "accepted")

    def _standing(self, state: Chosen) -> Coverage:
        control, rule = self.control, self.control.promise
        if state.note:
            status, differs = "not covered", "free_form"
        else:
            status, differs = ("valid" if state.part else "shadowing"), None
        return Coverage(
            id=control.certificate,
            status=status,  # type: ignore[arg-type]
            not_covered=differs,  # type: ignore[arg-type]
            reason=state.note,
            target=rule.target,
            confidence=rule.confidence,
            shadowed=control.state.n,
            candidate=state.part,
        )


def part_that_answered(outcome: Outcome) -> int | None:
    """0: the safe policy, else the candidate's number from 1; None: no live certificate."""
    return None if outcome.certificate is None else outcome.certificate.candidate
