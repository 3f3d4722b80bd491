"""Known ways in which training a choice of mode fails, reproduced or refuted on a small model.

    python benchmarks/modes/failures.py bias --model nano/warm-up --out results/modes/failures
    python benchmarks/modes/failures.py root --model nano/warm-up --out results/modes/failures
    python benchmarks/modes/failures.py long --model nano/warm-up --out results/modes/failures

bias  The warm-up is taught another p(think), then GRPO (without and with entropy) has to leave it.
root  All weights are updated through the mode token alone, as the gate's loss would; the body of
      the gate's own form is frozen.
long  Every thought first recites 101 tokens, so that it has 108 or more: GRPO weighs its mode token
      by 1/n, DeGRPO by α. Does GRPO lose the think mode (arXiv:2505.13379), and DeGRPO not? With
      --difficulties 1 1 1 1 2 2 2 2 4 5 four of five are easy, so that short pays at first.

Each run's progress goes into OUT/<experiment>.jsonl as one line; a run that is there is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from suffice.core.files import write_text
from suffice.recipes.modes.folder import load_routed
from suffice.tasks import puzzles
from suffice.tasks.operations import PERMUTATIONS
from suffice.tasks.puzzles import Mixture, Problem
from suffice.training.modes.policy_gradient import train_policy
from suffice.training.modes.probe import probe_answers, probe_choice
from suffice.training.modes.rollout import roll_out
from suffice.training.modes.sequences import Learner, response_logits, think_logit
from suffice.training.modes.settings import Routing, WarmUp
from suffice.training.modes.warm_up import warm_up
from suffice.training.run_state import RunState, seeded
from suffice.training.settings import plain

RECITAL = "recital"
DIFFICULTIES = [1, 2, 4, 5]


@dataclass(slots=True)
class Book:
    """The finished runs of one experiment."""

    path: Path

    def has(self, name: str) -> bool:
        """Whether the run of this name is there."""
        return any(line["name"] == name for line in self._lines())

    def add(self, name: str, **found: Any) -> None:
        """Keep a run."""
        lines = [*self._lines(), {"name": name, **found}]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            yield from map(json.loads, self.path.read_text(encoding="utf-8").splitlines())


def learner_of(folder: Path, mixture: Mixture) -> Learner:
    """The model of a folder."""
    model, vocabulary = load_routed(folder)
    return Learner(model, vocabulary, mixture)


def unsaved(learner: Learner) -> RunState:
    """A run that keeps nothing on disk."""
    return RunState(path=None, config={}, modules={"model": learner.model}, optimisers={})


def tell(line: dict[str, Any]) -> None:
    """A line of progress, shortened."""
    share = f" think share {line['think_share']:.2f}" if "think_share" in line else ""
    print(
        f"  {line['phase']} {line['step']}:{share} p(think) "
        f"{' '.join(f'{p:.2f}' for p in line['p_think'].values())} {line['elapsed_s']:.0f} s",
        flush=True,
    )


def biased(asked: argparse.Namespace) -> None:
    """GRPO and DeGRPO from warm-ups of several p(think)."""
    book = Book(asked.out / "bias.jsonl")
    base = Routing(learning_rate=3e-4, steps=asked.steps, problems=16, seed=asked.seed)
    methods = {
        "grpo": replace(base, method="grpo"),
        "degrpo with entropy": replace(base, method="degrpo", alpha=0.1, entropy=0.02),
    }
    for p_think in asked.p_think:
        for method, config in methods.items():
            name = f"{method} from {p_think}, seed {asked.seed}"
            if book.has(name):
                continue
            print(name, flush=True)
            learner = learner_of(asked.model, Mixture())
            again = WarmUp(
                steps=60, pairs=48, learning_rate=5e-4, initial_p_think=p_think, control_weight=1.0
            )
            warm_up(learner, again, unsaved(learner), seed=asked.seed + 1000)
            before = probe_choice(learner, seed=asked.seed)
            state = unsaved(learner)
            train_policy(learner, config, config.reward, state, tell=tell)
            book.add(
                name, p_think_asked=p_think, method=method, config=plain(config),
                p_think_before=before, lines=state.lines,
                right=probe_answers(learner, seed=asked.seed),
            )  # fmt: skip


def root_only(asked: argparse.Namespace) -> None:
    """The gate's loss on the mode token, but through all weights."""
    book = Book(asked.out / "root.jsonl")
    for rate in (1e-4, 1e-3):
        name = f"all weights at {rate:g}, seed {asked.seed}"
        if book.has(name):
            continue
        print(name, flush=True)
        learner = learner_of(asked.model, Mixture())
        optimiser = torch.optim.AdamW(learner.model.parameters(), lr=rate, weight_decay=0.0)
        lines, started = [], time.perf_counter()
        for step in range(asked.steps + 1):
            if step % 20 == 0:
                line = {
                    "phase": "root", "step": step, "p_think": probe_choice(learner, seed=0),
                    "right": probe_answers(learner, seed=0),
                    "elapsed_s": round(time.perf_counter() - started, 1),
                }  # fmt: skip
                lines.append(line)
                tell(line)
                print("   ", {m: list(v.values()) for m, v in line["right"].items()}, flush=True)
            if step < asked.steps:
                root_step(learner, optimiser, seed=asked.seed, step=step)
        book.add(name, learning_rate=rate, lines=lines)


