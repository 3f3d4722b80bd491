"""A few tokens of a better model: does one token in twelve restore its accuracy? (arXiv:2605.16874)

    python benchmarks/evidence/takeover.py --out takeover.json

Two pairs of one vocabulary: a trained model, and the same with its weights rounded to so few bits that
its thoughts err (each matrix row by row, to the nearest; the most bits at which at most .75 of training
puzzles come out right). It stands for a weaker model; one that never learned to reason is another case.
Both write step by step, greedily, on held-out puzzles. At some places the better model's likeliest token
is taken instead of the weak one's:

disagreement    where it finds the weak model's token least likely beside its own best one
uncertainty     where the weak model's best token has the least probability: the better one is asked there
                only
first           the first tokens of every thought
random          places drawn by lot

Each at equal shares of tokens taken. Thresholds come from training puzzles. `gap` is the share of the way
from the weak model's accuracy to the better one's.

Nothing but the next token's top-20 log-probabilities behind a text is used, which engines give through
their API: for some puzzles the whole loop runs through `Backend.stream` with a begun answer, and its
texts are compared with the loop's here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suffice.backends.nano.backend import NanoBackend, shipped_folder
from suffice.backends.nano.runtime import NanoModel
from suffice.backends.nano.vocabulary import END, THINK
from suffice.core.draw import Draw
from suffice.core.files import write_json
from suffice.core.requests import Message, Request, Sampling
from suffice.recipes.modes.folder import load_routed, save_routed
from suffice.tasks.puzzles import Mixture, Problem, Split

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns

PER_CELL, FIT_PER_CELL = 25, 6
SHARES = (0.08, 0.16)
TOP, MOST_TOKENS, BY_API = 20, 40, 4
MOST_RIGHT, BITS = 0.75, (5, 4, 3, 2)
# Folder, tasks and difficulties of each model.
MODELS: dict[str, tuple[Path, tuple[str, ...], tuple[int, ...]]] = {
    "suffice-nano": (shipped_folder(), ("chain",), (3, 4, 5, 6)),
    "efforts": (Path("data/models/efforts"), ("chain", "logic"), (4, 6)),
}
# (weak model's top-20 log-probabilities, better one's, place) to a score: high is taken over.
Top = dict[int, float]
Score = Callable[[Top, Top, int], float]
LEAST = -20.0  # of a token outside the top 20


def disagreement(weak: Top, better: Top, place: int) -> float:
    del place
    return max(better.values()) - better.get(max(weak, key=weak.__getitem__), LEAST)


def uncertainty(weak: Top, better: Top, place: int) -> float:
    del better, place
    return -max(weak.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """What was written: right or not, tokens, tokens asked of the better model, tokens changed."""

    text: str
    right: bool
    tokens: int
    taken: int
    changed: int
    scores: tuple[float, ...]


class Side:
    """One model behind a begun answer."""

    def __init__(self, model: NanoModel, problem: Problem) -> None:
        self.model = model
        self.cache = model.start()
        words = model.vocabulary
        self.logits = model.advance([*words.prompt(problem.prompt), words.id(THINK)], self.cache)

    def top(self) -> Top:
        shifted = self.logits.astype(np.float64) - self.logits.max()
        logprobs = shifted - np.log(np.exp(shifted).sum())
        return {int(i): float(logprobs[i]) for i in np.argsort(-logprobs, kind="stable")[:TOP]}

    def push(self, token: int) -> None:
        self.logits = self.model.advance([token], self.cache)


def think(
    weak: NanoModel, better: NanoModel, problem: Problem, take: Callable[[float, int], bool],
    score: Score,
) -> Thought:  # fmt: skip
    """One thought; `take` decides by score and place whether the better model's token stands."""
    words = weak.vocabulary
    sides = Side(weak, problem), Side(better, problem)
    written: list[int] = []
    scores, taken, changed = [], 0, 0
    for place in range(MOST_TOKENS):
        tops = [side.top() for side in sides]
        own, other = (max(top, key=top.__getitem__) for top in tops)
        scores.append(score(*tops, place))
        over = take(scores[-1], place)
        taken += over
        changed += over and own != other
        token = other if over else own
        written.append(token)
        if token == words.id(END):
            break
        for side in sides:
            side.push(token)
    ended = written[-1] == words.id(END)
    text = words.decode(written[:-1] if ended else written)
    right = problem.is_right(text, think=True, ended=ended)
    return Thought(text=text, right=right, tokens=len(written), taken=taken, changed=changed,
                   scores=tuple(scores))  # fmt: skip


