"""Vectors against a logit bias: do they teach a model when to think, or only how often?

    python benchmarks/evidence/steering.py --out steering.json

data/models/hidden-depth, 1,183,200 weights, two kinds of puzzles of three difficulties: it answers at
once or thinks, and its own choice tells the two apart. At the place of the choice:

own choice   the model's p(think) with a bias on its log odds: the gate, and the plain logit bias
vector       mean state of hard puzzles minus that of easy ones, added at the choice
random       8 vectors of that norm, added at the choice
elsewhere    the middle layer's vector, added at a random place of the prompt instead
coin         the same chance for every puzzle

Every arm's strength is set so that on the fitting puzzles the mean chance of thinking is a target, and
then it is judged on others: equal p(think), so equal cost. `gap` is the share of the way from answering
at once to always thinking. Layer and sign are chosen on the fitting puzzles, for the random vectors one
by one too. States are taken at the choice of every puzzle, never at words.

How: the mean state behind <think> minus that behind <short>, added behind a forced <short>, at the best
layer and strength of the fitting puzzles: do thoughts come, and right answers? Against random vectors.

Three seeds: other puzzles to fit on and to judge, other random vectors. One model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suffice.backends.nano.vocabulary import END, SHORT, THINK, Vocabulary
from suffice.core.files import write_json
from suffice.recipes.modes.folder import load_routed
from suffice.tasks.puzzles import Mixture, Problem

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns

KINDS = ("restarts", "zeros")
EASY, HARD = 1, 3
PER_CELL, SEEDS, RANDOM = 30, (0, 1, 2), 8
TARGETS = (0.25, 0.75)
STRENGTHS = np.concatenate([-np.geomspace(4, 0.05, 10), np.geomspace(0.05, 4, 10)])
HOW_STRENGTHS = (0.5, 1.0, 2.0, 4.0)
MOST_TOKENS = 32
Array = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The network, its tokens, and how many layers it has."""

    net: Any
    words: Vocabulary

    @property
    def layers(self) -> int:
        return len(self.net.model.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzles:
    """Puzzles of one kind, all prompts equally long."""

    problems: Sequence[Problem]
    ids: torch.Tensor
    difficulty: np.ndarray
    before: Any  # the cache of all but the last token


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Puzzles to fit on, and others to judge on."""

    fit: list[Puzzles]
    judge: list[Puzzles]


def puzzles(model: Model, seed: int, split: str) -> list[Puzzles]:
    """PER_CELL of each difficulty, by kind."""
    found = []
    for kind in KINDS:
        cells = Mixture(tasks=(kind,), difficulties=(1, 2, 3)).distinct(
            PER_CELL,
            seed=seed,
            split=split,  # type: ignore[arg-type]
        )
        problems = [p for cell in cells.values() for p in cell]
        ids = torch.tensor([model.words.prompt(p.prompt) for p in problems])
        with torch.no_grad():
            before = model.net(input_ids=ids[:, :-1], use_cache=True).past_key_values
        found.append(
            Puzzles(
                problems=problems,
                ids=ids,
                before=before,
                difficulty=np.array([p.difficulty for p in problems]),
            )
        )
    return found


@contextmanager
def added(model: Model, layer: int, place: torch.Tensor, vector: torch.Tensor) -> Any:
    """While it lasts, `vector` is added to layer's output at row b's token place[b]."""

    def hook(module: Any, given: Any, out: Any) -> Any:
        del module, given
        hidden = (out[0] if isinstance(out, tuple) else out).clone()
        hidden[torch.arange(len(place)), place] += vector
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

    handle = model.net.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def states(model: Model, ids: torch.Tensor) -> torch.Tensor:
    """Outputs of every layer at the last token, (layers, rows, d)."""
    taken: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(
            lambda _m, _g, out: taken.append((out[0] if isinstance(out, tuple) else out)[:, -1])
        )
        for layer in model.net.model.layers
    ]
    with torch.no_grad():
        model.net(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(taken)


def choice(model: Model, ids: torch.Tensor, before: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """(log odds of thinking, probability of the two mode tokens together) by row.

    With `before`, the cache of what stands before `ids`; it is left as it was.
    """
    with torch.no_grad():
        out = model.net(
            input_ids=ids, past_key_values=before, use_cache=before is not None, logits_to_keep=1
        )
    if before is not None:
        before.crop(-ids.shape[1])
    logits = out.logits[:, -1].double()
    think, short = (logits[:, model.words.id(token)] for token in (THINK, SHORT))
    mass = torch.softmax(logits, dim=1)[:, [model.words.id(THINK), model.words.id(SHORT)]].sum(1)
    return (think - short).numpy(), mass.numpy()


def answers(
    model: Model, these: Puzzles, mode: str, steer: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right in whichever form, right as a thought, tokens), greedy behind a forced mode."""
    words, rows = model.words, len(these.ids)
    ids = torch.cat([these.ids, torch.full((rows, 1), words.id(mode))], dim=1)
    drawn: list[torch.Tensor] = []
    cache = None
    step = ids
    with torch.no_grad():
        for count in range(MOST_TOKENS):
            if count == 0 and steer is not None:
                with added(model, steer[0], torch.full((rows,), ids.shape[1] - 1), steer[1]):
                    out = model.net(input_ids=step, use_cache=True)
            else:
                out = model.net(input_ids=step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = out.logits[:, -1, : len(words)].argmax(dim=1)
            drawn.append(token)
            step = token[:, None]
            if bool((torch.stack(drawn) == words.id(END)).any(dim=0).all()):
                break
    right, thought, tokens = [], [], []
    for problem, row in zip(these.problems, torch.stack(drawn, dim=1).tolist(), strict=True):
        ended = words.id(END) in row
        said = row[: row.index(words.id(END))] if ended else row
        text = words.decode(said)
        thought.append(problem.is_right(text, think=True, ended=ended))
        right.append(thought[-1] or problem.is_right(text, think=False, ended=ended))
        tokens.append(1 + len(said) + ended)
    return tuple(np.array(each, dtype=float) for each in (right, thought, tokens))  # type: ignore[return-value]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def biased(odds: np.ndarray, target: float) -> float:
    """The bias at which the mean chance is `target`."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(odds + middle).mean() < target else (low, middle)
    return (low + high) / 2


class Curve:
    """Log odds of thinking under a vector by strength, on fitting and on judging puzzles.

    At `places` None it is added at the choice, and the prompt before that is computed once.
    """

    def __init__(
        self, model: Model, groups: Groups, layer: int, vector: torch.Tensor,
        places: dict[int, torch.Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.fit, self.judge, self.mass = [], [], []
        for strength in STRENGTHS:
            found = [
                [self._of(model, these, layer, float(strength) * vector, places) for these in group]
                for group in (groups.fit, groups.judge)
            ]
            self.fit.append(np.concatenate([odds for odds, _ in found[0]]))
            self.judge.append(np.concatenate([odds for odds, _ in found[1]]))
            self.mass.append(np.concatenate([mass for _, mass in found[1]]))

    @staticmethod
    def _of(
        model: Model, these: Puzzles, layer: int, vector: torch.Tensor,
        places: dict[int, torch.Tensor] | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        if places is not None:
            with added(model, layer, places[id(these)], vector):
                return choice(model, these.ids)
        with added(model, layer, torch.zeros(len(these.ids), dtype=torch.int64), vector):
            return choice(model, these.ids[:, -1:], these.before)

    def at(self, target: float) -> tuple[int, float]:
        """(strength's number, mean chance on the fitting puzzles) nearest to the target."""
        means = np.array([sigmoid(odds).mean() for odds in self.fit])
        best = int(np.abs(means - target).argmin())
        return best, float(means[best])


def one_seed(model: Model, seed: int) -> dict[str, Any]:
    """All arms on one draw of puzzles and random vectors."""
    generator = torch.Generator().manual_seed(seed)
    groups = Groups(
        fit=puzzles(model, seed, "train"), judge=puzzles(model, 1000 + seed, "held_out")
    )
    fit, judge = groups.fit, groups.judge
    outcomes = {
        name: [answers(model, these, mode) for these in group]
        for group, names in ((fit, ("fit short", "fit think")), (judge, ("short", "think")))
        for name, mode in zip(names, (SHORT, THINK), strict=True)
    }
    right = {name: np.concatenate([each[0] for each in found]) for name, found in outcomes.items()}
    tokens = {name: np.concatenate([each[2] for each in found]) for name, found in outcomes.items()}
    own_fit, own = (np.concatenate([choice(model, t.ids)[0] for t in g]) for g in (fit, judge))
    level = np.concatenate([these.difficulty for these in fit])
    stacked = torch.cat([states(model, these.ids) for these in fit], dim=1)
    difference = stacked[:, level == HARD].mean(dim=1) - stacked[:, level == EASY].mean(dim=1)
    random_places = {
        id(t): torch.randint(1, t.ids.shape[1] - 1, (len(t.ids),), generator=generator)
        for t in (*fit, *judge)
    }

    def value(p: np.ndarray, part: str = "") -> np.ndarray:
        return p * right[f"{part}think"] + (1 - p) * right[f"{part}short"]

    curves = [Curve(model, groups, layer, vector) for layer, vector in enumerate(difference)]
    middle = model.layers // 2
    elsewhere = [Curve(model, groups, middle, difference[middle], random_places)]
    noise = []
    for _ in range(RANDOM):
        layer = int(torch.randint(model.layers, (1,), generator=generator))
        drawn = torch.randn(difference.shape[1], generator=generator)
        drawn *= difference[layer].norm() / drawn.norm()
        noise.append(Curve(model, groups, layer, drawn))
    short, think = right["short"], right["think"]
    found: dict[str, Any] = {
        "short": mean(short), "think": mean(think),
        "tokens": {"short": mean(tokens["short"]), "think": mean(tokens["think"])},
        "vector_norms": [round(float(v.norm()), 2) for v in difference],
        "targets": {},
    }  # fmt: skip

    def shown(p: np.ndarray, mass: np.ndarray | None = None) -> dict[str, Any]:
        told = {
            "p_think": mean(p),
            "right": mean(value(p)),
            "gap": of_columns(lambda m: (m[0] - m[1]) / (m[2] - m[1]), value(p), short, think),
        }
        return told if mass is None else {**told, "mode_mass": mean(mass)}

    for target in TARGETS:

        def score(c: Curve, target: float = target) -> float:
            at, reached = c.at(target)
            return float(value(sigmoid(c.fit[at]), "fit ").mean()) - 2 * abs(reached - target)

        def corrected(c: Curve, target: float = target) -> tuple[np.ndarray, np.ndarray]:
            at = c.at(target)[0]
            # What the grid of strengths misses is made up by a bias: equal p(think) for all arms.
            bias = biased(c.fit[at], target)
            return sigmoid(c.judge[at] + bias), c.mass[at]

        own_p = sigmoid(own + biased(own_fit, target))
        chosen = max(curves, key=score)
        other = max(elsewhere, key=score)
        vector_p, vector_mass = corrected(chosen)
        other_p, other_mass = corrected(other)
        randoms = [corrected(each) for each in noise]
        random_value = np.mean([value(p) for p, _ in randoms], axis=0)
        best_random = max(noise, key=score)
        found["targets"][str(target)] = {
            "own choice": shown(own_p),
            "vector": {**shown(vector_p, vector_mass), "layer": curves.index(chosen),
                       "strength": float(STRENGTHS[chosen.at(target)[0]]),
                       "without_bias": chosen.at(target)[1]},
            "random": {"gap": of_columns(lambda m: (m[0] - m[1]) / (m[2] - m[1]), random_value,
                                         short, think),
                       "mode_mass": float(np.mean([m.mean() for _, m in randoms])),
                       "reach_it": float(np.mean([abs(c.at(target)[1] - target) < 0.1
                                                  for c in noise]))},
            "best random": shown(*corrected(best_random)),
            "elsewhere": shown(other_p, other_mass),
            "coin": shown(np.full(len(short), target)),
            "vector_minus_own": mean(value(vector_p) - value(own_p)),
            "vector_minus_random": mean(value(vector_p) - random_value),
        }  # fmt: skip
    found["alone"] = alone(curves, noise)
    found["how"] = how(model, fit, judge, generator, right)
    return found


def alone(curves: list[Curve], noise: list[Curve]) -> dict[str, Any]:
    """Without any bias: the span of mean p(think) that strengths up to 1 reach, and mode mass."""

    def span(c: Curve) -> float:
        inside = [at for at, s in enumerate(STRENGTHS) if abs(s) <= 1]
        means = [float(sigmoid(c.judge[at]).mean()) for at in inside]
        return max(means) - min(means)

    return {"vector": [round(span(c), 4) for c in curves],
            "random": round(float(np.mean([span(c) for c in noise])), 4)}  # fmt: skip


def how(
    model: Model, fit: list[Puzzles], judge: list[Puzzles], generator: torch.Generator,
    right: dict[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """A vector behind a forced <short>: thoughts, right answers, and random vectors beside it."""

    def behind(these: Puzzles, mode: str) -> torch.Tensor:
        tail = torch.full((len(these.ids), 1), model.words.id(mode))
        return states(model, torch.cat([these.ids, tail], dim=1))

    vectors = torch.stack([
        torch.cat([behind(t, THINK) - behind(t, SHORT) for t in fit], dim=1)[layer].mean(dim=0)
        for layer in range(model.layers)
    ])  # fmt: skip

    def tried(group: list[Puzzles], layer: int, vector: torch.Tensor) -> Any:
        found = [answers(model, these, SHORT, (layer, vector)) for these in group]
        return tuple(np.concatenate([each[at] for each in found]) for at in range(3))

    settings = [(layer, s) for layer in range(model.layers) for s in HOW_STRENGTHS]
    best = max(settings, key=lambda each: tried(fit, each[0], each[1] * vectors[each[0]])[0].mean())
    layer, strength = best
    steered = tried(judge, layer, strength * vectors[layer])
    noise = []
    for _ in range(5):
        drawn = torch.randn(vectors.shape[1], generator=generator)
        drawn *= vectors[layer].norm() / drawn.norm()
        noise.append(tried(judge, layer, strength * drawn))
    random_right = np.mean([each[0] for each in noise], axis=0)
    short, think = right["short"], right["think"]

    def gap(values: np.ndarray) -> dict[str, Any]:
        return of_columns(lambda m: (m[0] - m[1]) / (m[2] - m[1]), values, short, think)

    return {
        "layer": layer, "strength": strength,
        "vector": {"gap": gap(steered[0]), "thinks": mean(steered[1]), "right": mean(steered[0]),
                   "tokens": mean(steered[2])},
        "random": {"gap": gap(random_right), "right": mean(random_right)},
        "vector_minus_random": mean(steered[0] - random_right),
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--model", type=Path, default=Path("data/models/hidden-depth"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net, words = load_routed(given.model)
    model = Model(net=net.eval(), words=words)
    write_json(given.out, {"seeds": [one_seed(model, seed) for seed in SEEDS]})


if __name__ == "__main__":
    main()
