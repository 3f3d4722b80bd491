"""Training texts: questions played under each policy by a model that knows, prompt and reply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from small_planner.oracle import Example, Writes, play_rightly
from small_planner.questions import Country, Question
from suffice.backends.tool_calls import tool_call_json
from suffice.backends.wire import message_json, tool_json
from suffice.core.decisions import AnyPolicy
from suffice.policies.registry import parse_policy
from suffice.tools.servers import python
from suffice.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to ask: a policy, and the form in which the model writes for it."""

    policy: str
    writes: Writes
    weight: float

    def build(self) -> AnyPolicy:
        """The policy."""
        return parse_policy(self.policy)


FORMS = (
    Form(policy="react", writes="turns", weight=0.2),
    Form(policy="rewoo", writes="rewoo", weight=0.14),
    Form(policy="rewoo:notation=numbered", writes="numbered", weight=0.14),
    Form(policy="rewoo:notation=python", writes="python", weight=0.12),
    Form(policy="futures", writes="futures", weight=0.14),
    Form(policy="program", writes="program", weight=0.12),
    Form(policy="abstraction", writes="abstraction", weight=0.14),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A rendered prompt and the reply that belongs to it."""

    prompt: str
    reply: str
    learned_from: int | None = None  # character of the prompt; None: the reply alone


def pairs(
    asked: Sequence[Question], render: Any, *, seed: int | str, country: Country
) -> Iterator[Pair]:
    """Prompts and replies of questions, each under one form; `render` is a tokenizer's template.

    A conversation that goes on is given once, whole: its earlier replies stand in the last prompt.
    """
    rng = random.Random(seed)
    weights = [form.weight for form in FORMS]
    tools, sandbox = country.server(), python.server()
    try:
        for question in asked:
            form = rng.choices(FORMS, weights)[0]
            toolbox = Toolbox([tools, sandbox] if form.writes == "program" else [tools])
            played = play_rightly(question, form.build(), form.writes, toolbox)
            yield from _whole(played.examples, render)
    finally:
        asyncio.run(sandbox.aclose())


def _whole(examples: Sequence[Example], render: Any) -> Iterator[Pair]:
    """Each conversation once, from its first reply on."""
    begins: int | None = None
    said = [(rendered(example, render), reply_of(example)) for example in examples]
    for (prompt, reply), after in zip(said, [*said[1:], None], strict=True):
        if begins is None:
            begins = len(prompt)
        if after is None or not after[0].startswith(prompt + reply):
            yield Pair(prompt=prompt, reply=reply, learned_from=begins)
            begins = None


def rendered(example: Example, render: Any) -> str:
    """The prompt as an engine renders it."""
    request = example.draw.request
    turns = [message_json(turn) | {"content": turn.text} for turn in request.messages]
    tools = [tool_json(tool) for tool in request.tools] or None
    text: str = render(turns, tools=tools, tokenize=False, add_generation_prompt=True)
    return text


def reply_of(example: Example) -> str:
    """What the model is to say, calls of tools in their marks."""
    calls = []
    for call in example.tool_calls:
        function = tool_call_json(call)["function"]
        inner = f'{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}'
        calls.append(f"<tool_call>{inner}</tool_call>")
    return example.said + "".join(calls)
