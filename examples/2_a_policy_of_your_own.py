"""A policy is a pure state machine: evidence in, actions out. This one asks until two agree.

It has no clock, no input or output and no randomness, so the same object runs live and in replay.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from suffice import Message, Request, run
from suffice.backends import FakeBackend, Script
from suffice.core.decisions import Answer, Escalate, WholeSamples
from suffice.evals.extract import extractor
from suffice.policies.sampling_state import Pool, ended


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoAgree(WholeSamples):
    """Draw one sample at a time; answer as soon as two of them say the same."""

    max_samples: int = 8
    name: ClassVar[str] = "two_agree"
    needs: ClassVar[frozenset[str]] = frozenset()
    baseline_samples: ClassVar[int] = 1

    def start(self, request):
        return Pool().launch(1)

    def step(self, state, evidence):
        state = state.settle(evidence)
        if not ended(evidence):
            return state, ()
        answers = [seen.answer for seen in state.seen]
        twice = next((s for s in state.seen if s.answer and answers.count(s.answer) > 1), None)
        if twice is not None:
            return state, (Answer(sample=twice.sample, why="two agree"),)
        if state.launched >= self.max_samples:
            return state, (Escalate(why="no two answers agree", best=0),)
        return state.launch(1)


async def main() -> None:
    backend = FakeBackend([Script.of(f"it is {n}") for n in (4, 7, 4, 5)])
    request = Request(messages=(Message(role="user", content="2 + 2?"),), model="fake")
    outcome = await run(TwoAgree(), request, backend, extract=extractor("number"))
    print(f"{outcome.completion.text!r} after {outcome.samples_run} samples: {outcome.why}")


asyncio.run(main())
