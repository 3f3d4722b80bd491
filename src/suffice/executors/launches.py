"""From what a policy asks for to the samples that are sent: request, sampling, prefill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from suffice.core.decisions import Sample
from suffice.core.draw import Draw
from suffice.core.requests import Request, Sampling
from suffice.executors.running_sample import Launch

# The launch of a sample, by its number and the completion tokens granted (None: as asked for).
Launcher = Callable[[int, int | None], Launch]


def launcher(action: Sample, request: Request, *, logprobs: bool) -> Launcher:
    """What makes the launches of the samples of `action`; `logprobs`: the backend has them."""
    base = request.sampling
    sampling = _sampling(action, base, logprobs=logprobs)
    own = action.messages or action.prefill or action.preface or action.stop
    plain = not own and (
        action.tools is None
        and action.temperature is None
        and sampling.max_tokens == base.max_tokens
    )
    asked = request if action.messages is None else replace(request, messages=action.messages)
    if action.tools is not None and action.tools != request.tools:
        asked = replace(asked, tools=action.tools)
        if not action.tools:  # nothing is left to choose from, nor to write in a form of its own
            asked = replace(asked, tool_choice_json=None)
    draw = Draw(
        asked,
        sampling,
        model=action.model or request.model,
        thinking=request.thinking if action.thinking is None else action.thinking,
        prefill=action.preface + action.prefill,
    )

    def launch(number: int, granted: int | None) -> Launch:
        drawn = draw
        if granted is not None or sampling.seed is not None:
            seed = None if sampling.seed is None else sampling.seed + number
            most = sampling.max_tokens if granted is None else granted
            drawn = replace(draw, sampling=replace(sampling, seed=seed, max_tokens=most))
        return Launch(
            sample=number,
            draw=drawn,
            purpose=action.purpose,
            final=action.final,
            shown=action.prefill,
            plain=plain,
            whole=action.whole,
        )

    return launch


def _sampling(action: Sample, base: Sampling, *, logprobs: bool) -> Sampling:
    """The request's sampling with what the policy sets of it."""
    wished = action.top_logprobs if logprobs else None
    sets = (action.max_tokens, action.temperature, wished, action.stop or None)
    if all(value is None for value in sets):
        return base
    both = [value for value in (base.top_logprobs, wished) if value is not None]
    bounds = [value for value in (base.max_tokens, action.max_tokens) if value is not None]
    return replace(
        base,
        max_tokens=min(bounds) if bounds else None,
        temperature=base.temperature if action.temperature is None else action.temperature,
        stop=base.stop + tuple(text for text in action.stop if text not in base.stop),
        top_logprobs=max(both) if both else None,
    )
