"""Whatever the plan and whatever fails: no call twice, results only where cited, budgets."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.backends.fake import Script
from suffice.core.completions import Budget
from suffice.core.requests import ToolHints
from suffice.executors.tool_calls import ToolLimits
from suffice.policies.registry import parse_policy
from suffice.tools.protocol import ToolLost, ToolResult
from tests.tools.scripted import PRIVATE, Ran, Recorded, ask, calls, tool
from tests.tools.with_sandbox import ask_program

POLICIES = [
    "rewoo:notation=numbered", "rewoo:notation=rewoo", "dag", "dag:replan=0", "react", "futures",
    "abstraction", "program",
]  # fmt: skip
HINTS = [PRIVATE, ToolHints(), ToolHints(idempotent=True, open_world=True)]
NAMES = ("search", "look_up", "other")


def planned(rng: random.Random, steps: int) -> list[tuple[str, str, list[int]]]:
    """Tool, word and cited steps of every step; a word is said by no other step."""
    made = []
    for number in range(1, steps + 1):
        cited = sorted(rng.sample(range(1, number), k=min(number - 1, rng.choice([0, 0, 1, 2]))))
        made.append((rng.choice(NAMES), f"w{number}w", cited))
    return made


def written(made: list[tuple[str, str, list[int]]], notation: str) -> Script:
    lines = []
    for number, (name, word, cited) in enumerate(made, 1):
        mark = "#E" if notation == "rewoo" else "$"
        said = " ".join([word, *(f"{mark}{each}" for each in cited)])
        lines.append(
            f"#E{number} = {name}[{said}]\n"
            if notation == "rewoo"
            else f'{number}. {name}("{said}")\n'
        )
    return Script(tokens=tuple(lines) or ("no call",), delay_s=0.5)


def in_turns(made: list[tuple[str, str, list[int]]]) -> Script:
    return Script.of("x", tool_calls=calls(*((n, {"query": w}) for n, w, _ in made)))


def named(made: list[tuple[str, str, list[int]]]) -> Script:
    def text(word: str, cited: list[int]) -> str:
        return " ".join([word, *(f"$r{each}" for each in cited)])

    return Script.of("x", tool_calls=calls(*((n, {"query": text(w, c)}) for n, w, c in made)))


def chained(made: list[tuple[str, str, list[int]]]) -> Script:
    lines = [
        f"[{name}({' '.join([word, *(f'y{each}' for each in cited)])}) = y{number}]"
        for number, (name, word, cited) in enumerate(made, 1)
    ]
    return Script.of("\n".join([*lines, "Answer: none"]))


def programmed(made: list[tuple[str, str, list[int]]]) -> Script:
    lines = []
    for number, (name, word, cited) in enumerate(made, 1):
        parts = " ".join([word, *(f"{{x{each}}}" for each in cited)])
        lines += [f'x{number} = {name}(f"{parts}")']
    return Script.of("\n".join([*lines, "print('none')"]))


OTHER_FORMS = {
    "react": in_turns, "futures": named, "abstraction": chained, "program": programmed,
}  # fmt: skip


def faulty(seed: int) -> Any:
    """What a call comes to: by its arguments, so that the order of calls does not matter."""

    def reply(name: str, arguments: Any) -> Any:
        rng = random.Random(f"{seed}/{name}/{arguments}")
        match rng.randrange(8):
            case 0:
                return RuntimeError("broken")
            case 1:
                return ToolLost("gone")
            case 2:
                return ToolResult(text="wrong", is_error=True)
        return f"r{arguments['query'].split(' ')[0][1:-1]}r"

    return reply


@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(0, 8),
    policy=st.sampled_from(POLICIES),
    most=st.none() | st.integers(0, 6),
    tool_s=st.none() | st.floats(0.0, 20.0),
)
@settings(max_examples=60, deadline=None)
def test_whatever_fails(seed: int, steps: int, policy: str, most: int | None, tool_s: float | None):
    rng = random.Random(seed)
    notation = "rewoo" if policy.endswith("=rewoo") else "numbered"
    made = planned(rng, steps)
    tools = tuple(tool(name, hints=rng.choice(HINTS)) for name in NAMES)
    server = Recorded(
        faulty(seed),
        tools=tools,
        delay_s=lambda name, arguments: random.Random(f"{arguments}{seed}").choice([0, 1, 3, 90]),
    )
    first = written(made, notation)
    if policy in OTHER_FORMS:
        first = OTHER_FORMS[policy](made)
    given = {
        "server": server,
        "budget": Budget(tool_calls=most, tool_s=tool_s),
        "limits": ToolLimits(timeout_s=10.0, retry_wait_s=0.0),
    }
    said = [first, Script.of("none" if policy != "futures" else "ready"), Script.of("answer")]
    if policy == "program":
        ran = ask_program(policy, said, **given)
    else:
        ran = ask(parse_policy(policy), said, **given)
    check_once(ran, tools)
    if policy != "program":  # its calls cite nothing: the program does
        check_citations(ran)
    check_sums(ran, most, tool_s)


def check_once(ran: Ran, tools: Any) -> None:
    """A call reaches its tool at most once, but for tools that may be asked again when lost."""
    records = ran.outcome.tool_records
    assert len({record.call for record in records}) == len(records)
    steps = [(record.version, record.step) for record in records if record.step]
    assert len(set(steps)) == len(steps)
    records = tuple(each for each in records if each.tool != "run_python")
    asked = Counter((name, json.dumps(arguments)) for name, arguments in ran.server.asked)
    repeatable = {each.name: each.hints.is_repeatable for each in tools}
    for (name, _), count in asked.items():
        assert count <= (2 if repeatable[name] else 1)
    assert len(ran.server.asked) == sum(record.attempts for record in records)


def check_citations(ran: Ran) -> None:
    """The result of a step is in the arguments of those that cite it, and of no others."""
    for record in ran.outcome.tool_records:
        if record.step and record.attempts:
            word = f"w{record.step}w"
            said = next((a["query"] for _, a in ran.server.asked if word in a["query"]), None)
            if said is None:  # its turn never came
                continue
            cited = {part[1:-1] for part in said.split(" ") if part.startswith("r")}
            assert cited == set(record.cites)


def check_sums(ran: Ran, most: int | None, tool_s: float | None) -> None:
    """Tokens and time are the sums of their lines; budgets hold."""
    outcome = ran.outcome
    tokens = sum(record.usage.completion_tokens for record in outcome.records)
    assert outcome.usage.completion_tokens == tokens == ran.backend.traffic.tokens
    assert outcome.tool_s == pytest.approx(sum(r.elapsed_s for r in outcome.tool_records))
    assert most is None or outcome.tool_calls_run <= most
    assert tool_s is None or outcome.tool_s <= tool_s + 1e-6
    assert outcome.elapsed_s == pytest.approx(ran.elapsed_s)
    assert ran.server.running == 0
