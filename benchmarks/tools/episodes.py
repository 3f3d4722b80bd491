r"""Tokens and time of tool policies over recorded ReAct episodes, without and with a prefix cache.

    $ python benchmarks/tools/episodes.py          made-up episodes of the recorded mean sizes
    $ python benchmarks/tools/episodes.py --data ../shared/data/runtime \\
        --out results/tools/episodes.json --plot docs/images/tools.png

1. Closed form over the recorded sizes, with the few-shot examples of the papers' prompts:
   ReAct = k (C + S + Q) + sum over j < k of (k - j)(T_j + A_j + O_j), plus what is written;
   ReWOO = (C_p + S_p + Q) + (C_s + Q) + sum of (T_j + A_j + O_j), plus what is written.
   A token is 4 characters. A cached prompt token costs rho of another; break-even is the rho at
   which both cost the same.
2. The same episodes played by suffice's own policies through the replay executor: prompts are those
   that are really sent, a sample writes a token every 20 ms after 300 ms, a tool takes --tool-s.
   The plan is assumed to be right: it names the calls that the episode made. "chain" lets each call
   wait for the one before, "independent" none.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from episode_model import (
    CHARS_PER_TOKEN,
    Count,
    Engine,
    Episode,
    Turn,
    argument,
    tokens,
)

from suffice.core.decisions import CallTool
from suffice.core.files import write_json
from suffice.core.requests import Message, Request, Tool, ToolHints
from suffice.executors.replay import RecordedCall, play
from suffice.policies.registry import parse_policy
from suffice.tools.code_sandbox import Runner
from suffice.tools.servers import python

FEW_SHOT_TOKENS = 1_500
SOLVER_TOKENS = 300  # of the papers' solver prompts
TOKEN_S, FIRST_S = 0.02, 0.3
# Means of the 103 recorded episodes (--data): used where there are no data.
QUESTION, THOUGHT, ACTION, OBSERVATION = 103, 110, 29, 544
SEARCH = Tool(
    name="search",
    description="The first paragraph of an encyclopedia's page.",
    parameters_json='{"type": "object", "properties": {"query": {"type": "string"}}, '
    '"required": ["query"]}',
    hints=ToolHints(read_only=True, open_world=False),
)
POLICIES = (
    "react", "rewoo", "rewoo:continued=yes", "dag", "futures", "program", "abstraction",
)  # fmt: skip
PYTHON = python.server().tools
SANDBOX_S = 0.05  # of one run of a program


def reflexion(folder: Path) -> list[Episode]:
    """The first trial of ReAct on HotpotQA (noahshinn/reflexion @ 218cf0ef), 103 episodes."""
    text = (folder / "reflexion_trials" / "ReAct_base_100_questions_5_trials.txt").read_text(
        "utf-8"
    )
    text = text[text.index("BEGIN TRIAL 1") : text.index("BEGIN TRIAL 2")]
    pattern = re.compile(
        r"Thought (\d+): (.*?)\nAction \1: (.*?)\nObservation \1: "
        r"(.*?)(?=\nThought \d+:|\nCorrect answer|\n-----|\Z)",
        re.S,
    )
    found = []
    for block in re.split(r"\n(?=Question: )", text)[1:]:
        question = block.split("\n", 1)[0].removeprefix("Question: ")
        turns = tuple(Turn(*each[1:]) for each in pattern.findall(block))
        found.append(Episode(question, turns))
    return found


def rewoo_set(folder: Path) -> list[Episode]:
    """100 trajectories of billxbf/ReWOO @ 9cd02830."""
    file = folder / "tool_planning" / "react_hotpotqa_100_trajectories.jsonl"
    found = []
    for line in file.read_text("utf-8").splitlines():
        for question, turns in json.loads(line).items():
            made = tuple(Turn(t["thought"], t["action"], t["observation"]) for t in turns)
            found.append(Episode(question.removeprefix("Question: "), made))
    return found


def made_up() -> list[Episode]:
    """Episodes of 1 to 8 turns of the recorded mean sizes."""

    def turn(number: int) -> Turn:
        action = f"Search[{str(number) * (ACTION - 8)}]"
        return Turn("t" * THOUGHT, action, f"{number} " + "o" * (OBSERVATION - 2))

    return [
        Episode("q" * QUESTION, (*(turn(n) for n in range(1, k)), Turn("t", "Finish[yes]", "")))
        for k in range(2, 10)
    ]


def formula_react(episode: Episode) -> Count:
    head = FEW_SHOT_TOKENS + tokens(episode.question)
    sizes = [tokens(t.thought) + tokens(t.action) + tokens(t.observation) for t in episode.turns]
    written = sum(tokens(t.thought) + tokens(t.action) for t in episode.turns)
    k = episode.steps
    prompts = k * head + sum((k - j) * size for j, size in enumerate(sizes, 1))
    unique = head + sum(sizes) + written
    return Count(unique, prompts + written - unique)


def formula_rewoo(episode: Episode) -> Count:
    question = tokens(episode.question)
    calls = episode.turns[:-1]
    plan = sum(tokens(t.thought) + tokens(t.action) for t in calls)
    evidence = sum(tokens(t.observation) for t in calls)
    answer = sum(tokens(t.thought) + tokens(t.action) for t in episode.turns[-1:])
    total = FEW_SHOT_TOKENS + question + plan + SOLVER_TOKENS + question + plan + evidence + answer
    return Count(total, 0.0)


def break_even(react: Sequence[Count], rewoo: Sequence[Count]) -> float | None:
    """The price of a cached token at which both cost the same; None: one is always cheaper."""
    gap = fmean(c.unique for c in rewoo) - fmean(c.unique for c in react)
    rate = fmean(c.repeated for c in react) - fmean(c.repeated for c in rewoo)
    rho = gap / rate if rate else math.inf
    return rho if 0.0 <= rho <= 1.0 else None


def played(
    episode: Episode, policy: str, *, chain: bool, tool_s: float, system: int, sandbox: Runner
) -> dict:
    engine = Engine(episode, chain, policy.partition(":")[0])
    left = {argument(t): t.observation for t in episode.turns[:-1]}
    waiting = [t.observation for t in episode.turns[:-1]]

    def call(action: CallTool) -> RecordedCall:
        if action.tool == "run_python":
            ran = sandbox.run(json.loads(action.arguments_json)["code"])
            return RecordedCall(result=ran.output, elapsed_s=SANDBOX_S)
        number = int(action.step.removeprefix("y") or 0) - 1
        text = waiting[number] if number >= 0 else None
        if text is None:
            text = left.get(json.loads(action.arguments_json)["query"], "")
        return RecordedCall(result=text, elapsed_s=tool_s)

    head = (Message(role="system", content="s" * system * CHARS_PER_TOKEN),) if system else ()
    request = Request(
        messages=(*head, Message(role="user", content=episode.question)),
        model="m",
        tools=(SEARCH, *PYTHON) if policy == "program" else (SEARCH,),
    )
    if policy == "react":
        policy = "react:max_turns=99"
    found = play(
        parse_policy(policy), request, engine, calls=call, token_s=TOKEN_S,
        first_ticks=round(FIRST_S / TOKEN_S),
    )  # fmt: skip
    outcome = found.outcome
    made = sum(record.tool != "run_python" for record in outcome.tool_records)
    assert made == episode.steps - 1, (policy, made, episode.steps)
    return {
        "count": engine.count,
        "seconds": found.ticks * TOKEN_S,
        "round_trips": len(outcome.records),
    }


def table(episodes: list[Episode], *, tool_s: float, system: int, sandbox: Runner) -> list[dict]:
    """A row per number of calls and policy, and one over all."""
    rows = []
    groups: list[tuple[str, Callable[[Episode], bool]]] = [("all", lambda e: True)]
    made = sorted({e.steps - 1 for e in episodes})
    groups += [(str(k), lambda e, k=k: e.steps - 1 == k) for k in made]
    for label, wanted in groups:
        some = [e for e in episodes if wanted(e)]
        if label != "all" and len(some) < 3 and len(episodes) > 20:
            continue
        for policy in POLICIES:
            for chain in (True, False) if policy != "react" else (True,):
                runs = [
                    played(e, policy, chain=chain, tool_s=tool_s, system=system, sandbox=sandbox)
                    for e in some
                ]
                counts = [run["count"] for run in runs]
                rows.append(
                    {
                        "calls": label, "episodes": len(some), "policy": policy,
                        "plan": "" if policy == "react" else "chain" if chain else "independent",
                        "tokens": round(fmean(c.total for c in counts)),
                        "uncached": round(fmean(c.unique for c in counts)),
                        "repeated": round(fmean(c.repeated for c in counts)),
                        "round_trips": round(fmean(run["round_trips"] for run in runs), 2),
                        "seconds": round(fmean(run["seconds"] for run in runs), 2),
                    }
                )  # fmt: skip
    return rows


def break_even_of(
    episodes: list[Episode], planner: str, *, tool_s: float, system: int, sandbox: Runner
) -> dict:
    """Where our own policies cost the same, and what they cost a little to either side of it."""
    react, rewoo = (
        [
            played(e, name, chain=True, tool_s=tool_s, system=system, sandbox=sandbox)["count"]
            for e in episodes
        ]
        for name in ("react", planner)
    )
    rho = break_even(react, rewoo)
    found: dict = {"rho": None if rho is None else round(rho, 4)}
    for at in (0.0, 0.1, 1.0, *(() if rho is None else (max(0.0, rho - 0.01), rho + 0.01))):
        costs = [fmean(c.cost(at) for c in counts) for counts in (react, rewoo)]
        found[f"{at:.4g}"] = {"react": round(costs[0]), "plan": round(costs[1])}
    if rho is not None and rho > 0.01:
        below, above = found[f"{rho - 0.01:.4g}"], found[f"{rho + 0.01:.4g}"]
        found["confirmed"] = below["react"] < below["plan"] and above["react"] > above["plan"]
    return found


def closed_form(episodes: list[Episode]) -> dict:
    react, rewoo = [formula_react(e) for e in episodes], [formula_rewoo(e) for e in episodes]
    six = [e for e in episodes if e.steps == 6]
    rho = break_even(react, rewoo)
    return {
        "episodes": len(episodes),
        "steps": round(fmean(e.steps for e in episodes), 2),
        "react": round(fmean(c.total for c in react)),
        "react_unique": round(fmean(c.unique for c in react)),
        "rewoo": round(fmean(c.total for c in rewoo)),
        "break_even": None if rho is None else round(rho, 4),
        "react_at_six_steps": round(fmean(formula_react(e).total for e in six)) if six else None,
        "rewoo_at_six_steps": round(fmean(formula_rewoo(e).total for e in six)) if six else None,
    }


def plot(rows: list[dict], file: Path) -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    arms = [("react", ""), *((each, "independent") for each in POLICIES[1:4]), ("rewoo", "chain")]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for axis, column, title in zip(
        axes,
        ("tokens", "uncached", "seconds"),
        ("tokens, no cache", "tokens, perfect prefix cache", "seconds on the critical path"),
        strict=True,
    ):
        for policy, plan in arms:
            some = [
                r for r in rows
                if r["calls"] != "all" and r["policy"] == policy and r["plan"] == plan
            ]  # fmt: skip
            label = f"{policy} {plan}".strip()
            axis.plot([int(r["calls"]) for r in some], [r[column] for r in some], "o-", label=label)
        axis.set_title(title)
        axis.set_xlabel("calls")
        axis.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of reflexion_trials and tool_planning")
    parser.add_argument("--tool-s", type=float, default=1.0, help="seconds of a call")
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    parser.add_argument("--plot", type=Path, help="write the plot")
    args = parser.parse_args()
    sets = {"made up": made_up()}
    if args.data is not None:
        if not (args.data / "reflexion_trials").is_dir():
            raise SystemExit(f"error: {args.data} has no reflexion_trials; docs/data.md names it")
        sets = {"reflexion": reflexion(args.data), "rewoo": rewoo_set(args.data)} | sets
    sandbox = Runner()
    record: dict = {"tool_s": args.tool_s, "token_s": TOKEN_S, "first_s": FIRST_S}
    for name, episodes in sets.items():
        form = closed_form(episodes)
        print(f"\n{name}: {form['episodes']} episodes, {form['steps']} steps")
        print("  closed form:", {k: v for k, v in form.items() if k not in ("episodes", "steps")})
        record[name] = {"closed_form": form}
        for system in (0, FEW_SHOT_TOKENS):
            rows = table(episodes, tool_s=args.tool_s, system=system, sandbox=sandbox)
            even = {
                planner: break_even_of(
                    episodes, planner, tool_s=args.tool_s, system=system, sandbox=sandbox
                )
                for planner in POLICIES[1:3]
            }
            record[name][f"system prompt of {system} tokens"] = {"rows": rows, "break_even": even}
            print(f"  system prompt of {system} tokens")
            for planner, each in even.items():
                print(f"    break-even of {planner}: {each}")
            for row in rows:
                print("   ", " ".join(f"{value!s:>12}" for value in row.values()))
    sandbox.close()
    first = next(iter(sets))
    if args.plot is not None:
        plot(record[first]["system prompt of 0 tokens"]["rows"], args.plot)
    if args.out is not None:
        write_json(args.out, record)


if __name__ == "__main__":
    main()
