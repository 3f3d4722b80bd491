"""From nothing to pruned traces, what they keep, and what students learn from them.

1. a small model learns problems with whole traces;  2. a copy learns to answer over gaps: the
pruner;  3. every method orders the tokens of unseen traces, and the pruner says what is left of
P(answer) and of each kind of token;  4. students, copies of the first model, learn traces that each
method cut to the same number of tokens, and answer unseen problems by their own thoughts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suffice.architecture.shape import Shape
from suffice.core.errors import ConfigError
from suffice.core.files import read_json, write_json
from suffice.recipes.modes.evaluate import Estimate, wilson
from suffice.training.pruning.greedy import Greedy, kept_after
from suffice.training.pruning.learn import (
    answered,
    dropped_traces,
    example_of,
    fixed_rows,
    full_traces,
    row_loss,
    whole_row,
)
from suffice.training.pruning.orders import ORDERS
from suffice.training.pruning.problems import CATEGORIES, SYMBOLIC, Traced, problems, words
from suffice.training.pruning.scoring import OBJECTIVES, Example, Pruner
from suffice.training.pruning.surrogate import deleted_when, fit_surrogate
from suffice.training.rung import Recipe
from suffice.training.settings import plain, refuse_another
from suffice.training.stretch import Stretch, Tell, run_stretch

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.33, 0.2, 0.1, 0.0)
RAW = "raw"
SURROGATE = "surrogate"
RESULT = "pruning.json"
MAX_TOKENS = 64
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneTraining:
    """Everything that decides a run.

    Problems have `steps` on either side. `judged` traces give P(answer) and what is kept; `pruned`
    problems teach the students, `keep` of each trace's tokens; `tested` problems are answered.
    `arms` are the students' methods: greedy-answer, greedy-joint, greedy-mean, raw, or a name of
    `training.pruning.orders.ORDERS`.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    steps: int = 1
    hidden_size: int = 64
    base: Stretch = field(default_factory=lambda: Stretch(steps=300, batch=64, learning_rate=4e-3))
    gaps: Stretch = field(default_factory=lambda: Stretch(steps=150, batch=64, learning_rate=2e-3))
    student: Stretch = field(
        default_factory=lambda: Stretch(steps=30, batch=48, learning_rate=1e-3)
    )
    drop: float = 0.7
    per_step: int = 1
    reuse_prefix: bool = False  # pays from models whose time is not the calls' overhead
    keep: float = 0.7
    judged: int = 30
    pruned: int = 100
    tested: int = 250
    arms: tuple[str, ...] = (
        RAW, "greedy-answer", "greedy-mean", "random", "uniform", "truncation", "surprisal",
        "entropy", "importance",
    )  # fmt: skip
    seed: int = 0

    def __post_init__(self) -> None:
        known = {RAW, *ORDERS, *(f"greedy-{o}" for o in OBJECTIVES)}
        for arm in self.arms:
            if arm not in known:
                raise ConfigError(f"arm {arm!r} must be one of {', '.join(sorted(known))}")
        if self.steps < 1:
            raise ConfigError(f"steps must be 1 or more, got {self.steps}")
        if not 0 < self.keep < 1 or not 0 < self.drop < 1:
            raise ConfigError(
                f"keep and drop are shares between 0 and 1, got {self.keep} and {self.drop}"
            )
        if min(self.judged, self.pruned, self.tested) < 2 or self.hidden_size % 32:
            raise ConfigError(
                "judged, pruned and tested must be 2 or more and hidden_size a multiple of 32"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One method: P(answer) by share of the trace kept, with bootstrap intervals over traces."""

    method: str
    p_answer: tuple[tuple[float, Estimate], ...]
    kept_at_half: dict[str, Estimate]  # share of each kind of token that is left at half
    computed_tokens: float  # of the pruner, a trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """One arm: what it learned from, and its own thoughts on unseen problems."""

    arm: str
    tokens_learned_from: float  # of a trace, mean
    accuracy: Estimate
    tokens: float  # of a response, mean
    right: tuple[bool, ...]  # by problem: the arms answer the same ones


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """Everything that `suffice train prune` prints and writes; `untaught` is the first model."""

    curves: tuple[Curve, ...]
    against_random_at_half: dict[str, Estimate]  # paired over traces
    symbolic_over_filler_at_half: dict[str, Estimate]  # paired over traces
    surrogate_rank_correlation: Estimate  # Spearman's, a trace
    students: tuple[Student, ...]
    untaught: Student


def train_prune(config: PruneTraining, out: Path, *, tell: Tell = lambda _: None) -> PruneResult:
    """Run all of it into `out`; an interrupted run goes on where it was saved."""
    refuse_another(out / RESULT, config)
    run = _Run(config, out, tell)
    run.learn()
    untaught = run.untaught()
    curves, against, symbolic, correlation = run.judge()
    students = tuple(run.student(arm) for arm in config.arms)
    result = PruneResult(
        curves=curves, against_random_at_half=against, symbolic_over_filler_at_half=symbolic,
        surrogate_rank_correlation=correlation, students=students, untaught=untaught,
    )  # fmt: skip
    write_json(out / RESULT, {"config": plain(config), **asdict(result)})
    return result


class _Run:
    def __init__(self, config: PruneTraining, out: Path, tell: Tell) -> None:
        from suffice.training.model import build_model  # noqa: PLC0415
        from suffice.training.optimiser import initialise  # noqa: PLC0415

        self.config, self.out, self.tell = config, out, tell
        self.words = words()
        width = config.hidden_size
        shape = Shape(
            hidden_size=width, intermediate_size=3 * width, num_hidden_layers=2,
            num_attention_heads=width // 32, num_key_value_heads=width // 32, head_dim=32,
            vocab_size=len(self.words), tie_word_embeddings=False,
            config={"max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
        )  # fmt: skip
        self.base: Any = build_model(shape)
        initialise(self.base, Recipe(), 2, config.seed)
        self.pruner: Any = None

    def learn(self) -> None:
        """The model of whole traces, and the pruner."""
        base, gaps, seed = self.config.base, self.config.gaps, self.config.seed
        self._fit(
            self.base,
            full_traces(self.words, batch=base.batch, seed=seed, steps=self.config.steps),
            base,
            "base",
        )
        self.pruner = copy.deepcopy(self.base)
        rows = dropped_traces(
            self.words, batch=gaps.batch, seed=seed, drop=self.config.drop, steps=self.config.steps
        )
        self._fit(self.pruner, rows, gaps, "gaps")

    def judge(self) -> tuple[Any, ...]:
        """P(answer) and what is kept, by method, on traces that were not learned."""
        asked = problems(
            self.config.judged, seed=self.config.seed, part="judged", steps=self.config.steps
        )
        examples = [example_of(problem, self.words) for problem in asked]
        names = [*(f"greedy-{objective}" for objective in OBJECTIVES), *ORDERS]
        orders = {name: self.orders(name, "judged", examples, left=0.0) for name in names}
        half = len(examples) // 2
        fitted = fit_surrogate(
            self.pruner, examples[:half], orders["greedy-answer"][0][:half], seed=self.config.seed
        )
        guessed = [fitted.order(self.pruner, example) for example in examples[half:]]
        correlation = _mean([
            _spearman(deleted_when(a).numpy(), deleted_when(b).numpy())
            for a, b in zip(guessed, orders["greedy-answer"][0][half:], strict=True)
        ])  # fmt: skip
        p = {name: self._p_answer(examples, found) for name, (found, _) in orders.items()}
        kept = {name: _kept_at_half(asked, found) for name, (found, _) in orders.items()}
        curves = [
            Curve(
                method=name,
                p_answer=tuple((s, _mean(p[name][:, i])) for i, s in enumerate(SHARES)),
                kept_at_half={k: _mean(v) for k, v in kept[name].items()},
                computed_tokens=cost,
            )
            for name, (_, cost) in orders.items()
        ]
        surrogate_p = self._p_answer(examples[half:], guessed)
        curves.append(
            Curve(
                method=SURROGATE,
                p_answer=tuple((s, _mean(surrogate_p[:, i])) for i, s in enumerate(SHARES)),
                kept_at_half={k: _mean(v) for k, v in _kept_at_half(asked[half:], guessed).items()},
                computed_tokens=float(np.mean([len(e.question) + len(e.trace) for e in examples])),
            )
        )
        at = SHARES.index(0.5)
        against = {name: _mean(p[name][:, at] - p["random"][:, at]) for name in names}
        symbolic = {name: _mean(kept[name]["symbolic"] - kept[name]["words"]) for name in names}
        return tuple(curves), against, symbolic, correlation

    def orders(
        self, name: str, part: str, examples: Sequence[Example], *, left: float
    ) -> tuple[list[list[int]], float]:
        """(order of deletion of each trace, tokens computed a trace); kept on disk."""
        path = self.out / "work" / f"{part}-{name}.json"
        if path.exists():
            held = read_json(path, what="orders")
            return held["orders"], held["computed_tokens"]
        found, pruner = [], Pruner(self.pruner)
        for example in examples:
            if name.startswith("greedy-"):
                objective: Any = name.removeprefix("greedy-")
                greedy = Greedy(
                    objective=objective,
                    per_step=self.config.per_step,
                    reuse_prefix=self.config.reuse_prefix,
                )
                stop = round(left * len(example.trace))
                found.append(greedy.order(pruner, example, left=stop))
            else:
                found.append(ORDERS[name](self.pruner, example, self.config.seed))
        cost = pruner.computed_tokens / len(examples)
        write_json(path, {"orders": found, "computed_tokens": cost})
        self.tell({"phase": f"{part} {name}", "traces": len(found), "computed_tokens": cost})
        return found, cost

    def student(self, arm: str) -> Student:
        """A copy of the first model after traces that were cut by `arm`."""
        config = self.config
        asked = problems(config.pruned, seed=config.seed, part="pruned", steps=config.steps)
        examples = [example_of(problem, self.words) for problem in asked]
        if arm == RAW:
            kept = [list(range(len(e.trace))) for e in examples]
        else:
            found, _ = self.orders(arm, "pruned", examples, left=config.keep)
            kept = [
                kept_after(order, len(e.trace), config.keep)
                for order, e in zip(found, examples, strict=True)
            ]
        rows = [
            whole_row(e, places, self.words, answer_only=False)
            for e, places in zip(examples, kept, strict=True)
        ]
        model = copy.deepcopy(self.base)
        learned = fixed_rows(rows, batch=config.student.batch, seed=config.seed)
        self._fit(model, learned, config.student, f"student-{arm}")
        return self._tested(model, arm, float(np.mean([len(places) for places in kept])))

    def untaught(self) -> Student:
        """The first model itself."""
        return self._tested(self.base, "untaught", 0.0)

    def _tested(self, model: Any, arm: str, learned_from: float) -> Student:
        asked = problems(
            self.config.tested, seed=self.config.seed, part="tested", steps=self.config.steps
        )
        right, tokens = answered(
            model, asked, self.words, max_tokens=MAX_TOKENS, seed=self.config.seed
        )
        student = Student(
            arm=arm, tokens_learned_from=learned_from, accuracy=wilson(sum(right), len(right)),
            tokens=float(np.mean(tokens)), right=tuple(right),
        )  # fmt: skip
        self.tell({"phase": f"student {arm}", "accuracy": student.accuracy.mean,
                   "tokens": student.tokens, "learned_from": learned_from})  # fmt: skip
        return student

    def _fit(self, model: Any, rows_of: Any, stretch: Stretch, phase: str) -> None:
        from suffice.training.run_state import RunState  # noqa: PLC0415 - torch

        state = RunState(
            path=self.out / "work" / f"{phase}.pt",
            # Students may change without a new pruner, and the other way round.
            config={"phase": phase, "learning": asdict(stretch), "seed": self.config.seed,
                    "hidden_size": self.config.hidden_size, "steps": self.config.steps},
            modules={"model": model}, optimisers={},
        )  # fmt: skip
        model.train()
        run_stretch(
            model, lambda step: row_loss(model, rows_of(step)), stretch, state, phase=phase,
            tell=self.tell,
        )  # fmt: skip
        model.eval()

    def _p_answer(self, examples: Sequence[Example], orders: Sequence[Sequence[int]]) -> Any:
        pruner = Pruner(self.pruner)
        return np.array([
            pruner.scores(e, [kept_after(order, len(e.trace), s) for s in SHARES])
            .answer_B.exp().numpy()
            for e, order in zip(examples, orders, strict=True)
        ])  # fmt: skip


def _kept_at_half(asked: Sequence[Traced], orders: Sequence[Sequence[int]]) -> dict[str, Any]:
    """By kind of token: the share of each trace's that is left at half; nan where it has none."""
    rows = []
    for problem, order in zip(asked, orders, strict=True):
        kept = set(kept_after(order, len(problem.trace), 0.5))
        groups: dict[str, list[int]] = {
            **{c: [n for n, k in enumerate(problem.categories) if k == c] for c in CATEGORIES},
            "symbolic": [n for n, k in enumerate(problem.categories) if k in SYMBOLIC],
            "words": [n for n, k in enumerate(problem.categories) if k not in SYMBOLIC],
        }
        rows.append({
            name: float(np.mean([n in kept for n in places])) if places else float("nan")
            for name, places in groups.items()
        })  # fmt: skip
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _mean(values: Any, seed: int = 0) -> Estimate:
    """Mean with a 95 % bootstrap interval over traces; nan is left out."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    rng = np.random.default_rng(seed)
    drawn = known[rng.integers(len(known), size=(_RESAMPLES, len(known)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(mean=float(known.mean()), low=float(low), high=float(high))


def _spearman(a: Any, b: Any) -> float:
    """Rank correlation of two orders without ties."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (a, b))
    return float(np.corrcoef(np.stack([first, second]))[0, 1])