def by_lot(rng: np.random.Generator, share: float) -> Callable[[float, int], bool]:
    return lambda _score, _place: bool(rng.random() < share)


def first(count: int) -> Callable[[float, int], bool]:
    return lambda _score, place: place < count


def puzzles(name: str, count: int, split: Split) -> list[Problem]:
    """Held-out or training puzzles of a model's tasks and difficulties."""
    _, tasks, difficulties = MODELS[name]
    cells = Mixture(tasks=tasks, difficulties=difficulties).distinct(count, seed=0, split=split)
    return [problem for cell in cells.values() for problem in cell]


def rounded(folder: Path, bits: int, out: Path) -> Path:
    """The model with every matrix of its layers rounded, row by row, to 2^bits even steps."""
    net, words = load_routed(folder)
    top = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for layer in net.model.layers:
            for weight in layer.parameters():
                if weight.dim() == 2:
                    step = weight.abs().amax(dim=1, keepdim=True) / top
                    weight.copy_((weight / step).round().clamp(-top - 1, top) * step)
    save_routed(net, words, out / f"{bits}-bits", {"from": str(folder), "bits": bits})
    return out / f"{bits}-bits"


def weakened(name: str, fit: Sequence[Problem], better: NanoModel, out: Path) -> tuple[Path, int]:
    """The rounded model of most bits that errs on a quarter of the training puzzles."""
    for bits in BITS:
        folder = rounded(MODELS[name][0], bits, out)
        weak = NanoModel(folder)
        ran = [think(weak, better, p, never, disagreement) for p in fit]
        if np.mean([t.right for t in ran]) <= MOST_RIGHT:
            return folder, bits
    raise AssertionError(f"{name} errs at no number of bits")


def never(_score: float, _place: int) -> bool:
    return False


def always(_score: float, _place: int) -> bool:
    return True


