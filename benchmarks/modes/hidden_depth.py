"""A model that chooses its mode on prompts of one length, beside what reads the prompt alone.

    $ python benchmarks/modes/hidden_depth.py --model same-length/seed0 --out results/modes/hidden-depth

Held-out problems of `restarts`, `zeros` and `variables`, answered greedily in both modes by the
NumPy runtime. Right at once by task and difficulty (within a task all prompts are equally long);
AUROC of p(think) for "short is wrong", by task and over all; the learned choice, at each bias on its
log odds too, beside always-short, always-think, a prompt-length rule, a ridge regression on the
prompt's characters (both fitted on the other half of the problems, for the same reward) and two
short drafts at temperature 1 that agree, else a thought (the first stage of DART, arXiv:2606.23181).
Differences are paired by problem; every cell weighs the same; 95 % by bootstrap within cells.

Reward of an answer: 1 if right, less `--token-price` for each token.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suffice.backends.nano.runtime import NanoModel
from suffice.backends.nano.vocabulary import END, SHORT
from suffice.core.arrays import FloatArray
from suffice.core.files import write_json
from suffice.recipes.modes.evaluate import (
    Answered,
    answer_both,
    flatten,
    resampled_weights,
    wilson,
)
from suffice.recipes.modes.simple_routers import (
    auroc_at_equal_length,
    halves,
    length_rule,
    regression,
)
from suffice.tasks.puzzles import Mixture, Problem

TASKS = ("restarts", "zeros", "variables")


def drafts(model: NanoModel, problems: Sequence[Problem], seed: int) -> tuple[Any, Any]:
    """(two short answers at temperature 1 agree, the answer is right), and the drafts' tokens."""
    rng, words = np.random.default_rng(seed), model.vocabulary
    agree, right, tokens = [], [], []
    for problem in problems:
        said, count = [], 0
        for _ in range(2):
            cache = model.start()
            step, drawn = [*words.prompt(problem.prompt), words.id(SHORT)], []
            while len(drawn) < 8:
                logits = model.advance(step, cache).astype(float)
                chances = np.exp(logits - logits.max())
                token = int(rng.choice(len(chances), p=chances / chances.sum()))
                drawn.append(token)
                step = [token]
                if token == words.id(END):
                    break
            said.append(words.decode([t for t in drawn if t != words.id(END)]))
            count += 1 + len(drawn)
        agree.append(said[0] == said[1])
        right.append(said[0] == problem.answer)
        tokens.append(count)
    return np.array(agree), (np.array(right, dtype=float), np.array(tokens, dtype=float))


def show(values: FloatArray, weight: FloatArray, resampled: FloatArray) -> dict[str, float]:
    """Mean and interval."""
    low, high = np.percentile(resampled @ values, [2.5, 97.5])
    return {"mean": float(weight @ values), "low": float(low), "high": float(high)}


