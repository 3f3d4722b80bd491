"""How much to think, as each engine wants to be told; what an engine cannot heed is refused.

| engine | on and off | budget |
|---|---|---|
| vLLM | template variable | `thinking_token_budget` (a reasoning parser is needed) |
| SGLang | template variable | `custom_params.thinking_budget` (with `--enable-strict-thinking`) |
| llama.cpp server | template variable | `thinking_budget_tokens` |
| hosted APIs | `reasoning_effort` | `reasoning_effort` |

A model that chooses its mode by its first token is told by a bias on it.
"""

from __future__ import annotations

from typing import Any, Literal

from suffice.backends.protocol import Capabilities
from suffice.core.errors import LacksCapability
from suffice.core.thinking import Thinking, mode_bias

BudgetField = Literal["thinking_token_budget", "thinking_budget_tokens", "custom_params"]

# The largest logit bias that servers with OpenAI's API take; it decides a choice of modes.
MOST_BIAS = 100.0

_ELSEWHERE = "leave it out, or choose budget_forcing or no_thinking:begin=true"


def budget_fields(field: BudgetField, tokens: int) -> dict[str, Any]:
    """A thinking budget as it is written for an engine."""
    if field == "custom_params":
        return {"custom_params": {"thinking_budget": tokens}}
    return {field: tokens}


def check_thinking(
    thinking: Thinking | None, capabilities: Capabilities, *, upstream: str, max_tokens: int | None
) -> None:
    """Raise LacksCapability if the engine would ignore what is asked of its think block.

    A budget is kept also by an answer that is no longer than it, whatever the engine knows.
    """
    if thinking is None or capabilities.mode_tokens is not None:
        return
    if capabilities.thinking_switch == "reasoning_effort" or capabilities.thinking_budget:
        return
    if not thinking.enabled and capabilities.thinking_switch is None:
        raise LacksCapability(
            f"effort none: upstream {upstream} has neither a thinking switch nor a thinking budget "
            f"and would ignore it; {_ELSEWHERE}"
        )
    budget = thinking.budget_tokens if thinking.enabled else None
    if budget is not None and (max_tokens is None or max_tokens > budget):
        raise LacksCapability(
            f"effort {thinking.effort}: upstream {upstream} has no thinking budget and would think "
            f"as long as it likes; ask for effort none, for max_tokens up to {budget}, {_ELSEWHERE}"
        )


def ask_to_think(
    body: dict[str, Any], thinking: Thinking, capabilities: Capabilities, field: BudgetField
) -> None:
    """Write into a request what `check_thinking` has let pass."""
    switch = capabilities.thinking_switch
    if capabilities.mode_tokens is not None:
        nats = mode_bias(thinking)
        if nats is None and switch is None:
            nats = MOST_BIAS if thinking.enabled else -MOST_BIAS
        if nats is not None:
            given = dict(body.get("logit_bias") or {})
            for token, bias in capabilities.mode_tokens.biases(nats).items():
                given[str(token)] = given.get(str(token), 0.0) + bias
            if given:
                body["logit_bias"] = given
            return
    if switch == "reasoning_effort":
        body["reasoning_effort"] = thinking.effort
    elif switch is not None:
        body["chat_template_kwargs"] = _object(body, "chat_template_kwargs") | {
            switch: thinking.enabled
        }
    if not capabilities.thinking_budget:
        return
    off = 0 if switch is None else None  # a switch says it already
    tokens = thinking.budget_tokens if thinking.enabled else off
    if tokens is not None:
        for name, value in budget_fields(field, tokens).items():
            body[name] = _object(body, name) | value if isinstance(value, dict) else value


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    """What the client put there itself."""
    given = body.get(name)
    return given if isinstance(given, dict) else {}
