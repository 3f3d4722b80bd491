"""Training texts: questions played under each policy by a model that knows, prompt and reply."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from suffice.backends.tool_calls import tool_call_json
from suffice.backends.wire import message_json, tool_json
from suffice.core.decisions import AnyPolicy
from suffice.policies.registry import parse_policy
from suffice.policies.tool_plan.notations import Notation
from suffice.recipes.planner.oracle import Example, play_rightly
from suffice.recipes.planner.questions import Country, Question
from suffice.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to ask: a policy, and the notation of its plans."""

    policy: str
    notation: Notation
    weight: float

    def build(self) -> AnyPolicy:
        """The policy."""
        return parse_policy(self.policy)


FORMS = (
    Form(policy="react", notation="rewoo", weight=0.34),
    Form(policy="rewoo", notation="rewoo", weight=0.22),
    Form(policy="rewoo:notation=numbered", notation="numbered", weight=0.22),
    Form(policy="rewoo:notation=python", notation="python", weight=0.22),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A rendered prompt and the reply that belongs to it."""

    prompt: str
    reply: str


def pairs(asked: Sequence[Question], render: Any, *, seed: int, country: Country) -> Iterator[Pair]:
    """Prompts and replies of questions, each under one form; `render` is a tokenizer's template.

    A conversation that goes on is given once, whole: its earlier replies stand in the last prompt.
    """
    rng = random.Random(seed)
    toolbox = Toolbox([country.server()])
    weights = [form.weight for form in FORMS]
    for question in asked:
        form = rng.choices(FORMS, weights)[0]
        played = play_rightly(question, form.build(), form.notation, toolbox)
        said = [
            Pair(prompt=rendered(example, render), reply=reply_of(example))
            for example in played.examples
        ]
        for pair, after in zip(said, [*said[1:], None], strict=True):
            if after is None or not after.prompt.startswith(pair.prompt + pair.reply):
                yield pair


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
