"""`suffice train nano` and `suffice train modes`: from a config to a model folder and table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from suffice.backends.nano.runtime import NanoModel
from suffice.backends.nano.vocabulary import Vocabulary
from suffice.backends.nano.weights import RECORD
from suffice.core.errors import ConfigError, InputError
from suffice.core.files import read_json, write_json, write_text
from suffice.recipes.modes.card import model_card
from suffice.recipes.modes.evaluate import (
    ModesResult,
    answer_both,
    evaluate_modes,
    flatten,
    wilson,
)
from suffice.recipes.modes.folder import load_routed, save_routed, versions
from suffice.recipes.modes.shape import nano_shape
from suffice.tasks.puzzles import (
    TABLE_STEPS,
    Mixture,
    Problem,
    check_spelling,
    read_problems,
)
from suffice.training.modes.data import (
    alphabet_of,
    check_data,
    longest_prompt,
    most_frequent_share,
    response_tokens,
)
from suffice.training.modes.rewards import Reward
from suffice.training.modes.settings import Routing, WarmUp
from suffice.training.rung import Recipe
from suffice.training.settings import differences, plain

Tell = Callable[[dict[str, Any]], None]
NAME = "suffice-nano"
WARMED_UP = "warm-up"
EVALUATED_PER_CELL = 200
# Problems that a model is asked before its choice is trained.
STARTED_ON = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NanoTraining:
    """Everything that decides a model: suffice-nano, or one of the user's own `problems`.

    `problems` is a JSONL file with prompt, answer, steps and optionally task and difficulty; it
    replaces `tasks` and `difficulties`, and its characters are the model's alphabet.
    `routing.seed` is set from `seed`.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    tasks: tuple[str, ...] = ("chain",)
    difficulties: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    table_steps: int = TABLE_STEPS
    problems: str | None = None
    parameters: float = 2.2e5
    layers: int = 2
    warm_up: WarmUp = field(default_factory=WarmUp)
    routing: Routing = field(
        default_factory=lambda: Routing(
            method="gate", steps=200, problems=32, group=4, gate_learning_rate=1e-2, fold_steps=150
        )
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        object.__setattr__(self, "routing", replace(self.routing, seed=self.seed))

    @property
    def mixture(self) -> Mixture:
        """The problems, read from the file if there is one."""
        return _mixture(self)


def train_nano(
    config: NanoTraining,
    out: Path,
    *,
    device: str = "cpu",
    tell: Tell = lambda _: None,
    evaluated_per_cell: int = EVALUATED_PER_CELL,
) -> ModesResult:
    """Train the model from nothing into `out`; an interrupted run goes on where it was saved.

    `out/warm-up` keeps the model before its choice was trained, for `train_modes` to start from. A
    folder that holds the finished model of the same config is evaluated and left as it is.
    """
    from suffice.training.model import build_model  # noqa: PLC0415 - torch
    from suffice.training.modes.sequences import Learner, check_room  # noqa: PLC0415
    from suffice.training.modes.warm_up import warm_up  # noqa: PLC0415
    from suffice.training.optimiser import initialise  # noqa: PLC0415
    from suffice.training.run_state import RunState  # noqa: PLC0415

    mixture = config.mixture
    vocabulary = Vocabulary.of(alphabet_of(mixture))
    check_data(mixture, vocabulary, max_tokens=config.routing.max_tokens, shown=True)
    if _is_finished(out, plain(config)):
        return _evaluate(out, mixture, config.routing, evaluated_per_cell)
    longest = longest_prompt(mixture, vocabulary)
    chosen = nano_shape(
        len(vocabulary), parameters=config.parameters, layers=config.layers,
        positions=longest + config.routing.max_tokens,
    )  # fmt: skip
    tell({"phase": "shape", "shape": str(chosen.shape), "parameters": chosen.parameters})
    model: Any = build_model(chosen.shape)
    check_room(model.config, vocabulary, longest, config.routing.max_tokens)
    initialise(model, Recipe(), config.layers, config.seed)
    model.to(device)
    learner = Learner(model, vocabulary, mixture)
    state = RunState(
        path=out / "work" / "warm-up.pt",
        config={"nano": plain(replace(config, routing=Routing(seed=config.seed)))},
        modules={"model": model},
        optimisers={},
    )
    warm_up(learner, config.warm_up, state, seed=config.seed, tell=tell)
    record = {
        "name": NAME,
        "config": plain(config),
        "shape": str(chosen.shape),
        "parameters": chosen.parameters,
        "design": {"role": chosen.role, "notes": list(chosen.notes)},
        "device": device,
        "versions": versions(),
        # Of the stretch that ended each phase: an interrupted run's earlier ones are not counted.
        "warm_up_s": (state.lines or [{"elapsed_s": 0.0}])[-1]["elapsed_s"],
    }
    before = {**record, "name": f"{NAME} before its choice"}
    save_routed(model, vocabulary, out / WARMED_UP, before)
    lines = route(learner, config.routing, out, tell=tell, about={"nano": plain(config)})
    record["routing_s"] = (lines or [{"elapsed_s": 0.0}])[-1]["elapsed_s"]
    told = [*(state.lines or []), *lines]
    result = _finish(learner, config.routing, out, record, told, per_cell=evaluated_per_cell)
    command = f"suffice train nano --seed {config.seed}"
    if config != NanoTraining(seed=config.seed):
        command += " --config CONFIG"
    write_text(out / "README.md", model_card(record, result, command=command))
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class ModesTraining:
    """Train the choice of a model that already answers in both modes.

    It is refused where the model solves the problems in neither, unless `accept_weak`.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    model: str
    tasks: tuple[str, ...] = ("chain",)
    difficulties: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    table_steps: int = TABLE_STEPS
    problems: str | None = None  # a JSONL file instead of tasks
    # Start even if neither mode beats the likeliest single answer.
    accept_weak: bool = False
    routing: Routing = field(default_factory=Routing)

    @property
    def mixture(self) -> Mixture:
        """The problems, read from the file if there is one."""
        return _mixture(self)


def train_modes(
    config: ModesTraining,
    out: Path,
    *,
    device: str = "cpu",
    tell: Tell = lambda _: None,
    evaluated_per_cell: int = EVALUATED_PER_CELL,
) -> ModesResult:
    """Train the choice of `config.model` into `out`, which may not be the same folder."""
    from suffice.training.modes.sequences import Learner, check_room  # noqa: PLC0415

    source = Path(config.model)
    if source.resolve() == out.resolve():
        raise InputError("--out is the model's own folder: choose another, it would be overwritten")
    mixture = config.mixture
    if _is_finished(out, plain(config)):
        return _evaluate(out, mixture, config.routing, evaluated_per_cell)
    model, vocabulary = load_routed(source)
    check_data(mixture, vocabulary, max_tokens=config.routing.max_tokens, shown=False)
    longest = longest_prompt(mixture, vocabulary)
    check_room(model.config, vocabulary, longest, config.routing.max_tokens)
    learner = Learner(model.to(device), vocabulary, mixture)
    if not config.accept_weak:
        _require_solved(learner, config.routing)
    started = time.perf_counter()
    lines = route(learner, config.routing, out, tell=tell, about={"modes": plain(config)})
    earlier = source / RECORD
    record = {
        "name": f"{source.name} after {config.routing.method}",
        "config": plain(config),
        "from": read_json(earlier, what="training record") if earlier.exists() else None,
        "device": device,
        "versions": versions(),
        "routing_s": round(time.perf_counter() - started, 1),
    }
    return _finish(learner, config.routing, out, record, lines, per_cell=evaluated_per_cell)


def route(
    learner: Any, config: Routing, out: Path, *, tell: Tell, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Run the method of `config` on `learner`; returns the progress lines."""
    from suffice.training.modes.gate import train_gate  # noqa: PLC0415 - torch
    from suffice.training.modes.policy_gradient import train_policy  # noqa: PLC0415
    from suffice.training.run_state import RunState  # noqa: PLC0415

    state = RunState(
        path=out / "work" / "routing.pt",
        config={**about, "routing": plain(config)},
        modules={"model": learner.model},
        optimisers={},
    )
    trainers = {"gate": train_gate}  # of a method of its own; the others have a loss in objective()
    train = trainers.get(config.method, train_policy)
    train(learner, config, config.reward, state, tell=tell)
    return state.lines or []


def evaluate_folder(
    folder: Path, mixture: Mixture, *, per_cell: int, reward: Reward, max_tokens: int, seed: int
) -> ModesResult:
    """The table of a model folder, by the runtime without torch."""
    model = NanoModel(folder)
    check_spelling(mixture.given, model.vocabulary)
    problems = flatten(mixture.distinct(per_cell, seed=seed, split="held_out"))
    answered = answer_both(model, problems, max_tokens=max_tokens)
    return evaluate_modes(answered, reward, seed=seed)


def _finish(
    learner: Any,
    routing: Routing,
    out: Path,
    record: dict[str, Any],
    lines: list[dict[str, Any]],
    *,
    per_cell: int,
) -> ModesResult:
    save_routed(learner.model, learner.vocabulary, out, record)
    result = _evaluate(out, learner.mixture, routing, per_cell)
    saved = read_json(out / RECORD, what="training record")
    write_json(out / RECORD, {**saved, "evaluation": asdict(result)})
    write_text(out / "progress.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    for leftover in (out / "work").glob("*"):
        leftover.unlink()
    (out / "work").rmdir()
    return result


def _is_finished(out: Path, config: dict[str, Any]) -> bool:
    if not (out / RECORD).exists():
        return False
    record = read_json(out / RECORD, what="training record")
    changed = differences(record["config"], config)
    if changed:
        raise InputError(
            f"{str(out)!r} holds a model of another config ({'; '.join(changed)}): choose another "
            "--out, or delete it"
        )
    return True


def _evaluate(out: Path, mixture: Mixture, routing: Routing, per_cell: int) -> ModesResult:
    return evaluate_folder(
        out, mixture, per_cell=per_cell, reward=routing.reward,
        max_tokens=routing.max_tokens, seed=routing.seed,
    )  # fmt: skip


def room_for(problems: Path) -> int:
    """Tokens of the longest response that the problems of a file show, for `routing.max_tokens`."""
    given = read_problems(problems)
    vocabulary = Vocabulary.of(alphabet_of(Mixture(given=given)))
    return max(response_tokens(problem, vocabulary) for problem in given)


def _mixture(config: NanoTraining | ModesTraining) -> Mixture:
    given = read_problems(Path(config.problems)) if config.problems else ()
    return Mixture(
        tasks=config.tasks, difficulties=config.difficulties, given=given,
        table_steps=config.table_steps,
    )  # fmt: skip


def _require_solved(learner: Any, routing: Routing) -> None:
    """Refuse a model that is surely worse, in both modes, than always giving one answer."""
    from suffice.training.modes.rollout import roll_out  # noqa: PLC0415 - torch
    from suffice.training.run_state import seeded  # noqa: PLC0415

    problems: list[Problem] = learner.mixture.draw(
        STARTED_ON, seed=routing.seed, step=0, split="train"
    )
    learner.model.eval()
    drawn = roll_out(
        learner.model, problems, learner.vocabulary, routing.reward, group=2, halves=True,
        max_tokens=routing.max_tokens, temperature=0.0, generator=seeded(routing.seed, "start"),
    )  # fmt: skip
    hits = drawn.by_problem(drawn.right_B).sum(dim=0).tolist()
    short, think = (wilson(int(right), STARTED_ON) for right in hits)
    guess = most_frequent_share(problems)
    if max(short.high, think.high) < guess:
        raise InputError(
            f"this model does not solve these problems: right on {short.mean:.2f} at once and on "
            f"{think.mean:.2f} after thinking, where one answer to all of them is right on "
            f"{guess:.2f} ({STARTED_ON} problems). Train one that does with `suffice train nano "
            "--problems`, or start anyway with --accept-weak"
        )
