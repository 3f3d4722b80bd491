"""A live certificate in service: its state, folded from the ledger's rows by every process alike.

Whatever a process shadows goes to the ledger first; every process, the one that wrote included,
takes rows from there, in their one order, and steps the state machine of policies.live with them.
All come to the same decision at the same row, after a restart too, and no row counts twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from suffice.core.requests import Request
from suffice.evals.text_judge import is_readable
from suffice.gateway.certificates.live_ways import (
    Ways,
    certificate_id,
    judge_of,
    kept_rule,
    rule_of,
    uniform,
)
from suffice.gateway.config import GatewayConfig
from suffice.ledger import live_labels, shadows
from suffice.ledger.live_labels import PlacedLabel
from suffice.ledger.shadows import DIFFERENT, NOT_RUN, ShadowRow
from suffice.ledger.store import Store
from suffice.policies.live.labels import Loss, losses_of
from suffice.policies.live.state import (
    LiveEvent,
    LiveState,
    ShadowJudged,
    ShadowSeen,
    after,
)

logger = logging.getLogger("suffice.gateway")

# The policy's name: suffice/live as a model.
LIVE = "live"
# Points of the curve that is shown; older ones are thinned out.
CURVE = 400
EVENTS = 50
DAY_S = 86400
ROWS = 5000  # of the ledger at a time

_SAYS = {
    "promoted": "switched on: at most {target:g} % of requests are answered {differently}, "
    "certified at {confidence:g} % after {n} shadowed requests ({mean:.1%} {differed})",
    "demoted": "switched off: differences have risen; the evidence begins anew after {n} shadowed "
    "requests ({mean:.1%} {differed})",
    "restarted": "not certified within {n} shadowed requests ({mean:.1%} {differed}): the evidence "
    "begins anew",
}

# What a loss is called: of a request, and of those seen. Unlabelled differences count among them.
_LOSSES: dict[Loss, tuple[str, str]] = {
    "differ": ("differently", "differed"),
    "harm": ("wrongly where the safe answer is right", "lost, or differ without a label"),
    "net": (
        "wrongly where the safe answer is right, beyond those won",
        "lost net, or differ without a label",
    ),
}


def _told(letters: str) -> tuple[bool | None, ...]:
    """Whether each candidate's answer differs; None: it was not run."""
    return tuple(None if each == NOT_RUN else each == DIFFERENT for each in letters)


