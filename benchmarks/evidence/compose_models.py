"""Models of two shapes for `suffice compose`: one as LLaMAs of small size have it, one for speed.

    python benchmarks/evidence/compose_models.py --seed 0 --out run/compose-models

deep   the ratios of SmolLM2-135M: layers to hidden size 1 to 18, MLP 2.67 times the hidden size,
       three query heads a KV head; 96 thousand weights in 3 layers
fast   what `suffice train nano` chooses for one CPU at this size: 103 thousand weights in 2 layers

Both learn the same puzzles (`chain` and `logic`) by the same steps and seed, first to answer in two
modes with no preference (`deep`, `fast`), then when to think, by a gate (`deep-routed`,
`fast-routed`). OUT/seedN holds the four folders, `questions.jsonl` (puzzles held out, and the tables
of one and two steps) and `compose.toml`, which `suffice compose` plays. A run that was stopped goes
on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from suffice.architecture.counts import parameter_counts
from suffice.architecture.shape import Shape
from suffice.backends.nano.vocabulary import Vocabulary
from suffice.backends.nano.weights import RECORD
from suffice.core.files import write_text
from suffice.recipes.modes.folder import load_routed, save_routed, versions
from suffice.recipes.modes.shape import POSITIONS, nano_shape
from suffice.recipes.modes.train import NanoTraining, route
from suffice.tasks.puzzles import Mixture
from suffice.training.model import build_model
from suffice.training.modes.data import alphabet_of
from suffice.training.modes.sequences import Learner
from suffice.training.modes.settings import Routing, WarmUp
from suffice.training.modes.warm_up import warm_up
from suffice.training.optimiser import initialise
from suffice.training.run_state import RunState
from suffice.training.rung import Recipe
from suffice.training.settings import plain

TASKS = ("chain", "logic")
PARAMETERS = 1e5


def config_of(seed: int) -> NanoTraining:
    """How all four are trained."""
    return NanoTraining(
        tasks=TASKS, parameters=PARAMETERS, layers=2, seed=seed,
        warm_up=WarmUp(steps=1000, pairs=96, checkpoint_every=200),
        routing=Routing(
            method="gate", steps=150, problems=32, group=4, gate_learning_rate=1e-2,
            fold_steps=100, token_price=0.003,
        ),
    )  # fmt: skip


def shapes(vocab_size: int) -> dict[str, Shape]:
    """The shapes by name, in the order in which they are trained."""
    deep = Shape(
        hidden_size=54, intermediate_size=144, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, head_dim=18, vocab_size=vocab_size, tie_word_embeddings=False,
        config={"max_position_embeddings": POSITIONS, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
    )  # fmt: skip
    fast = nano_shape(vocab_size, parameters=PARAMETERS, layers=2).shape
    return {"fast": fast, "deep": deep}


def tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def train(name: str, shape: Shape, seed: int, out: Path) -> None:
    """One shape: `out/name` before its choice is trained, `out/name-routed` after."""
    routed = out / f"{name}-routed"
    if (routed / RECORD).exists():
        return
    config, plainly = config_of(seed), out / name
    record = {
        "name": name, "config": plain(config), "shape": str(shape), "versions": versions(),
        "parameters": int(parameter_counts(shape).total), "command": f"--seed {seed}",
    }  # fmt: skip
    vocabulary = Vocabulary.of(alphabet_of(config.mixture))
    if (plainly / RECORD).exists():
        model, _ = load_routed(plainly)
    else:
        model = build_model(shape)
        initialise(model, Recipe(), shape.num_hidden_layers, seed)
        about = {"shape": str(shape), "warm_up": plain(config.warm_up), "seed": seed}
        state = RunState(
            path=out / "work" / f"{name}.pt", config=about, modules={"model": model}, optimisers={}
        )
        learner = Learner(model, vocabulary, config.mixture)
        warm_up(learner, config.warm_up, state, seed=seed, tell=tell)
        save_routed(model, vocabulary, plainly, record)
    learner = Learner(model, vocabulary, config.mixture)
    route(learner, config.routing, routed, tell=tell, about={"shape": str(shape)})
    save_routed(model, vocabulary, routed, {**record, "name": f"{name}-routed"})


# One answer, if the model gives it .95; else a vote that stops as soon as it is decided.
SURE, VOTE = "single:accept=.95", "adaptive_consistency:max_samples=8,scatter=none"
ARMS = (
    ("vote of 8, deep", "baseline", "self_consistency:samples=8@deep-think"),
    ("shape", "lever", "self_consistency:samples=8@fast-think"),
    ("policy", "lever", f"{SURE}@deep-think > {VOTE}@deep-think"),
    ("training", "lever", "self_consistency:samples=8@deep-routed"),
    ("all", "together", f"{SURE}@fast-routed > {VOTE}@fast-routed"),
    ("one thought, deep", "reference", "single@deep-think"),
    ("one answer of fast-routed", "reference", "single@fast-routed"),
    ("at once, fast", "reference", "single@fast-short"),
)
PER_CELL = 25


def write_questions(mixture: Mixture, folder: Path) -> None:
    """Up to PER_CELL puzzles of each task and length, and the arms that are played on them."""
    cells = mixture.distinct(PER_CELL, seed=0, split="held_out")
    rows = [
        json.dumps({
            "id": f"{task}-{steps}-{number}", "prompt": problem.prompt, "answer": problem.answer,
            "category": f"{task}, {steps} steps",
        })
        for (task, steps), problems in cells.items()
        for number, problem in enumerate(problems)
    ]  # fmt: skip
    write_text(folder / "questions.jsonl", "".join(f"{row}\n" for row in rows))
    models = "".join(
        f'"{name}" = "{folder / name}"\n' for name in ("deep", "fast", "deep-routed", "fast-routed")
    )
    arms = "".join(
        f'\n[[arms]]\nname = "{name}"\nrole = "{role}"\npolicy = "{policy}"\n'
        for name, role, policy in ARMS
    )
    write_text(
        folder / "compose.toml",
        f'questions = "{folder / "questions.jsonl"}"\nmax_tokens = 48\n\n[models]\n{models}{arms}',
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", choices=("fast", "deep"), help="one of the two")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    vocabulary = Vocabulary.of(alphabet_of(config_of(asked.seed).mixture))
    for name, shape in shapes(len(vocabulary)).items():
        if asked.only in (None, name):
            train(name, shape, asked.seed, asked.out / f"seed{asked.seed}")
    write_questions(config_of(asked.seed).mixture, asked.out / f"seed{asked.seed}")


if __name__ == "__main__":
    main()
