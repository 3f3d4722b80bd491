"""The model card that lies beside a trained model: what it is, how it was made, what it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suffice.recipes.modes.evaluate import ModesResult
from suffice.tasks.operations import PERMUTATIONS
from suffice.tasks.same_length import KINDS

_TASKS = {
    "chain": "`3fb`: a digit sent through permutations of the digits, left to right ("
    + ", ".join(f"{name} {row}" for name, row in PERMUTATIONS.items())
    + ": entry i is where i goes)",
    "arithmetic": "`3+4*7`: left to right, modulo 10",
    "logic": "`1&0>1`: left to right over bits, `>` is implication",
    "addition": "`347+258`: a sum of three-digit numbers, four digits",
    "comparison": "`4821?4837`: < or >",
    "gcd": "`g84,36`: greatest common divisor, two digits",
    "countdown": "`c3,5,2:013`: the two signs that bring the digits to the target, from the left",
    "sorting": "`s47139`: the digits in order",
    "restarts": "`7ab4cfe`: a digit through permutations (entry i is where i goes: "
    + ", ".join(f"{name} {row}" for name, row in PERMUTATIONS.items())
    + "); a digit on the way starts over",
    "zeros": "`7+3*0-4+9*3+1`: left to right, modulo 10",
    "variables": "`BaFgA7...?b`: fourteen variables, each a digit or another variable in small "
    "letters; the value of the one that is asked",
}

_GENERATED = """\
Difficulty is the number of steps; trained on {difficulties}. The
data is generated: nothing was scraped. Problems of up to {table} steps are tables
that it was shown in full and knows by heart, as a person knows the multiplication table: on those
the figures below measure memory. Of the longer ones, those whose prompt's SHA-256 falls into a
tenth were held out, and only those are measured."""
_ONE_LENGTH = """\
Prompts of a kind are equally long at every difficulty; trained on {difficulties}. The data is
generated: nothing was scraped. Those whose prompt's SHA-256 falls into a tenth were held out, and
only those are measured."""
_OWN = """\
Problems of difficulty 1 were shown in full: on those the figures below measure memory. Of the
others, those whose prompt's SHA-256 falls into a tenth were held out, and only those are
measured."""


def model_card(record: dict[str, Any], result: ModesResult, *, command: str) -> str:
    """README.md of a model folder."""
    config = record["config"]
    own = config.get("problems")
    tasks = (
        f"- the problems of `{Path(own).name}`"
        if own
        else "\n".join(f"- {_TASKS[name]}" for name in config["tasks"])
    )
    generated = _ONE_LENGTH if set(config["tasks"]) <= set(KINDS) else _GENERATED
    trained_on = (
        _OWN
        if own
        else generated.format(
            difficulties=", ".join(map(str, config["difficulties"])), table=config["table_steps"]
        )
    )
    price = config["routing"]["token_price"]
    priced = (
        f"a price of thinking of γ =\n{config['routing']['gamma']}"
        if price is None
        else f"{price:g} of a right\nanswer's worth for a token"
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# {record["name"]}

A Llama of {record["parameters"]:,} parameters that answers short puzzles in two modes and chooses
between them: `<short>` answers at once, `<think>` writes each step first. It is a demonstration of
routing inside a model, not an assistant: it reads nothing but the puzzles below.

{tasks}

{trained_on}

Made by `{command}` in {record["warm_up_s"] + record["routing_s"]:.0f} s ({record["device"]}, torch
{record["versions"]["torch"]}). `record.json` holds the whole configuration and the weights' hash.

## What it does

Tables, and held-out problems of more steps, greedy; 95 % intervals (Wilson for shares, bootstrap
over problems for the rest). One seed says nothing about other seeds.

{_cells(result)}

{_routers(result)}

## Limits

One question, one answer: no system message, no history, no other language than the puzzles'.
Longer problems than trained on fail. The choice was trained at {priced}; a bias on the
logit of `<think>` moves it without training.
"""


def _cells(result: ModesResult) -> str:
    rows = [
        "| task | steps | n | short right | think right | tokens | p(think) | best |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    rows += [
        f"| {c.task} | {c.difficulty} | {c.problems} | {c.short_accuracy} | {c.think_accuracy} | "
        f"{c.short_tokens:.1f} / {c.think_tokens:.1f} | {c.p_think:.3f} | "
        f"{'think' if c.optimum_thinks else 'short'} |"
        for c in result.cells
    ]
    return "\n".join(rows)


def _routers(result: ModesResult) -> str:
    rows = [
        "| router | accuracy | tokens | share of always-think's | thinks |",
        "|---|--:|--:|--:|--:|",
    ]
    rows += [
        f"| {r.router} | {r.accuracy} | {r.tokens.mean:.2f} [{r.tokens.low:.2f}, "
        f"{r.tokens.high:.2f}] | {r.token_share.mean:.1%} | {r.think_share:.1%} |"
        for r in result.routers
    ]
    return "\n".join(rows)
