"""Which modality for which question, with the optimum known: routers' regret, agreement of two kinds.

    python benchmarks/evidence/modality_measure.py --models run/modality --out modality_mix.json

OUT/seedN/model of modality_train.py answers every question of modality_mix.py greedily in all five
modalities, so that p(right) of a question is 0 or 1 and the optimum argmax p - price * cost is exact.
Routers learn from training questions and are judged on held-out ones:

fixed       the one modality that is best on average
kind        the best one of each kind
prompt      ridge regression of every modality's value on the prompt's characters by place
gate        the same on the model's last hidden state at the choice
sequential  an answer at once; if its probability is high enough it stands, else steps by text; if both
            agree, they stand, else the program that can read the prompt, if one can; all is paid for

Agreement: two samples at temperature 1 of one modality, or one of each of two. How often is the answer
right if they agree, and what do they cost?
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suffice.backends.nano.runtime import NanoModel, SequenceCache
from suffice.backends.nano.vocabulary import END, SHORT, THINK
from suffice.core.files import write_json
from suffice.core.thinking import THINK_END
from suffice.recipes.modes.folder import load_routed

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns
from evidence.modality_mix import (
    ANSWER,
    CALL_COST,
    FILLERS,
    GIVEN_COST,
    KINDS,
    LATENT,
    MODALITIES,
    NAMES,
    PROGRAMS,
    SOLVER,
    TOOL,
    Question,
    questions,
)

SEEDS, COUNT, SAMPLES = (0, 1, 2), 60, 3
PRICES = (0.002, 0.01, 0.03)  # of a generated token, in right answers
RIDGES = (1.0, 10.0, 100.0, 1000.0)
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01)
MOST = 40
BY_KIND = {"fact": None, "chain": None, "modular": TOOL, "entails": SOLVER}
Array = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer in one modality. `chance` is the probability of the answer's tokens."""

    answer: str
    right: bool
    cost: float
    chance: float