class LiveControl:
    """What one process knows of a live certificate."""

    def __init__(self, config: GatewayConfig, ways: Ways, cluster: int | None = None) -> None:
        """`cluster`: number of the kind of prompts that it is about; None: of all."""
        self.judge = judge_of(config)
        self.family = certificate_id(config, self.judge)
        self.certificate = self.family if cluster is None else f"{self.family}.{cluster}"
        self.cluster = cluster
        self.cluster_by = config.live.cluster_by or ""
        self.ways = ways
        # What is promised, and the rule that is kept for it: stricter where a judge may err.
        self.promise = rule_of(config)
        self.rule = self.promise if self.judge is None else kept_rule(self.promise, self.judge)
        self.shadow_only = config.live.shadow_only
        self.tools = config.live.tools
        self.tokens_per_day = config.live.tokens_per_day
        self._lock = threading.Lock()
        self.state = LiveState.of(self.rule)
        self._loaded = False
        self.events: deque[tuple[float, LiveEvent]] = deque(maxlen=EVENTS)  # with their time
        self._curve: list[tuple[float, int, float, float]] = []
        self._step = 1
        self._costs = [0.0, 0.0]  # of shadowed requests: the safe policy, the candidate in turn
        self._tokens_today = (0, 0)  # the day, and what shadowing took
        self.labels_from = config.live.labels_from
        self.shadow_priority = config.live.shadow_priority
        self._labels = 0  # folded
        self._differing = 0  # requests where a candidate's answer differs
        self._settled = 0  # of those, labelled

    @property
    def answering(self) -> int | None:
        """The candidate that answers clients; None: the safe policy."""
        return None if self.shadow_only else self.state.answering

    def judges(self, request: Request) -> bool:
        """Whether free-form answers to this request can be judged."""
        return self.judge is not None and is_readable(request.messages)

    @property
    def watched(self) -> tuple[int, ...]:
        """Candidates that a shadowed request runs: the one that is on, and the next."""
        on, following = self.state.answering, self.state.next
        return tuple(each for each in (on, following) if each is not None)

    def share(self, now_s: float | None = None) -> float:
        """The share of requests to shadow now; 0 while the day's tokens are spent."""
        if self.tokens_per_day is not None:
            day, tokens = self._tokens_today
            today = int((time.time() if now_s is None else now_s) // DAY_S)
            if day == today and tokens >= self.tokens_per_day:
                return 0.0
        return self.state.share(self.rule)

    def pull(self, store: Store) -> None:
        """Fold what the ledger has beyond what is known here."""
        with self._lock:
            while self._fold_some(store):
                pass
            self._loaded = True
            if self.tokens_per_day is not None:
                day = int(time.time() // DAY_S)
                spent = shadows.tokens_since(store, self.family, day * DAY_S)
                self._tokens_today = (day, spent)

    def _fold_some(self, store: Store) -> bool:
        """Fold the next rows, and the labels between them; whether there were any.

        Labels are read after the rows: one that comes before a row was written before it.
        """
        rows = shadows.since(store, self.certificate, self.state.n, ROWS)
        labels: deque[PlacedLabel] = deque()
        if self.rule.loss != "differ":
            last = self.state.n + len(rows)
            labels.extend(live_labels.since(store, self.certificate, self._labels, last))
        found = bool(rows or labels)
        for row in rows:
            while labels and labels[0].shadows_before <= self.state.n:
                self._judge(labels.popleft())
            self._fold(row)
        while labels:
            self._judge(labels.popleft())
        return found

    def _judge(self, placed: PlacedLabel) -> None:
        self._labels += 1
        differs = _told(placed.differs)
        if True in differs:
            self._settled += 1
        losses = losses_of(differs, placed.right, self.rule.loss)
        entered = self.rule.unlabelled == "lost"
        for candidate, (apart, loss) in enumerate(zip(differs, losses, strict=True)):
            if loss is None or (entered and not apart):
                continue
            judged = ShadowJudged(
                number=placed.shadow, candidate=candidate, before=1.0 if entered else None,
                loss=loss, share=placed.share,
            )  # fmt: skip
            self.state, events = after(self.state, judged, self.rule)
            self._tell(placed.label.at_s, events)

    def _fold(self, row: ShadowRow) -> None:
        differs = _told(row.differs)
        if True in differs:
            self._differing += 1
        u = uniform(self.certificate, row.request_id)
        seen = ShadowSeen(differs=differs, share=row.share, u=u)
        self.state, events = after(self.state, seen, self.rule)
        if row.safe_cost is not None and row.cheap_cost is not None:
            self._costs[0] += row.safe_cost
            self._costs[1] += row.cheap_cost
        self._tell(row.at_s, events)
        if self.state.n % self._step == 0 and not events:
            self._point(row.at_s)

    def _tell(self, at_s: float, events: Sequence[LiveEvent]) -> None:
        for event in events:
            self.events.append((at_s, event))
            if self._loaded:  # what a restart reads again was said before
                logger.warning("live certificate %s: %s", self.certificate, self.said(event))
        if events:
            self._point(at_s)

    def _point(self, at_s: float) -> None:
        state = self.state
        arm = state.arms[min(state.on, len(state.arms) - 1)]
        mean = arm.evidence.mean
        self._curve.append((at_s, state.n, arm.evidence.log, 0.0 if mean is None else mean))
        if len(self._curve) > CURVE:
            self._curve = self._curve[::2]
            self._step *= 2

    def said(self, event: LiveEvent) -> str:
        """An event for people."""
        judge = self.judge
        differently, differed = _LOSSES[self.rule.loss]
        if judge is not None:
            differently, differed = "worse", f"worse, says {judge.model}"
        text = _SAYS[event.happened].format(
            target=100 * self.promise.target, confidence=100 * self.promise.confidence,
            n=event.n, mean=event.mean, differently=differently, differed=differed,
        )  # fmt: skip
        return f"{self.ways.cheap_texts[event.candidate]} {text}"

    def gauges(self) -> dict[str, float]:
        """What metrics show of it."""
        state, rule, answering = self.state, self.rule, self.answering
        arm = state.arms[min(state.on, len(state.arms) - 1)]
        doubts = [each.detector.value / rule.alarm for each in state.arms[: state.on]]
        return {
            "live_candidate": 0.0 if answering is None else answering + 1.0,
            "live_shadowed": float(state.n),
            "live_share": self.share(),
            "live_differ": arm.evidence.mean or 0.0,
            "live_evidence": arm.evidence.log / rule.reach,
            "live_doubt": max(doubts, default=0.0),
        }

    def shown(self) -> dict[str, Any]:
        """How the certificate stands, as a JSON value."""
        with self._lock:
            state, curve, events = self.state, list(self._curve), list(self.events)
            safe_cost, cheap_cost = self._costs
        rule, judge = self.rule, self.judge
        return {
            "id": self.certificate, "cluster": self.cluster, "safe": self.ways.safe_text,
            "target": self.promise.target,
            "confidence": self.promise.confidence, "run_length": rule.run_length,
            "shadow_only": self.shadow_only, "shadowed": state.n, "share": self.share(),
            "answering": None if self.answering is None else self.answering + 1,
            "doubted": state.suspects(rule), "reach": rule.reach,
            # By labels: what is counted, and how many differences still wait for one.
            "loss": rule.loss, "unlabelled": rule.unlabelled, "labels": self._labels,
            "waiting": None if rule.loss == "differ" else self._differing - self._settled,
            # Of free text; `needed`: below what share judged worse the promise is kept.
            "judge": None if judge is None else {"model": judge.model, "needed": rule.target},
            # Of the safe policy's cost, by shadowed requests; None: costs cannot be compared.
            "cheap_cost_share": cheap_cost / safe_cost if safe_cost else None,
            "candidates": [
                {
                    "policy": text, "on": number < state.on, "n": arm.evidence.n,
                    "differ": arm.evidence.mean, "log_wealth": arm.evidence.log,
                    "log_alarm": arm.detector.value / rule.alarm,
                }
                for number, (text, arm) in enumerate(
                    zip(self.ways.cheap_texts, state.arms, strict=True)
                )
            ],
            "curve": [
                {"at_s": at_s, "n": n, "log_wealth": log, "differ": mean}
                for at_s, n, log, mean in curve
            ],
            "events": [
                {"at_s": at_s, **asdict(event), "said": self.said(event)} for at_s, event in events
            ],
        }  # fmt: skip

    def apply(self, config: GatewayConfig) -> None:
        """Take over what does not change the promise."""
        self.shadow_only = config.live.shadow_only
        self.tokens_per_day = config.live.tokens_per_day
        self.shadow_priority = config.live.shadow_priority
        self.labels_from = config.live.labels_from
