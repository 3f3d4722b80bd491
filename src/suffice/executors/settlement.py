"""How a request ends: the best of its samples without the policy, its confidence, its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from suffice.core.completions import Completion, SampleRecord, Usage
from suffice.core.decisions import Answer, Escalate, Failure
from suffice.core.errors import (
    BackendError,
    MalformedStream,
    NoAnswer,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamTimeout,
)
from suffice.executors.running_sample import RunningSample


def best_of(
    ended: Sequence[RunningSample], running: Sequence[RunningSample], why: str
) -> Escalate:  # fmt: skip
    """Settled without the policy: majority, else the last finished, else the longest partial."""
    finished = [each for each in ended if each.status == "finished"]
    answers = [each.answer for each in finished if each.answer is not None]
    if answers:
        winner = max(answers, key=answers.count)
        best = next(each for each in finished if each.answer == winner)
        share = answers.count(winner) / len(answers)
        return Escalate(why=why, best=best.launch.sample, measure=share)
    partial = [*finished[-1:], *sorted(running, key=lambda each: -each.tokens)]
    usable = [each for each in partial if each.status == "finished" or each.spoke]
    return Escalate(why=why, best=usable[0].launch.sample if usable else None)


def confidence_of(
    decision: Answer | Escalate, records: tuple[SampleRecord, ...], chosen: int
) -> float | None:
    """P(right) where a policy file has calibrated it, else the share of votes for the answer.

    One vote alone agrees with itself, which says nothing; nor do votes about a text that was put
    together afterwards.
    """
    if decision.probability is not None or decision.text is not None:
        return decision.probability
    votes = [record.answer for record in records if record.is_vote]
    mine = next(record.answer for record in records if record.sample == chosen)
    return None if mine is None or len(votes) < 2 else votes.count(mine) / len(votes)


def accepted(decision: Answer | Escalate, completion: Completion) -> Completion:
    """The completion of the sample that was decided for, as the decision wants it given."""
    if decision.text is not None:
        # What the server said besides was about its own text.
        completion = replace(
            completion, text=decision.text, finish_reason="stop", tool_calls=(), extras=None
        )
    if isinstance(decision, Answer) and decision.tool_calls:
        return replace(
            completion, tool_calls=decision.tool_calls, finish_reason="tool_calls", extras=None
        )
    if completion.finish_reason == "cancelled":
        return replace(completion, finish_reason="length")
    return completion


def usage_of(records: tuple[SampleRecord, ...]) -> Usage:
    """Usage summed; adding one by one would cost more than all else in a long replay."""
    usages = [record.usage for record in records]
    cached = [usage.cached_tokens for usage in usages if usage.cached_tokens is not None]
    thought = [usage.reasoning_tokens for usage in usages if usage.reasoning_tokens is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(cached) if cached else None,
        reasoning_tokens=sum(thought) if thought else None,
    )


def failure_of(error: BackendError) -> Failure:
    """The evidence's word for an error."""
    match error:
        case UpstreamRefused():
            return "refused"
        case UpstreamTimeout():
            return "timeout"
        case UpstreamDisconnected():
            return "disconnected"
        case MalformedStream():
            return "malformed"
        case _:
            return "rejected"


def joint_error(errors: Mapping[int, BackendError], why: str) -> BackendError:
    """What is raised where every sample failed, by the errors of the samples."""
    if not errors:
        return NoAnswer(f"no answer: {why}; raise the budget or the time limit")
    if len({type(error) for error in errors.values()}) == 1:
        return next(iter(errors.values()))
    said = "; ".join(f"sample {number}: {error}" for number, error in errors.items())
    return NoAnswer(f"every sample failed: {said}")
