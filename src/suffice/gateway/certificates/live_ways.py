"""What `[live]` says: the policies, the promise, the judge, and the name of the certificate."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, SufficeError
from suffice.evals.text_judge import (
    LEAST_NOTICED,
    MeasuredJudge,
    read_judge,
    split,
)
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_errors import BadSetting
from suffice.policies.certified import Certified
from suffice.policies.live.state import LiveRule
from suffice.policies.registry import parse_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """The safe policy and the candidates in front of it, as written and built."""

    safe_text: str
    cheap_texts: tuple[str, ...]
    safe: AnyPolicy
    cheap: tuple[AnyPolicy, ...]

    @classmethod
    def of(cls, config: GatewayConfig) -> Ways | None:
        """Of `[live]`; None where there is none. Raises BadSetting."""
        live = config.live
        if live.safe is None:
            if live.cheap or live.shadow_only:
                raise BadSetting("live", InputError(
                    "live: cheap has no meaning without safe: say what answers until a cheaper "
                    "way is certified (--safe single@MODEL)"))  # fmt: skip
            return None
        if not live.cheap:
            raise BadSetting("live", InputError(
                "live: safe without cheap saves nothing: say what may take its place "
                "(--cheap single@SMALL or --cheap single:effort=none)"))  # fmt: skip
        if config.answer_format in (None, "text") and live.judge is None:
            raise BadSetting("live", InputError(
                "live: answers are compared, so say how: --answer-format number, choice, boxed, "
                "json, tool or regex:…; free text needs a judge (suffice live judge, then --judge)"
            ))  # fmt: skip
        if live.judge is not None and live.loss != "differ":
            raise BadSetting("live", InputError(
                f"live: loss = {live.loss} wants labels, and judge wants none: leave one out"
            ))  # fmt: skip
        texts = (live.safe, *live.cheap)
        built = tuple(_built(text) for text in texts)
        if len(set(built)) < len(built):
            raise BadSetting("live", InputError(
                f"live: the policies must differ, got {', '.join(texts)}"))  # fmt: skip
        return cls(safe_text=live.safe, cheap_texts=live.cheap, safe=built[0], cheap=built[1:])


def _built(text: str) -> AnyPolicy:
    try:
        policy = parse_policy(text)
    except SufficeError as error:
        raise BadSetting("live", error) from None
    if isinstance(policy, Certified):
        raise BadSetting("live", InputError("live: a certified policy has its own certificate"))
    return policy


def judge_of(config: GatewayConfig) -> MeasuredJudge | None:
    """The judge of free text that `[live]` names. Raises BadSetting."""
    if config.live.judge is None:
        return None
    try:
        return read_judge(Path(config.live.judge))
    except InputError as error:
        raise BadSetting("live", error) from None


def judged_rule(rule: LiveRule, judge: MeasuredJudge) -> LiveRule:
    """The rule by which what the judge sees keeps the promise of `rule`. Raises InputError.

    What it misses is carried by a smaller target, that it may be worse than measured by a part of
    the error probability: see suffice.evals.text_judge.
    """
    of_judge, of_evidence = split(rule.confidence)
    notices = judge.sensitivity(of_judge)
    if notices < LEAST_NOTICED:
        raise InputError(
            f"the judge {judge.model} is only known to notice {notices:.0%} of worse answers "
            f"(at {of_judge:.0%}); {LEAST_NOTICED:.0%} are needed: take a better one, or measure "
            "it on more pairs (suffice live judge)"
        )
    return replace(rule, target=rule.target * notices, confidence=of_evidence)


def rule_of(config: GatewayConfig) -> LiveRule:
    """The promise that `[live]` states."""
    live = config.live
    return LiveRule(
        target=live.target, confidence=live.confidence, candidates=len(live.cheap),
        run_length=live.run_length, window=live.window, share=live.share,
        share_after=min(live.share, live.share_after), loss=live.loss, unlabelled=live.unlabelled,
    )  # fmt: skip


def certificate_id(config: GatewayConfig, judge: MeasuredJudge | None) -> str:
    """Names the promise: another rule, policy or answer format is another certificate."""
    rule = asdict(rule_of(config))
    if config.live.cluster_by is not None:
        rule |= {"cluster_by": config.live.cluster_by, "clusters": config.live.clusters}
    if rule["loss"] == "differ":  # as it was named before there were labels
        del rule["loss"], rule["unlabelled"]
    told = rule | {
        "safe": config.live.safe, "cheap": config.live.cheap, "model": config.model,
        "answer_format": config.answer_format, "tools": config.live.tools,
    }  # fmt: skip
    if judge is not None:
        told["judge"] = judge.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"live-{digest[:12]}"


def uniform(certificate: str, request_id: str) -> float:
    """A number in [0, 1) that nobody knows before the request, and everybody after it."""
    digest = hashlib.sha256(f"{certificate}/{request_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2.0**64


def kept_rule(rule: LiveRule, judge: MeasuredJudge) -> LiveRule:
    """`judged_rule`, a judge that is refused as a setting that is wrong. Raises BadSetting."""
    try:
        return judged_rule(rule, judge)
    except InputError as error:
        raise BadSetting("live", error) from None