def threshold(weak: NanoModel, better: NanoModel, fit: Sequence[Problem], score: Score,
              share: float) -> float:  # fmt: skip
    """The score above which about `share` of the tokens is taken, found by running it.

    Taking a token changes what comes after it, so the share is measured, not read off a quantile.
    """
    alone = [think(weak, better, p, never, score) for p in fit]
    scores = sorted({each for t in alone for each in t.scores})
    low, high = 0, len(scores) - 1  # at the highest score nothing is taken
    while high - low > max(1, len(scores) // 128):
        middle = (low + high) // 2
        ran = [think(weak, better, p, lambda s, _, m=scores[middle]: s > m, score) for p in fit]
        much = sum(t.taken for t in ran) / sum(t.tokens for t in ran) > share
        low, high = (middle, high) if much else (low, middle)
    return scores[high]


def one_pair(name: str, out: Path) -> dict[str, Any]:
    """All arms of one pair of models."""
    better = NanoModel(MODELS[name][0])
    fit, judge = puzzles(name, FIT_PER_CELL, "train"), puzzles(name, PER_CELL, "held_out")
    folder, bits = weakened(name, fit, better, out)
    weak = NanoModel(folder)
    alone = [think(weak, better, p, never, disagreement) for p in judge]
    reasoner = [think(weak, better, p, always, disagreement) for p in judge]
    base, top = (np.array([float(t.right) for t in ran]) for ran in (alone, reasoner))
    rng = np.random.default_rng(0)

    def shown(ran: Sequence[Thought]) -> dict[str, Any]:
        right = np.array([float(t.right) for t in ran])
        taken, tokens = (np.array([float(getattr(t, n)) for t in ran]) for n in ("taken", "tokens"))
        return {
            "right": mean(right),
            "gap": of_columns(lambda m: (m[0] - m[1]) / (m[2] - m[1]), right, base, top),
            "taken": of_columns(lambda m: m[0] / m[1], taken, tokens),
            "changed": round(float(sum(t.changed for t in ran) / tokens.sum()), 6),
        }

    shares: dict[str, Any] = {}
    for share in SHARES:
        arms = {}
        for arm, score in (("disagreement", disagreement), ("uncertainty", uncertainty)):
            over = threshold(weak, better, fit, score, share)
            arms[arm] = [think(weak, better, p, lambda s, _, o=over: s > o, score) for p in judge]
        arms["random"] = [think(weak, better, p, by_lot(rng, share), disagreement) for p in judge]
        arms["first"] = [
            think(weak, better, p, first(round(share * t.tokens)), disagreement)
            for p, t in zip(judge, alone, strict=True)
        ]
        rights = {n: np.array([float(t.right) for t in ran]) for n, ran in arms.items()}
        shares[str(share)] = {
            **{name: shown(ran) for name, ran in arms.items()},
            "disagreement_minus_random": of_columns(
                lambda m: (m[0] - m[1]) / (m[3] - m[2]),
                rights["disagreement"], rights["random"], base, top,
            ),
            "uncertainty_minus_random": of_columns(
                lambda m: (m[0] - m[1]) / (m[3] - m[2]),
                rights["uncertainty"], rights["random"], base, top,
            ),
        }  # fmt: skip
    differs = [t.changed / t.tokens for t in reasoner]
    return {
        "model": name, "bits": bits, "puzzles": len(judge), "weak": mean(base), "better": mean(top),
        "weak_minus_better": mean(base - top),
        "tokens_where_they_differ": round(float(np.mean(differs)), 6),
        "shares": shares,
        "same_by_api": by_api((folder, MODELS[name][0]), judge[:: len(judge) // BY_API], fit),
    }  # fmt: skip


def by_api(
    folders: tuple[Path, Path], some: Sequence[Problem], fit: Sequence[Problem]
) -> dict[str, int]:
    """Puzzles whose text is the same through two backends that give top log-probabilities."""
    weak, better = (NanoModel(folder) for folder in folders)
    over = threshold(weak, better, fit[::8], disagreement, SHARES[0])
    here = [think(weak, better, p, lambda s, _: s > over, disagreement).text for p in some]
    backends = tuple(NanoBackend(folder, name=folder.name) for folder in folders)

    async def all_() -> list[str]:
        return [await _through(backends, problem, over) for problem in some]

    there = asyncio.run(all_())
    return {"puzzles": len(some), "same": sum(a == b for a, b in zip(here, there, strict=True))}


async def _through(backends: Sequence[NanoBackend], problem: Problem, over: float) -> str:
    text = ""
    for _ in range(MOST_TOKENS):
        tops = [await _next(backend, problem, text) for backend in backends]
        own, other = (max(top, key=top.__getitem__) for top in tops)
        score = max(tops[1].values()) - tops[1].get(own, LEAST)
        token = other if score > over else own
        if token == END:
            break
        text += token
    return text


async def _next(backend: NanoBackend, problem: Problem, begun: str) -> dict[str, float]:
    sampling = Sampling(temperature=0.0, max_tokens=1, top_logprobs=TOP)
    request = Request(messages=(Message(role="user", content=problem.prompt),), model=backend.name)
    draw = Draw(request, sampling, model=backend.name, prefill=THINK + begun)
    stream = backend.stream(draw)
    try:
        async for chunk in stream:
            if chunk.logprobs:
                return dict(chunk.logprobs[0].top)
    finally:
        await stream.aclose()
    raise AssertionError("no log-probabilities came")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--only", choices=sorted(MODELS), help="one of the two pairs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        found = [
            one_pair(name, Path(scratch) / name) for name in MODELS if given.only in (None, name)
        ]
    write_json(given.out, {"pairs": found})


if __name__ == "__main__":
    main()
