"""Three modalities of one model, exactly: at once, in steps, by a calculator; routers' regret.

    python benchmarks/evidence/modality_three.py --out modality_three.json

data/models/hidden-depth on `restarts` and `zeros`, whose prompts are equally long whatever their
difficulty. A question is answered at once, in steps (both greedily), or by a calculator that reads the
prompt and knows sums alone. So p(right) is 0 or 1 and the optimum argmax p - price * cost is exact: at
once where that is right, else the calculator where it can read, else steps. Cost: a generated token 1, a
call 4. Routers learn from 240 training puzzles and are judged on 240 held-out ones, three draws:

fixed       the one modality that is best on average
kind        the best one of each kind
prompt      ridge regression of each modality's value on the prompt's characters by place
gate        the same on the model's last hidden state at the choice
own         the model's own log odds of thinking against a threshold, and the calculator where it reads
sequential  an answer at once; if its probability is high enough it stands, else the calculator if it
            reads the prompt, else steps; whatever was tried is paid for
agreement   an answer at once and one of another kind (calculator, else steps); where they differ the
            second stands

Agreement as evidence is exact too: the distribution over answers at once is read from the model, so no
sample is drawn.
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

from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.vocabulary import END, SHORT, THINK
from suffice.core.files import write_json
from suffice.recipes.modes.folder import load_routed
from suffice.tasks.puzzles import Mixture, Problem

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns
from evidence.modality_measure import routed
from evidence.modules import Backbone

KINDS, NAMES = ("restarts", "zeros"), ("short", "text", "tool")
SEEDS, PER_CELL, CALL = (0, 1, 2), 40, 4.0
PRICES = (0.002, 0.01, 0.03)
CUTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
ODDS = tuple(np.linspace(-6, 6, 49))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All of one draw of puzzles, a row each; modalities in the order of NAMES."""

    kind: np.ndarray
    difficulty: np.ndarray
    right: np.ndarray  # (n, 3)
    cost: np.ndarray
    readable: np.ndarray
    chance: np.ndarray  # of the answer at once
    odds: np.ndarray  # of thinking
    shares: np.ndarray  # (n, 10): the distribution over digits at once
    answers: np.ndarray  # (n, 3) digits, -1 for none
    due: np.ndarray
    prompt: np.ndarray
    state: np.ndarray

    def value(self, price: float) -> np.ndarray:
        found: np.ndarray = self.right - price * self.cost
        return found


def ask(folder: Path, net: Any, problems: Sequence[Problem]) -> Asked:
    """Every puzzle in every modality."""
    model = NanoModel(folder)
    words, tool = model.vocabulary, Backbone(model=model, store={})
    letters = sorted({c for p in problems for c in p.prompt} | set("0123456789abcdef+-*"))
    digits = [words.id(str(d)) for d in range(10)]
    rows: list[dict[str, Any]] = []
    for problem in problems:
        ids = words.prompt(problem.prompt)
        cache = model.start()
        first = model.advance(ids, cache)
        logits = model.advance([words.id(SHORT)], cache.copy()).astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        thought = greedy(model, [words.id(THINK)], max_tokens=32, cache=cache)
        ended = thought[-1] == words.id(END)
        said = words.decode(thought[:-1] if ended else thought)
        computed = tool.tool(problem.prompt).answer
        short = words.tokens[int(shares.argmax())]
        text_right = problem.is_right(said, think=True, ended=ended)
        with torch.no_grad():
            hidden = net.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
        onehot = np.zeros(14 * len(letters))
        for place, letter in enumerate(problem.prompt[:14]):
            onehot[place * len(letters) + letters.index(letter)] = 1
        rows.append({
            "kind": KINDS.index(problem.task), "difficulty": problem.difficulty,
            "right": [short == problem.answer, text_right, computed == problem.answer],
            "cost": [3.0, 1.0 + len(thought), CALL], "readable": computed is not None,
            "chance": float(shares.max()),
            "odds": float(first[words.id(THINK)] - first[words.id(SHORT)]),
            "shares": shares[digits],
            "answers": [_digit(short), int(problem.answer) if text_right else _digit(said[-1:]),
                        _digit(computed or "")],
            "due": int(problem.answer), "prompt": onehot, "state": hidden[0, -1].numpy(),
        })  # fmt: skip
    return Asked(**{name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]})


def _digit(text: str) -> int:
    return int(text) if text.isdigit() else -1


def sequential(data: Asked, price: float, cut: float) -> np.ndarray:
    """An answer at once where it is sure, else the calculator, else steps."""
    second = np.where(data.readable > 0, 2, 1)
    rows = np.arange(len(second))
    sure = data.chance >= cut
    right = np.where(sure, data.right[:, 0], data.right[rows, second])
    cost = data.cost[:, 0] + np.where(sure, 0.0, data.cost[rows, second])
    found: np.ndarray = right - price * cost
    return found


