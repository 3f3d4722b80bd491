"""What the baseline would have cost for a request that a policy has answered.

The baseline is a policy too. Where the samples that it would have drawn are among those that were
drawn, its cost is known exactly: it is played over them. Else what is missing is estimated, and the
result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from suffice.core.completions import Completion, CostModel, Outcome, SampleRecord, Usage
from suffice.core.decisions import Answer, AnyPolicy, Sample, SampleFinished
from suffice.core.errors import SufficeError
from suffice.core.prices import Prices
from suffice.core.requests import Message, Request, Tool
from suffice.core.savings import Basis, CostUnit, Method, Saving
from suffice.core.thinking import Thinking
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.replay import play
from suffice.executors.running_sample import Launch
from suffice.executors.turns_baseline import ran_in_turns, usage_in_turns

Spent = list[tuple[str, Usage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A policy that answers are compared with. `model` is what it asks where it names none."""

    text: str  # as `--policy` takes it, with its model
    policy: AnyPolicy
    model: str
    one_call: bool = False  # it sends the request to `model` once, as it is

    @classmethod
    def of(cls, text: str, policy: AnyPolicy, model: str) -> Baseline:
        """A policy as a baseline; one plain call is told apart, for which nothing is played."""
        return cls(text=text, policy=policy, model=model, one_call=_is_one_call(policy, model))


# A question whose answers could be voted on: only what asks once all the same is one call.
_QUESTION = Request(
    messages=(Message(role="user", content="1 + 1"),), model="", answer_format="number"
)


def _is_one_call(policy: AnyPolicy, model: str) -> bool:
    state, actions = policy.start(_QUESTION)
    if not policy.waits_for_ends or len(actions) != 1 or not isinstance(actions[0], Sample):
        return False
    asked = actions[0]
    plain = Sample(
        samples=asked.samples[:1],
        model=asked.model,
        top_logprobs=asked.top_logprobs,
        final=asked.final,
        whole=asked.whole,
    )
    if asked != plain or asked.model not in (None, model):
        return False
    (number,) = asked.samples
    said = Completion(text="2", finish_reason="stop", usage=Usage())
    _, actions = policy.step(state, SampleFinished(sample=number, completion=said, answer="2"))
    return len(actions) == 1 and isinstance(actions[0], Answer)


@dataclass(frozen=True, slots=True)
class Length:
    """Completion tokens of a baseline that was not asked, all its calls together."""

    tokens: float
    basis: Basis
    method: Method


# What is known of that from elsewhere: calibrations, audits, earlier requests. None: nothing.
LengthOf = Callable[[Outcome, Baseline], Length | None]


def compare(
    outcome: Outcome,
    request: Request,
    baseline: Baseline,
    *,
    cost_model: CostModel,
    relative: Prices | None = None,
    length_of: LengthOf | None = None,
) -> Saving | None:
    """The outcome's cost beside the baseline's; None where that cannot be told.

    It cannot where nothing speaks for the baseline's length, or where the two ask different models
    of which one has no price. `relative` prices count where `cost_model` knows no money.
    """
    found = _baseline_calls(outcome, request, baseline, length_of)
    if found is None:
        return None
    calls, basis, method = found
    own = [(record.model, record.usage) for record in outcome.records]
    if basis == "same":
        calls = own
    costs = _in_one_unit(own, calls, cost_model, relative, baseline.model)
    if costs is None:
        return None
    cost, baseline_cost, unit = costs
    return Saving(
        baseline=baseline.text,
        cost=cost,
        baseline_cost=baseline_cost,
        unit=unit,
        basis=basis,
        method=method,
    )


