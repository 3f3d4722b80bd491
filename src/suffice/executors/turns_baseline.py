"""What the same calls of tools would have cost in turns: the baseline of a request that runs tools.

Its user would else have let the model call tools natively (`react`): asked again after every round
of calls, the whole conversation sent each time. The calls are those that were made; calls that did
not wait for one another are one round, as engines that call in parallel ask for them.

    prompt of turn i   conversation + tools + all calls and results before
    written in turn i  the calls of round i; the answer, as long as the one given, in the last

Sizes are counted in characters, and turned into tokens by what the engine counted for the prompts
that were sent. Where the engine says how much of a prompt it had cached, turns get a perfect cache:
all of the turn before, and of the first prompt the share that was cached of the first one sent. No
thought is counted before a call, nor a call that fails and is tried otherwise: both make turns
look cheaper than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suffice.core.completions import Outcome, ToolRecord, Usage
from suffice.core.requests import Message, Request, Tool

# What a native call is written in beside its name and arguments, and a tool beside its parts.
CALL_FORM = '{"name": "", "arguments": }'
TOOL_FORM = '{"type": "function", "function": {"name": "", "description": "", "parameters": }}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Characters of calls that do not wait for one another, and of their results."""

    calls: int
    results: int


def prompt_chars(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """Characters of a conversation and of the tools that a request lists."""
    said = sum(
        len(turn.text) + sum(_call(call.name, len(call.arguments)) for call in turn.tool_calls)
        for turn in messages
    )
    listed = sum(
        len(tool.name)
        + len(tool.description or "")
        + len(tool.parameters_json or "")
        + len(TOOL_FORM)
        for tool in tools
    )
    return said + listed


def ran_in_turns(outcome: Outcome) -> bool:
    """Whether the calls were asked for natively, a turn after the other: nothing was planned."""
    planned = any(record.purpose == "plan" for record in outcome.records)
    return not planned and not any(record.step for record in outcome.tool_records)


def rounds_of(records: Sequence[ToolRecord], sandbox: str) -> list[Round]:
    """The calls that were made, by how many others each of them had to wait for.

    A plan says what cites what; of a program, calls between two runs of it wait for the same.
    """
    levels: dict[tuple[int, str], int] = {}
    sizes: dict[int, list[int]] = {}
    first, version, runs = 0, 0, 0
    for record in sorted(records, key=lambda record: record.call):
        if record.tool == sandbox:
            runs += 1
            continue
        if record.attempts == 0:
            continue  # refused, or not run because of others: nobody saw it
        if record.version != version:  # a new plan knows what the old one came to
            first, version = max(sizes, default=-1) + 1, record.version
        cited = [levels[key] + 1 for step in record.cites if (key := (version, step)) in levels]
        level = max([first, *cited]) if not runs else runs - 1
        levels[version, record.step] = level
        size = sizes.setdefault(level, [0, 0])
        size[0] += _call(record.tool, record.argument_chars)
        size[1] += record.result_chars
    return [Round(calls=sizes[level][0], results=sizes[level][1]) for level in sorted(sizes)]


def usage_in_turns(
    outcome: Outcome, request: Request, tools: Sequence[Tool], *, sandbox: str = "run_python"
) -> list[Usage] | None:
    """Usage of each turn, by the formula above; None if no prompt's tokens are known.

    `tools` are those that the request may call; the tool `sandbox` is not among the calls, it runs
    programs that call the others.
    """
    known = [r for r in outcome.records if r.told and r.prompt_chars and r.usage.prompt_tokens]
    given = next((r for r in outcome.records if r.sample == outcome.sample), None)
    if not known or given is None:
        return None
    per_char = sum(r.usage.prompt_tokens for r in known) / sum(r.prompt_chars for r in known)
    cached = known[0].usage.cached_tokens
    share = None if cached is None else cached / known[0].usage.prompt_tokens
    rounds = rounds_of(outcome.tool_records, sandbox)
    sent = prompt_chars(request.messages, [tool for tool in tools if tool.name != sandbox])
    turns, before = [], None
    for number in range(len(rounds) + 1):
        prompt = round(sent * per_char)
        written = given.usage.completion_tokens
        if number < len(rounds):
            written = round(rounds[number].calls * per_char)
            sent += rounds[number].calls + rounds[number].results
        read = None
        if share is not None:
            read = round(share * prompt) if before is None else min(before, prompt)
        turns.append(Usage(prompt_tokens=prompt, completion_tokens=written, cached_tokens=read))
        before = prompt + written
    return turns


def _call(name: str, argument_chars: int) -> int:
    return len(name) + argument_chars + len(CALL_FORM)