def say(
    model: NanoModel, question: Question, modality: str, start: tuple[SequenceCache, Array],
    rng: np.random.Generator | None = None,
) -> Said:  # fmt: skip
    """Answer in a modality, greedily or (with `rng`) at temperature 1."""
    words = model.vocabulary
    cache = start[0].copy()
    logits = model.advance([words.id(modality)], cache)
    cost, chance = 1.0, 1.0

    def draw() -> str:
        nonlocal logits, cost, chance
        shares = np.exp(logits.astype(np.float64) - logits.max())
        shares /= shares.sum()
        token = int(shares.argmax() if rng is None else rng.choice(len(shares), p=shares))
        chance *= float(shares[token])
        cost += 1.0
        if words.tokens[token] != END:
            logits = model.advance([token], cache)
        return words.tokens[token]

    def give(text: str) -> None:
        nonlocal logits, cost
        logits = model.advance(words.encode(text), cache)
        cost += GIVEN_COST * len(text)

    if modality == LATENT:
        give(FILLERS)
    elif modality != SHORT:
        stop = THINK_END if modality == THINK else ANSWER
        written = ""
        for _ in range(MOST):
            token = draw()
            if token in (stop, END):
                break
            written += token
        if modality in PROGRAMS:
            cost += CALL_COST
            give(PROGRAMS[modality](written))
        chance = 1.0
    answer = ""
    for _ in range(3):
        token = draw()
        if token == END:
            break
        answer += token
    return Said(answer=answer, right=answer == question.answer, cost=cost, chance=chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Every question in every modality, and what routers read of it."""

    asked: Sequence[Question]
    said: Sequence[Sequence[Said]]
    prompt: Array
    state: Array

    def column(self, name: str) -> Array:
        return np.array([[float(getattr(s, name)) for s in row] for row in self.said])

    def value(self, price: float) -> Array:
        return self.column("right") - price * self.column("cost")


def table(model: NanoModel, net: Any, asked: Sequence[Question]) -> Table:
    said, states = [], []
    for question in asked:
        ids = model.vocabulary.prompt(question.prompt)
        cache = model.start()
        start = cache, model.advance(ids, cache)
        said.append([say(model, question, modality, start) for modality in MODALITIES])
        with torch.no_grad():
            hidden = net.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
        states.append(hidden[0, -1].numpy())
    return Table(asked=asked, said=said, prompt=characters(asked), state=np.array(states))


def characters(asked: Sequence[Question]) -> Array:
    """One feature for each character at each place, counted from the front, and the length."""
    letters = sorted(
        {c for q in asked for c in q.prompt} | set("0123456789abcdefghijklmnopqrstuv*+%?")
    )
    found = np.zeros((len(asked), 16 * len(letters) + 17))
    for row, question in enumerate(asked):
        for place, letter in enumerate(question.prompt[:16]):
            found[row, place * len(letters) + letters.index(letter)] = 1
        found[row, 16 * len(letters) + min(16, len(question.prompt))] = 1
    return found


def ridge(x: Array, y: Array, weight: float) -> tuple[Array, Array, Array]:
    centre, level = x.mean(axis=0), y.mean(axis=0)
    a = x - centre
    return np.linalg.solve(a.T @ a + weight * np.eye(a.shape[1]), a.T @ (y - level)), centre, level


def routed(x: Array, y: Array, other: Array) -> Array:
    """The modality of the largest predicted value; the ridge is chosen by five folds."""
    spread = x.std(axis=0)
    x, other = x / np.where(spread > 0, spread, 1), other / np.where(spread > 0, spread, 1)
    fold = np.random.default_rng(0).permutation(len(x)) % 5

    def choose(weight: float, learn: Array, to: Array) -> Array:
        w, centre, level = ridge(x[learn], y[learn], weight)
        return ((to - centre) @ w + level).argmax(axis=1)

    def worth(weight: float) -> float:
        return float(np.mean([
            y[fold == f][np.arange((fold == f).sum()), choose(weight, fold != f, x[fold == f])].mean()
            for f in range(5)
        ]))  # fmt: skip

    best = max(RIDGES, key=worth)
    chosen: Array = choose(best, np.full(len(x), True), other)
    return chosen


def sequential(data: Table, price: float, threshold: float) -> Array:
    """Value of the cheapest first, a second of another kind, and a program where they differ."""
    short, text = MODALITIES.index(SHORT), MODALITIES.index(THINK)
    found = []
    for question, row in zip(data.asked, data.said, strict=True):
        used = [row[short]]
        answer = row[short]
        if row[short].chance < threshold:
            used.append(row[text])
            answer = row[text]
            program = BY_KIND[question.kind]
            if row[text].answer != row[short].answer and program is not None:
                used.append(row[MODALITIES.index(program)])
                answer = used[-1]
        found.append(float(answer.right) - price * sum(each.cost for each in used))
    return np.array(found)


def at_price(train: Table, judge: Table, price: float) -> dict[str, Any]:
    learned, worth = train.value(price), judge.value(price)
    every = np.arange(len(worth))
    kinds = [[q.kind for q in data.asked] for data in (train, judge)]
    best = {
        kind: int(learned[[k == kind for k in kinds[0]]].mean(axis=0).argmax()) for kind in KINDS
    }
    threshold = max(THRESHOLDS, key=lambda t: float(sequential(train, price, t).mean()))
    values = {
        "fixed": worth[:, int(learned.mean(axis=0).argmax())],
        "kind": worth[every, [best[k] for k in kinds[1]]],
        "prompt": worth[every, routed(train.prompt, learned, judge.prompt)],
        "gate": worth[every, routed(train.state, learned, judge.state)],
        "sequential": sequential(judge, price, threshold),
    }
    top = worth.max(axis=1)
    return {
        "price": price, "threshold": threshold,
        "best_by_kind": {k: NAMES[MODALITIES[at]] for k, at in best.items()},
        "optimum_uses": {NAMES[m]: round(float((worth.argmax(axis=1) == at).mean()), 4)
                         for at, m in enumerate(MODALITIES)},
        "value": {"optimum": mean(top), **{name: mean(each) for name, each in values.items()}},
        "regret": {name: mean(top - each) for name, each in values.items()},
        "gate_minus_prompt": mean(values["gate"] - values["prompt"]),
        "gate_minus_kind": mean(values["gate"] - values["kind"]),
        "sequential_minus_gate": mean(values["sequential"] - values["gate"]),
    }  # fmt: skip


def agreement(model: NanoModel, asked: Sequence[Question], seed: int) -> dict[str, Any]:
    """P(right | two agree) within one modality and across two, over questions of the two kinds that
    a program can read, where text and program both apply."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Array]] = {}
    for question in asked:
        program = BY_KIND[question.kind]
        if program is None:
            continue
        cache = model.start()
        start = cache, model.advance(model.vocabulary.prompt(question.prompt), cache)
        drawn = {m: [say(model, question, m, start, rng) for _ in range(SAMPLES)]
                 for m in (SHORT, THINK, program)}  # fmt: skip
        pairs = {
            "text, text": (THINK, THINK), "program, program": (program, program),
            "short, short": (SHORT, SHORT), "text, program": (THINK, program),
            "short, text": (SHORT, THINK), "short, program": (SHORT, program),
        }  # fmt: skip
        for name, (a, b) in pairs.items():
            both = [
                (x, y) for i, x in enumerate(drawn[a]) for j, y in enumerate(drawn[b])
                if a != b or i < j
            ]  # fmt: skip
            agree = [(x, y) for x, y in both if x.answer == y.answer and x.answer]
            rows.setdefault(name, []).append(np.array([
                len(agree) / len(both), sum(x.right for x, _ in agree) / len(both),
                float(np.mean([x.cost + y.cost for x, y in both])),
            ]))  # fmt: skip
    columns = {name: np.array(each).T for name, each in rows.items()}

    def differs(a: str, b: str) -> dict[str, Any]:
        return of_columns(lambda m: m[1] / m[0] - m[3] / m[2], *columns[a][:2], *columns[b][:2])

    return {
        "pairs": {
            name: {"agree": mean(c[0]), "right_if_agree": of_columns(lambda m: m[1] / m[0], c[0], c[1]),
                   "cost": mean(c[2])}
            for name, c in columns.items()
        },
        "cross_minus_text": differs("text, program", "text, text"),
        "cross_minus_program": differs("text, program", "program, program"),
        "cross_minus_short": differs("short, text", "short, short"),
    }  # fmt: skip


def one_seed(folder: Path, seed: int) -> dict[str, Any]:
    model = NanoModel(folder)
    net, _ = load_routed(folder)
    train = table(model, net.eval(), questions(COUNT, seed=seed, split="train"))
    judge = table(model, net, questions(COUNT, seed=1000 + seed, split="held_out"))
    right, cost = judge.column("right"), judge.column("cost")
    kinds = np.array([q.kind for q in judge.asked])
    easy = np.array([q.easy for q in judge.asked])
    return {
        "seed": seed, "questions": len(judge.asked),
        "right": {kind: {NAMES[m]: round(float(right[kinds == kind, at].mean()), 4)
                         for at, m in enumerate(MODALITIES)} for kind in KINDS},
        "short_right_where_easy": {
            kind: round(float(right[(kinds == kind) & easy, 0].mean()), 4) for kind in KINDS
        },
        "cost": {kind: {NAMES[m]: round(float(cost[kinds == kind, at].mean()), 2)
                        for at, m in enumerate(MODALITIES)} for kind in KINDS},
        "prices": [at_price(train, judge, price) for price in PRICES],
        "agreement": agreement(model, judge.asked, seed),
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = [one_seed(given.models / f"seed{seed}" / "model", seed) for seed in given.seeds]
    write_json(given.out, {"seeds": found})


if __name__ == "__main__":
    main()