def agreement(data: Asked, price: float) -> np.ndarray:
    """Both are always paid for; the second kind decides where they differ."""
    second = np.where(data.readable > 0, 2, 1)
    rows = np.arange(len(second))
    found: np.ndarray = data.right[rows, second] - price * (
        data.cost[:, 0] + data.cost[rows, second]
    )
    return found


def own(data: Asked, price: float, bias: float) -> np.ndarray:
    """The model's own choice with a bias; the calculator in the place of steps where it reads."""
    second = np.where(data.readable > 0, 2, 1)
    rows = np.arange(len(second))
    chosen = np.where(data.odds + bias > 0, second, 0)
    return data.value(price)[rows, chosen]  # type: ignore[no-any-return]


def at_price(train: Asked, judge: Asked, price: float) -> dict[str, Any]:
    learned, worth = train.value(price), judge.value(price)
    rows = np.arange(len(worth))
    best = [int(learned[train.kind == k].mean(axis=0).argmax()) for k in range(len(KINDS))]
    cut = max(CUTS, key=lambda c: float(sequential(train, price, c).mean()))
    bias = max(ODDS, key=lambda b: float(own(train, price, b).mean()))
    values = {
        "fixed": worth[:, int(learned.mean(axis=0).argmax())],
        "kind": worth[rows, np.array(best)[judge.kind.astype(int)]],
        "prompt": worth[rows, routed(train.prompt, learned, judge.prompt)],
        "gate": worth[rows, routed(train.state, learned, judge.state)],
        "own": own(judge, price, bias),
        "sequential": sequential(judge, price, cut),
        "agreement": agreement(judge, price),
    }
    top = worth.max(axis=1)
    return {
        "price": price, "cut": cut, "bias": round(float(bias), 2),
        "best_by_kind": {kind: NAMES[at] for kind, at in zip(KINDS, best, strict=True)},
        "optimum_uses": {name: round(float((worth.argmax(axis=1) == at).mean()), 4)
                         for at, name in enumerate(NAMES)},
        "value": {"optimum": mean(top), **{name: mean(each) for name, each in values.items()}},
        "regret": {name: mean(top - each) for name, each in values.items()},
        "gate_minus_prompt": mean(values["gate"] - values["prompt"]),
        "own_minus_prompt": mean(values["own"] - values["prompt"]),
        "sequential_minus_own": mean(values["sequential"] - values["own"]),
        "agreement_minus_sequential": mean(values["agreement"] - values["sequential"]),
    }  # fmt: skip


def evidence(data: Asked) -> dict[str, Any]:
    """P(right | agree): two answers at once, and one at once with one in steps; exact chances."""
    rows = np.arange(len(data.due))
    due = data.shares[rows, data.due.astype(int)]
    same, same_right = (data.shares**2).sum(axis=1), due**2
    text = data.answers[:, 1].astype(int)
    cross = np.where(text >= 0, data.shares[rows, np.maximum(text, 0)], 0.0)
    cross_right = np.where(data.right[:, 1] > 0, due, 0.0)
    tool = data.readable > 0
    tool_cross = np.where(tool, due, 0.0)  # the calculator is always right where it reads
    figure = lambda m: m[1] / m[0]  # noqa: E731
    return {
        "short, short": of_columns(figure, same, same_right),
        "short, text": of_columns(figure, cross, cross_right),
        "short, tool": of_columns(figure, tool_cross[tool], tool_cross[tool]),
        "agree": {"short, short": mean(same), "short, text": mean(cross)},
        "cross_minus_same": of_columns(
            lambda m: m[1] / m[0] - m[3] / m[2], cross, cross_right, same, same_right
        ),
        "costs": {"short, short": 2 * float(data.cost[:, 0].mean()),
                  "short, text": float(data.cost[:, :2].sum(axis=1).mean())},
        "text_alone": mean(data.right[:, 1]),
    }  # fmt: skip


def one_seed(folder: Path, net: Any, seed: int) -> dict[str, Any]:
    mixture = Mixture(tasks=KINDS, difficulties=(1, 2, 3))
    drawn = [
        [p for cell in mixture.distinct(PER_CELL, seed=s, split=split).values() for p in cell]
        for s, split in ((seed, "train"), (1000 + seed, "held_out"))
    ]  # type: ignore[arg-type]
    train, judge = (ask(folder, net, problems) for problems in drawn)
    return {
        "seed": seed, "questions": len(judge.due),
        "right": {kind: {name: round(float(judge.right[judge.kind == k, at].mean()), 4)
                         for at, name in enumerate(NAMES)} for k, kind in enumerate(KINDS)},
        "prices": [at_price(train, judge, price) for price in PRICES],
        "evidence": evidence(judge),
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--model", type=Path, default=Path("data/models/hidden-depth"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net, _ = load_routed(given.model)
    write_json(given.out, {"seeds": [one_seed(given.model, net.eval(), s) for s in SEEDS]})


if __name__ == "__main__":
    main()