def compare_with_turns(
    outcome: Outcome,
    request: Request,
    tools: Sequence[Tool],
    model: str,
    *,
    cost_model: CostModel,
    relative: Prices | None = None,
) -> Saving | None:
    """The outcome's cost beside that of the same calls of `tools` in turns (turns_baseline).

    Turns compared with turns are the same. None where that cannot be told, as for `compare`.
    """
    own = [(record.model, record.usage) for record in outcome.records]
    turns = own
    if not ran_in_turns(outcome):
        usages = usage_in_turns(outcome, request, tools)
        if usages is None:
            return None
        turns = [(model, usage) for usage in usages]
    costs = _in_one_unit(own, turns, cost_model, relative, model)
    if costs is None:
        return None
    cost, baseline_cost, unit = costs
    return Saving(
        baseline=f"react@{model}",
        cost=cost,
        baseline_cost=baseline_cost,
        unit=unit,
        basis="same" if turns is own else "estimated",
        method="calls" if turns is own else "turns",
    )


_Found = tuple[Spent, Basis, Method]


def _baseline_calls(
    outcome: Outcome, request: Request, baseline: Baseline, length_of: LengthOf | None
) -> _Found | None:
    if not baseline.one_call:
        return _played(outcome, request, baseline, length_of)
    model = baseline.model
    drawn = _Drawn(outcome, request).of(model, request.thinking)
    if not drawn:
        return _unasked(outcome, request, baseline, length_of)
    first = drawn[0]
    if first.status == "finished":
        if len(outcome.records) == 1:
            return [(model, first.usage)], "same", "calls"
        return [(model, _uncached(first.usage, drawn))], "measured", "calls"
    finished = [record.usage for record in drawn if record.status == "finished"]
    if not finished:
        return None
    return [(model, _uncached(_mean(finished), drawn))], "estimated", "mean_sample"


class _Drawn:
    """Samples of an outcome that the baseline may have drawn as well."""

    def __init__(self, outcome: Outcome, request: Request) -> None:
        self._records = outcome.records
        self._default = request.thinking

    def of(self, model: str, thinking: Thinking | None) -> list[SampleRecord]:
        """Samples of the unchanged request on this model with this think block, as drawn."""
        return [record for record in self._records if _may_be_its(record, model, thinking)]


def _may_be_its(record: SampleRecord, model: str, thinking: Thinking | None) -> bool:
    return (
        record.plain
        and record.model == model
        and record.purpose == "answer"
        and record.thinking == thinking
    )


def _uncached(usage: Usage, siblings: Sequence[SampleRecord]) -> Usage:
    """The first call reads the prompt, whichever of the siblings the engine says has read it."""
    told = [r.usage.cached_tokens for r in siblings if r.usage.cached_tokens is not None]
    return replace(usage, cached_tokens=min(told)) if told else usage


def _mean(usages: Sequence[Usage]) -> Usage:
    """A call of mean length; the prompt is that of the first."""
    drawn = sum(usage.completion_tokens for usage in usages) / len(usages)
    return replace(usages[0], completion_tokens=round(drawn))


def _unasked(
    outcome: Outcome, request: Request, baseline: Baseline, length_of: LengthOf | None
) -> _Found | None:
    """A baseline that was not asked: its length follows from that of the answer given."""
    given = next((r for r in outcome.records if r.sample == outcome.sample), None)
    if given is None or not given.plain or given.purpose != "answer":
        return None
    known = None if length_of is None else length_of(outcome, baseline)
    basis: Basis
    method: Method
    if known is not None:
        tokens, basis, method = known.tokens, known.basis, known.method
    elif given.thinking == request.thinking:
        tokens, basis, method = float(given.usage.completion_tokens), "estimated", "same_length"
    else:
        return None  # with and without thinking are no measure for each other
    siblings = [r for r in outcome.records if r.model == given.model and r.plain]
    prompt = _uncached(given.usage, siblings)
    usage = replace(prompt, completion_tokens=round(tokens), reasoning_tokens=None)
    return [(baseline.model, usage)], basis, method


