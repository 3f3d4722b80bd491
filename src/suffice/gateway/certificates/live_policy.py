"""The policy of `[live]`: the safe one answers, or the candidate that is switched on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from suffice.core.completions import Outcome
from suffice.core.coverage import Coverage
from suffice.core.decisions import Actions, AnyPolicy
from suffice.core.requests import Part, Request, TextPart
from suffice.gateway.certificates.live_control import LiveControl
from suffice.policies.certified import ends_in, stamped
from suffice.policies.wrapper import Choice, Chosen

FREE_FORM = "free text is not compared: the safe policy answers"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LivePolicy(Choice):
    """Chooses by the state of its live certificate; says on every outcome how it stands."""

    control: LiveControl
    clusters: tuple[LivePolicy, ...] = ()  # one for each kind of prompt; `control` is the first's

    def of(self, request: Request) -> LivePolicy:
        """The policy, and so the certificate, of this request's kind."""
        if not self.clusters:
            return self
        by = self.control.cluster_by
        return self.clusters[cluster_of(request, by, len(self.clusters))]

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


def cluster_of(request: Request, by: str, clusters: int) -> int:
    """Number of the request's kind: the same in every process, and nothing of it is kept."""
    if by == "system":
        text = "\n".join(
            _text(message.content)
            for message in request.messages
            if message.role in ("system", "developer")
        )
    else:
        metadata = json.loads(request.extra_json or "{}").get("metadata")
        value = metadata.get(by.partition(".")[2]) if isinstance(metadata, dict) else None
        text = "" if value is None else str(value)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % clusters


def _text(content: str | tuple[Part, ...] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content if isinstance(part, TextPart))


def part_that_answered(outcome: Outcome) -> int | None:
    """0: the safe policy, else the candidate's number from 1; None: no live certificate."""
    return None if outcome.certificate is None else outcome.certificate.candidate
