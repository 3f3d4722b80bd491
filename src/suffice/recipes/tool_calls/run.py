"""From nothing to a model that calls tools, and what preference adds to demonstration.

1. a small model learns a teacher's chains, errors of preference among them;  2. it plays new
questions several times, and each right chain is paired with the wrong ones;  3. from the same model
go on: the demonstrations (`more-sft`), as many new ones (`more-data`), the right chains alone
(`chosen-sft`), the pairs (`dpo`), the pairs with an SFT term (`dpo-sft`) - all for the same number
of tokens computed;  4. each answers the same unseen questions, greedily and at temperature 1.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from suffice.architecture.shape import Shape
from suffice.core.errors import ConfigError
from suffice.core.files import write_json
from suffice.recipes.modes.evaluate import Estimate, wilson
from suffice.recipes.modes.folder import save_routed
from suffice.training.model import build_model
from suffice.training.optimiser import initialise
from suffice.training.run_state import RunState, seeded
from suffice.training.rung import Recipe
from suffice.training.settings import plain, refuse_another
from suffice.training.stretch import Stretch, Tell, run_stretch
from suffice.training.tool_calls.chains import Fault, Row, play, row_of
from suffice.training.tool_calls.losses import Pair, dpo_loss, sft_loss, with_reference
from suffice.training.tool_calls.mining import Mined, made_pairs, mine
from suffice.training.tool_calls.questions import (
    Question,
    questions,
    taught_chain,
    words,
)

Arm = Literal["more-sft", "more-data", "chosen-sft", "dpo", "dpo-sft"]
ARMS: tuple[Arm, ...] = ("more-sft", "more-data", "chosen-sft", "dpo", "dpo-sft")
BEFORE = "sft"
RESULT = "tool-calls.json"
LAYERS = 3
# Faults of the questions that have an answer, as BFCL's categories group them.
WRONG_ARGUMENTS: tuple[Fault, ...] = ("wrong arguments",)
WRONG_FUNCTION: tuple[Fault, ...] = ("wrong function", "not offered")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallTraining:
    """Everything that decides a run.

    `taught` questions are the teacher's; `mined` new ones are played `samples` times, and `made`
    more give pairs that are written from the right chain. The arms take `after.steps` steps of
    `after.batch` pairs; those without pairs take twice as many chains a step, and so many steps
    more as the reference's passes cost. `rates` gives an arm another learning rate than `after`'s.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    hidden_size: int = 96
    taught: int = 16000
    sft: Stretch = field(default_factory=lambda: Stretch(steps=600, batch=64, learning_rate=3e-3))
    mined: int = 500
    samples: int = 4
    made: int = 0
    after: Stretch = field(default_factory=lambda: Stretch(steps=80, batch=24, learning_rate=3e-4))
    rates: dict[str, float] = field(default_factory=dict)
    beta: float = 0.1
    sft_weight: float = 1.0
    arms: tuple[Arm, ...] = ARMS
    tested: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for arm in (*self.arms, *self.rates):
            if arm not in ARMS:
                raise ConfigError(f"arm {arm!r} must be one of {', '.join(ARMS)}")
        if min(self.taught, self.mined, self.tested) < 2 or self.made < 0 or self.samples < 2:
            raise ConfigError("taught, mined, tested and samples must be 2 or more, made 0 or more")
        if self.hidden_size % 32 or self.hidden_size < 32:
            raise ConfigError(f"hidden_size must be a multiple of 32, got {self.hidden_size}")
        if not self.beta > 0 or self.sft_weight < 0 or self.seed < 0:
            raise ConfigError("beta must be positive, sft_weight and seed 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Shares of the questions that have an answer, and of those that `none` answers."""

    temperature: float
    right: Estimate
    wrong_arguments: Estimate
    wrong_function: Estimate
    refused_wrongly: Estimate
    malformed: Estimate
    preference_errors: Estimate  # wrong, of the questions where such an error is possible
    refuses: Estimate
    faults: tuple[Fault, ...]  # by question: the arms answer the same ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One arm; `computed_tokens` counts a token learned from as 3 and one only read as 1."""

    arm: str
    computed_tokens: int
    greedy: Scores
    sampled: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallResult:
    """Everything that `suffice train tool-calls` prints and writes."""

    parameters: int
    pairs: int
    rejected_for: dict[str, int]
    by_preference: tuple[bool, ...]  # of the tested questions
    has_answer: tuple[bool, ...]
    before: Outcome
    arms: tuple[Outcome, ...]


def train_tool_calls(
    config: ToolCallTraining, out: Path, *, tell: Tell = lambda _: None
) -> ToolCallResult:
    """Run all of it into `out`; an interrupted run goes on where it was saved."""
    refuse_another(out / RESULT, config)
    run = _Run(config, out, tell)
    spent = run.demonstrate()
    before = run.tested(run.base, BEFORE, spent)
    mined = run.mine()
    arms = tuple(run.arm(name, mined) for name in config.arms)
    result = ToolCallResult(
        parameters=sum(weight.numel() for weight in run.base.parameters()),
        pairs=len(mined.pairs), rejected_for=mined.faults,
        by_preference=tuple(q.by_preference for q in run.asked),
        has_answer=tuple(bool(q.calls) for q in run.asked), before=before, arms=arms,
    )  # fmt: skip
    write_json(out / RESULT, {"config": plain(config), **asdict(result)})
    return result


class _Run:
    def __init__(self, config: ToolCallTraining, out: Path, tell: Tell) -> None:
        self.config, self.out, self.tell = config, out, tell
        self.words = words()
        width = config.hidden_size
        shape = Shape(
            hidden_size=width, intermediate_size=3 * width, num_hidden_layers=LAYERS,
            num_attention_heads=width // 32, num_key_value_heads=width // 32, head_dim=32,
            vocab_size=len(self.words), tie_word_embeddings=False,
            config={"max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
        )  # fmt: skip
        self.base: Any = build_model(shape)
        initialise(self.base, Recipe(), LAYERS, config.seed)
        self.asked = questions(config.tested, seed=config.seed, part="tested")

    def taught(self, part: str, count: int) -> list[Row]:
        """The teacher's chains to some questions."""
        rng = random.Random(f"{self.config.seed}/{part}/teacher")
        return [
            row_of(question, taught_chain(question, rng), self.words)
            for question in questions(count, seed=self.config.seed, part=part)
        ]

    def demonstrate(self) -> int:
        """Teach the base model; tokens computed."""
        rows = self.taught("taught", self.config.taught)
        stretch = self.config.sft
        loss = _on_rows(rows, stretch.batch, self.config.seed)
        self._fit(self.base, loss, stretch, BEFORE)
        about = {"name": "suffice-tool-calls", "after": BEFORE}
        save_routed(self.base, self.words, self.out / BEFORE, about)
        return 3 * stretch.steps * stretch.batch * _mean_length(rows)

    def mine(self) -> Mined:
        """Pairs that the base model played, and those that are made."""
        config = self.config
        found = mine(
            self.base, questions(config.mined, seed=config.seed, part="mined"), self.words,
            samples=config.samples, seed=config.seed,
        )  # fmt: skip
        made = made_pairs(
            questions(config.made, seed=config.seed, part="made"), self.words, seed=config.seed
        )
        pairs = (*found.pairs, *made)
        if not pairs:
            raise ConfigError(
                "no question was answered both rightly and wrongly, so there is no pair to learn "
                "from: mine more questions, more samples, or train less before"
            )
        self.tell({"phase": "mined", "pairs": len(pairs), **found.faults})
        return replace(found, pairs=pairs, right=(*found.right, *(p.chosen for p in made)))

    def arm(self, name: Arm, mined: Mined) -> Outcome:
        """A copy of the base model after one kind of training."""
        config = self.config
        stretch = replace(
            config.after, learning_rate=config.rates.get(name, config.after.learning_rate)
        )
        length = _mean_length([row for p in mined.pairs for row in (p.chosen, p.rejected)])
        budget = length * 2 * (3 * stretch.steps * stretch.batch + len(mined.pairs))
        if name in ("dpo", "dpo-sft"):
            pairs = with_reference(self.base, mined.pairs)
            loss = _on_pairs(
                pairs, stretch.batch, config.seed, beta=config.beta,
                sft_weight=config.sft_weight if name == "dpo-sft" else 0.0,
            )  # fmt: skip
        else:
            rows = {
                "more-sft": lambda: self.taught("taught", config.taught),
                "more-data": lambda: self.taught("more", config.taught),
                "chosen-sft": lambda: list(mined.right),
            }[name]()
            batch = 2 * stretch.batch
            # As many steps as the pairs' tokens buy, the reference's passes among them.
            steps = max(1, round(budget / (3 * batch * _mean_length(rows))))
            stretch = replace(stretch, steps=steps, batch=batch)
            loss = _on_rows(rows, batch, config.seed)
        model = copy.deepcopy(self.base)
        self._fit(model, loss, stretch, name)
        about = {"name": "suffice-tool-calls", "after": name}
        save_routed(model, self.words, self.out / name, about)
        return self.tested(model, name, budget)

    def tested(self, model: Any, name: str, spent: int) -> Outcome:
        """How a model answers the tested questions."""
        greedy, sampled = (self._scores(model, temperature) for temperature in (0.0, 1.0))
        self.tell({
            "phase": f"tested {name}", "right": greedy.right.mean,
            "wrong_arguments": greedy.wrong_arguments.mean, "refuses": greedy.refuses.mean,
            "right_sampled": sampled.right.mean, "refuses_sampled": sampled.refuses.mean,
        })  # fmt: skip
        return Outcome(arm=name, computed_tokens=spent, greedy=greedy, sampled=sampled)

    def _scores(self, model: Any, temperature: float) -> Scores:
        played = play(
            model, self.asked, self.words, temperature=temperature,
            generator=seeded(self.config.seed, "tested"),
        )  # fmt: skip
        return scores(self.asked, [p.fault for p in played], temperature)

    def _decides(self, phase: str) -> dict[str, Any]:
        """What a phase hangs on: the arms may change without another base model."""
        of_all = {name: getattr(self.config, name) for name in ("hidden_size", "taught", "seed")}
        if phase == BEFORE:
            return of_all
        names = ("mined", "samples", "made", "beta", "sft_weight")
        return {
            **of_all, "sft": asdict(self.config.sft),
            **{name: getattr(self.config, name) for name in names},
        }  # fmt: skip

    def _fit(
        self,
        model: nn.Module,
        loss_of: Callable[[nn.Module, int], torch.Tensor],
        stretch: Stretch,
        phase: str,
    ) -> None:
        state = RunState(
            path=self.out / "work" / f"{phase}.pt",
            config={"phase": phase, "stretch": asdict(stretch), "of": self._decides(phase)},
            modules={"model": model},
            optimisers={},
        )
        model.train()
        run_stretch(
            model, lambda step: loss_of(model, step), stretch, state, phase=phase, tell=self.tell
        )
        model.eval()


def scores(asked: Sequence[Question], faults: Sequence[Fault], temperature: float) -> Scores:
    """Shares with Wilson's 95 % intervals."""
    answered = [f for q, f in zip(asked, faults, strict=True) if q.calls]
    refused = [f for q, f in zip(asked, faults, strict=True) if not q.calls]
    preferred = [f for q, f in zip(asked, faults, strict=True) if q.by_preference]

    def share(of: Sequence[Fault], kinds: Sequence[Fault]) -> Estimate:
        return wilson(sum(fault in kinds for fault in of), len(of))

    wrong = wilson(sum(fault != "right" for fault in preferred), len(preferred))
    return Scores(
        temperature=temperature, right=share(answered, ["right"]),
        wrong_arguments=share(answered, WRONG_ARGUMENTS),
        wrong_function=share(answered, WRONG_FUNCTION),
        refused_wrongly=share(answered, ["refused wrongly"]),
        malformed=share(answered, ["malformed", "wrong answer"]),
        preference_errors=wrong, refuses=share(refused, ["right"]), faults=tuple(faults),
    )  # fmt: skip


def _mean_length(rows: Sequence[Row]) -> int:
    return round(sum(len(row.ids) for row in rows) / len(rows))


class _Order:
    """Which of a fixed set each step takes: in passes, each in an order of its own."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self._count, self._batch, self._seed = count, batch, seed
        self._passes: dict[int, list[int]] = {}

    def __call__(self, step: int) -> list[int]:
        found = []
        for n in range(step * self._batch, (step + 1) * self._batch):
            number, at = divmod(n, self._count)
            if number not in self._passes:
                order = list(range(self._count))
                random.Random(f"{self._seed}/order/{number}").shuffle(order)
                self._passes = {number: order}
            found.append(self._passes[number][at])
        return found


def _on_rows(rows: Sequence[Row], batch: int, seed: int) -> Callable[[nn.Module, int], Any]:
    order = _Order(len(rows), batch, seed)
    return lambda model, step: sft_loss(model, [rows[n] for n in order(step)])


def _on_pairs(
    pairs: Sequence[Pair], batch: int, seed: int, *, beta: float, sft_weight: float
) -> Callable[[nn.Module, int], Any]:
    order = _Order(len(pairs), batch, seed)
    return lambda model, step: dpo_loss(
        model, [pairs[n] for n in order(step)], beta=beta, sft_weight=sft_weight
    )