def _played(
    outcome: Outcome, request: Request, baseline: Baseline, length_of: LengthOf | None
) -> _Found | None:
    """A baseline of several calls, played over the samples that were drawn."""
    filler = _unasked(outcome, request, baseline, length_of)
    recording = _Recording(_Drawn(outcome, request), None if filler is None else filler[0][0][1])
    asked = replace(request, model=baseline.model)
    try:
        played = play(baseline.policy, asked, recording).outcome
    except SufficeError:  # it needs what nobody drew, or scores that are not kept
        return None
    spent = [
        (record.model, replace(record.usage, cached_tokens=recording.cached[record.sample]))
        for record in played.records
    ]
    if not recording.filled:
        same = len(recording.taken) == len(outcome.records) and all(
            record.status == "finished" for record in (*played.records, *outcome.records)
        )
        return spent, "same" if same else "measured", "calls"
    if recording.taken or filler is None:
        return spent, "estimated", "mean_sample"
    drawn = sum(usage.completion_tokens for _, usage in spent)
    total = filler[0][0][1].completion_tokens  # of all its calls together
    if filler[2] != "same_length" and drawn:
        spent = [
            (model, replace(usage, completion_tokens=usage.completion_tokens * total // drawn))
            for model, usage in spent
        ]
    return spent, filler[1], filler[2]


class _Recording:
    """Gives the baseline the samples that were drawn, then ones like them."""

    def __init__(self, drawn: _Drawn, filler: Usage | None) -> None:
        self._drawn = drawn
        self._filler = filler
        self._given: dict[tuple[str, Thinking | None], int] = {}
        self.cached: dict[int, int | None] = {}
        self.taken: list[SampleRecord] = []
        self.filled = 0

    def __call__(self, launch: Launch) -> RecordedSample:
        """The next sample that fits; raises LookupError-like SufficeError where none can."""
        key = launch.draw.model, launch.draw.thinking
        known = self._drawn.of(*key) if launch.plain else []
        finished = [record for record in known if record.status == "finished"]
        number = self._given.get(key, 0)
        self._given[key] = number + 1
        told = sorted(r.usage.cached_tokens for r in known if r.usage.cached_tokens is not None)
        if number < len(finished):
            record = finished[number]
            self.taken.append(record)
            usage, answer, score = record.usage, record.answer, record.score
        else:
            self.filled += 1
            if finished:
                usage = _mean([record.usage for record in finished])
                answer, score = finished[number % len(finished)].answer, None
            elif self._filler is not None and launch.plain:
                usage, answer, score = self._filler, "", None
            else:
                raise _NotDrawn(f"no sample of {launch.draw.model} was drawn")
        self.cached[launch.sample] = told[min(number, len(told) - 1)] if told else None
        return RecordedSample(
            text="",
            tokens=usage.completion_tokens,
            prompt_tokens=usage.prompt_tokens,
            answer=answer,
            score=score,
        )


class _NotDrawn(SufficeError):
    """The baseline needs a sample of which nothing is known."""


def _in_one_unit(
    own: Spent, baseline: Spent, cost_model: CostModel, relative: Prices | None, unit_model: str
) -> tuple[float, float, CostUnit] | None:
    """Both costs in money, else in tokens weighted by price, else in tokens of the one model."""
    usd = _usd(own, cost_model)
    baseline_usd = usd if baseline is own or usd is None else _usd(baseline, cost_model)
    if usd is not None and baseline_usd is not None:
        return usd, baseline_usd, "usd"
    models = {model for model, _ in (*own, *baseline)}
    if relative and not relative.lacking((*models, unit_model)):
        one = relative.of(unit_model)
        if one is not None and one.completion_usd > 0.0:
            scale = 1e6 / one.completion_usd
            first, second = (
                sum(relative.amount(model, usage) for model, usage in spent) * scale
                for spent in (own, baseline)
            )
            return first, second, "tokens"
    if len(models) == 1:
        return _tokens(own), _tokens(baseline), "tokens"
    return None


def _usd(spent: Spent, cost_model: CostModel) -> float | None:
    total = 0.0
    for model, usage in spent:
        usd = cost_model(model, usage).usd
        if usd is None:
            return None
        total += usd
    return total


def _tokens(spent: Iterable[tuple[str, Usage]]) -> float:
    return float(sum(usage.total_tokens for _, usage in spent))