def root_step(learner: Learner, optimiser: torch.optim.Optimizer, *, seed: int, step: int) -> None:
    """|R_t - R_s| BCE(p(think), 1[R_t > R_s]), the body not frozen."""
    model, reward = learner.model, Routing().reward
    problems = learner.mixture.draw(32, seed=seed, step=step, split="train")
    drawn = roll_out(
        model, problems, learner.vocabulary, reward, group=4, halves=True, max_tokens=48,
        temperature=1.0, generator=seeded(seed, "rollout", step),
    )  # fmt: skip
    logits_BTV, _ = response_logits(model, drawn.batch.rows(slice(0, None, drawn.group)))
    logit_P = think_logit(logits_BTV[:, 0], learner.vocabulary)
    reward_PG, half = drawn.by_problem(drawn.reward_B), drawn.group // 2
    gain_P = reward_PG[:, half:].mean(dim=1) - reward_PG[:, :half].mean(dim=1)
    wanted_P = (gain_P > 0).float()
    cross_entropy = functional.binary_cross_entropy_with_logits
    loss = (gain_P.abs() * cross_entropy(logit_P, wanted_P, reduction="none")).mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def recited(rng: random.Random, difficulty: int) -> Problem:
    """A chain whose thought recites six permutations, and three again, before it starts."""
    problem = puzzles.chain(rng, difficulty)
    rows = [name + row for name, row in PERMUTATIONS.items()]
    return replace(problem, steps=f"+{''.join(rows)}-{''.join(rows[:3])}{problem.steps}")


def long_traces(asked: argparse.Namespace) -> None:
    """GRPO and DeGRPO where every thought has more than a hundred tokens."""
    puzzles.TASKS = {**puzzles.TASKS, RECITAL: recited}
    book = Book(asked.out / "long.jsonl")
    mixture = Mixture(tasks=(RECITAL,), difficulties=tuple(asked.difficulties))
    base = Routing(
        learning_rate=asked.learning_rate, steps=asked.steps, problems=16, group=8,
        max_tokens=140, probe_every=10, seed=asked.seed,
    )  # fmt: skip
    methods = {
        "grpo": replace(base, method="grpo"),
        "degrpo": replace(base, method="degrpo", alpha=0.1, entropy=0.02),
    }
    taught = asked.work / f"recital-{asked.seed}.pt"
    learner = learner_of(asked.model, mixture)
    config = WarmUp(steps=asked.teach, pairs=32, learning_rate=1e-3)
    state = RunState(
        path=taught, config=plain(config), modules={"model": learner.model}, optimisers={}
    )
    warm_up(learner, config, state, seed=asked.seed, tell=tell)
    right = probe_answers(learner, seed=asked.seed)
    print("after the warm-up:", right, flush=True)
    weights = {name: w.clone() for name, w in learner.model.state_dict().items()}
    for method, routing in methods.items():
        name = f"{method}, seed {asked.seed}"
        if asked.difficulties != DIFFICULTIES:
            name += f", steps {' '.join(map(str, asked.difficulties))}"
        if book.has(name):
            continue
        print(name, flush=True)
        learner.model.load_state_dict(weights)
        run = unsaved(learner)
        train_policy(learner, routing, routing.reward, run, tell=tell)
        book.add(
            name, method=method, config=plain(routing), right_before=right, lines=run.lines,
            right=probe_answers(learner, seed=asked.seed),
        )  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = {"bias": biased, "root": root_only, "long": long_traces}
    parser.add_argument("experiment", choices=kinds)
    parser.add_argument("--model", type=Path, required=True, help="a warmed-up model's folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("work"), help="checkpoints")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--teach", type=int, default=300, help="long: steps of its own warm-up")
    parser.add_argument("--difficulties", type=int, nargs="+", default=DIFFICULTIES, help="long")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--p-think", type=float, nargs="+", default=[0.01, 0.99])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    kinds[asked.experiment](asked)


if __name__ == "__main__":
    main()
