"""Ask several times and stop as soon as the majority is stable: a policy from Python, no server.

The model is suffice-nano, a one-megabyte model of puzzles that ships with the package; put
OpenAIBackend("http://localhost:8000/v1") in its place for a server of your own.
"""

import asyncio

from suffice import Message, Request, Sampling, run
from suffice.backends.nano.backend import NanoBackend
from suffice.evals.extract import extractor
from suffice.policies import AdaptiveConsistency, SelfConsistency

PUZZLE = "3fb"  # start at 3, apply f, then b
REQUEST = Request(
    messages=(Message(role="user", content=PUZZLE),),
    model="suffice-nano",
    sampling=Sampling(temperature=1.0, max_tokens=64),
    answer_format="number",
)


async def main() -> None:
    backend = NanoBackend()
    for policy in (SelfConsistency(samples=16), AdaptiveConsistency(max_samples=16)):
        outcome = await run(policy, REQUEST, backend, extract=extractor("number"))
        print(
            f"{policy.name:21} answer {outcome.completion.text!r}, {outcome.samples_run} samples, "
            f"{outcome.usage.completion_tokens} completion tokens; {outcome.why}"
        )


asyncio.run(main())