def text(estimate: dict[str, float]) -> str:
    return f"{estimate['mean']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def main() -> None:
    """Answer, compare, print and write."""
    given = _given()
    model = NanoModel(given.model)
    tasks = tuple(given.tasks.split(","))
    mixture = Mixture(tasks=tasks, difficulties=(1, 2, 3))
    problems = flatten(mixture.distinct(given.problems, seed=given.seed, split="held_out"))
    answered = answer_both(model, problems, max_tokens=32)
    agree, (draft_right, draft_tokens) = drafts(model, problems, given.seed)

    names = sorted({a.cell for a in answered})
    cell = np.array([names.index(a.cell) for a in answered])
    counts = np.bincount(cell)
    weight = 1.0 / counts[cell] / len(names)
    resampled = resampled_weights(cell, np.random.default_rng(given.seed))
    right = np.array([[a.short_right, a.think_right] for a in answered], dtype=float)
    tokens = np.array([[a.short_tokens, a.think_tokens] for a in answered], dtype=float)
    logit = np.array([a.think_logit for a in answered])
    prompts = [a.prompt for a in answered]
    worth = right - given.token_price * tokens
    gain, half = worth[:, 1] - worth[:, 0], halves(cell)

    cells = _cells(answered, names)
    auroc = {task: _auroc(answered, logit, weight, resampled, (task,)) for task in tasks}
    auroc["all"] = _auroc(answered, logit, weight, resampled, tasks)

    def pick(columns: FloatArray, thinks: FloatArray) -> FloatArray:
        return np.where(thinks > 0.5, columns[:, 1], columns[:, 0])

    chosen = {
        "always-short": np.zeros(len(answered)),
        "always-think": np.ones(len(answered)),
        "learned": (logit + given.bias > 0).astype(float),
        "prompt-length rule": length_rule(prompts, gain, weight, half),
        "regression on the prompt": regression(prompts, gain, weight, half),
    }
    found = {name: (pick(right, p), pick(tokens, p)) for name, p in chosen.items()}
    found["two drafts agree"] = (
        np.where(agree, draft_right, right[:, 1]),
        draft_tokens + np.where(agree, 0.0, tokens[:, 1]),
    )
    best = np.argmax(worth, axis=1).astype(float)
    found["best of both, known afterwards"] = (pick(right, best), pick(tokens, best))
    always = found["always-think"]
    routers: dict[str, Any] = {}
    print("| router | right | tokens | of always-think's | reward | learned's reward minus its |")
    mine = found["learned"][0] - given.token_price * found["learned"][1]
    for name, (hits, spent) in found.items():
        reward = hits - given.token_price * spent
        shares = (resampled @ spent) / (resampled @ always[1])
        low, high = np.percentile(shares, [2.5, 97.5])
        routers[name] = {
            "right": show(hits, weight, resampled),
            "less_right_than_always_think": show(always[0] - hits, weight, resampled),
            "tokens": show(spent, weight, resampled),
            "token_share": {"mean": float((weight @ spent) / (weight @ always[1])),
                            "low": float(low), "high": float(high)},
            "reward": show(reward, weight, resampled),
            "learned_minus_this": {
                "reward": show(mine - reward, weight, resampled),
                "right": show(found["learned"][0] - hits, weight, resampled),
                "tokens": show(found["learned"][1] - spent, weight, resampled),
            },
        }  # fmt: skip
        row = routers[name]
        print(f"| {name} | {text(row['right'])} | {row['tokens']['mean']:.2f} | "
              f"{row['token_share']['mean']:.1%} | {row['reward']['mean']:.4f} | "
              f"{text(row['learned_minus_this']['reward'])} |")  # fmt: skip
    curve = []
    for bias in np.arange(-6.0, 6.5, 0.5):
        thinks = (logit + bias > 0).astype(float)
        curve.append({
            "bias": float(bias), "right": float(weight @ pick(right, thinks)),
            "tokens": float(weight @ pick(tokens, thinks)),
        })  # fmt: skip
    _print(cells, auroc, curve)
    if given.out:
        write_json(given.out / f"{given.name or given.model.name}.json", {
            "tasks": list(tasks), "problems": given.problems, "token_price": given.token_price, "bias": given.bias,
            "seed": given.seed, "cells": cells, "auroc": auroc, "routers": routers, "curve": curve,
        })  # fmt: skip


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--name", help="Of the result; the model folder's by default.")
    parser.add_argument("--problems", type=int, default=200, help="Per task and difficulty.")
    parser.add_argument("--token-price", type=float, default=0.003)
    parser.add_argument("--bias", type=float, default=0.0, help="Nats on the log odds of thinking.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _print(cells: list[Any], auroc: dict[str, Any], curve: list[Any]) -> None:
    print("\n| task | difficulty | n | short right | think right | tokens | p(think) |")
    for row in cells:
        print(f"| {row['task']} | {row['difficulty']} | {row['n']} | {text(row['short'])} | "
              f"{text(row['think'])} | {row['tokens'][0]:.1f} / {row['tokens'][1]:.1f} | "
              f"{row['p_think']:.3f} |")  # fmt: skip
    for name, value in auroc.items():
        print(f"AUROC of p(think) for a wrong short answer, {name}: "
              + ("none" if value is None else text(value)))  # fmt: skip
    for row in curve:
        print(f"bias {row['bias']:+.1f}: right {row['right']:.3f} at {row['tokens']:.2f} tokens")


def _cells(answered: Sequence[Answered], names: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    rows = []
    for name in [*names, *(("all", n) for n in (1, 2, 3))]:
        mine = [
            a for a in answered if a.cell == name or (name[0] == "all" and a.cell[1] == name[1])
        ]
        short = wilson(sum(a.short_right for a in mine), len(mine))
        think = wilson(sum(a.think_right for a in mine), len(mine))
        p = 1 / (1 + np.exp(-np.array([a.think_logit for a in mine])))
        rows.append({
            "task": name[0], "difficulty": name[1], "n": len(mine),
            "short": {"mean": short.mean, "low": short.low, "high": short.high},
            "think": {"mean": think.mean, "low": think.low, "high": think.high},
            "tokens": [float(np.mean([a.short_tokens for a in mine])),
                       float(np.mean([a.think_tokens for a in mine]))],
            "p_think": float(p.mean()),
        })  # fmt: skip
    return rows


def _auroc(
    answered: Sequence[Answered], logit: FloatArray, weight: FloatArray, resampled: FloatArray,
    tasks: Sequence[str],
) -> dict[str, float] | None:  # fmt: skip
    rows = np.array([n for n, a in enumerate(answered) if a.cell[0] in tasks])
    asked = [answered[n].prompt for n in rows], [answered[n].cell[0] for n in rows]
    wrong = np.array([float(not answered[n].short_right) for n in rows])
    mean = auroc_at_equal_length(*asked, logit[rows], wrong, weight[rows][None])
    drawn = auroc_at_equal_length(*asked, logit[rows], wrong, resampled[:300, rows])
    if mean is None or drawn is None:
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(mean[0]), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
