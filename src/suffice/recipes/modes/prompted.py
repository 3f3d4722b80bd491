"""`suffice train modes` of a pretrained model: a gate on its frozen body.

1. every question is answered at once and step by step, greedily, and twice more at once at
temperature 1;  2. a linear gate reads the last layer's state at the end of the short prompt and
learns where thinking pays, each question's choice by a gate that was fitted without it;  3. the
rules that need no gate stand beside it. The model itself stays as it is, so 1 is done once and 2
takes seconds at every price.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.completions import Completion, Usage
from suffice.core.errors import ConfigError, InputError
from suffice.core.files import read_json, write_json, write_text
from suffice.evals.grading import check_of
from suffice.recipes.modes.compare import (
    Asked,
    Comparison,
    Drafts,
    compare,
    gains,
    parts,
)
from suffice.recipes.modes.folder import versions
from suffice.tasks.puzzles import Problem, read_problems
from suffice.training.modes.frozen_gate import FrozenGate, cross_fitted, fit_gate
from suffice.training.settings import differences, plain

Tell = Callable[[dict[str, Any]], None]
RESULT, GATE, ANSWERS = "modes.json", "gate.json", "answers.jsonl"
# The name under which the embedded model is fetched and converted.
EMBEDDED = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedMode:
    """How a mode is asked for: an instruction and examples before the question.

    `examples` are pairs of question and answer, shown as earlier turns. `enable_thinking` goes to
    the chat template where that knows it (Qwen3); the template is checked to make use of it.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    instruction: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    enable_thinking: bool | None = None
    max_tokens: int = 64

    def messages(self, question: str) -> list[dict[str, str]]:
        """The turns up to where the model answers."""
        turns = [{"role": "system", "content": self.instruction}] if self.instruction else []
        for asked, said in self.examples:
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        return [*turns, {"role": "user", "content": question}]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedTraining:
    """Everything that decides a run; `model` is a folder of transformers' form, or smollm2.

    `problems` is JSONL with prompt, answer and optionally task and difficulty. `prices` are further
    token prices at which the gate is fitted and compared, for the curve.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    model: str
    problems: str
    short: PromptedMode
    think: PromptedMode
    answer_format: str = "number"
    token_price: float = 0.003
    prices: tuple[float, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.short == self.think:
            raise ConfigError("[short] and [think] ask in the same way: there is nothing to choose")
        if min(self.batch, self.short.max_tokens, self.think.max_tokens) < 1 or self.seed < 0:
            raise ConfigError("batch and max_tokens must be 1 or more, seed 0 or more")
        for price in (self.token_price, *self.prices):
            if not 0 <= price < 1:
                raise ConfigError(
                    f"a token price lies from 0 to below 1 (a right answer is worth 1), got {price}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedResult:
    """Everything that is printed and written; `at_prices` is in the order of the prices."""

    parameters: int
    penalty: float  # of the gate fitted on all questions
    comparison: Comparison
    at_prices: tuple[Comparison, ...]


def train_prompted(
    config: PromptedTraining, out: Path, *, device: str = "cpu", tell: Tell = lambda _: None
) -> PromptedResult:
    """Run all of it into `out`; an interrupted run goes on after the last batch of questions.

    In a folder that holds a result, prices alone may differ: the answers are taken from it.
    """
    if (out / RESULT).exists():
        held = read_json(out / RESULT, what="result")["config"]
        changed = differences(_without_prices(held), _decides(config))
        if changed:
            raise ConfigError(
                f"{str(out)!r} holds answers to another config ({'; '.join(changed)}): choose "
                "another --out, or delete it"
            )
    problems = read_problems(Path(config.problems))
    asked, state_ND, parameters = _answers(config, problems, out, device=device, tell=tell)
    part = parts(len(asked), seed=config.seed)

    def at(price: float) -> Comparison:
        odds = cross_fitted(state_ND, gains(asked, price), part, seed=config.seed)
        return compare(asked, token_price=price, scores={"gate": odds}, seed=config.seed)

    gate = fit_gate(state_ND, gains(asked, config.token_price), seed=config.seed)
    result = PromptedResult(
        parameters=parameters, penalty=gate.penalty, comparison=at(config.token_price),
        at_prices=tuple(at(price) for price in config.prices),
    )  # fmt: skip
    write_json(out / GATE, _gate_values(gate))
    about = {"config": plain(config), "device": device, "versions": versions()}
    write_json(out / RESULT, {**about, **asdict(result)})
    return result


def _answers(
    config: PromptedTraining, problems: Sequence[Problem], out: Path, *, device: str, tell: Tell
) -> tuple[list[Asked], FloatArray, int]:
    """Both modes' answers and the states, from disk as far as they are there."""
    model: _Model | None = None  # loaded where something is left to ask
    parameters = 0
    rows: list[dict[str, Any]] = []
    for start in range(0, len(problems), config.batch):
        path = out / "work" / f"answers-{start:05d}.json"
        some = problems[start : start + config.batch]
        if path.exists():
            held = read_json(path, what="answers")
            if held["config"] != _decides(config):
                raise InputError(f"{str(path)!r} is of another config: choose another --out")
            rows += held["rows"]
            parameters = held["parameters"]
            continue
        model = model or _Model(config, device)
        parameters = model.parameters
        found = model.answers(some, start)
        about = {"config": _decides(config), "parameters": parameters}
        write_json(path, {**about, "rows": found})
        rows += found
        tell({
            "phase": "answers", "questions": len(rows), "of": len(problems),
            "right at once": float(np.mean([r["short"]["right"] for r in rows])),
            "right after thinking": float(np.mean([r["think"]["right"] for r in rows])),
        })  # fmt: skip
    kept = [{k: v for k, v in row.items() if k != "state"} for row in rows]
    write_text(out / ANSWERS, "".join(json.dumps(row) + "\n" for row in kept))
    state_ND = np.array([row["state"] for row in rows], dtype=float)
    asked = [_asked(problem, row) for problem, row in zip(problems, rows, strict=True)]
    return asked, state_ND, parameters


def _decides(config: PromptedTraining) -> dict[str, Any]:
    """What the answers hang on: prices may change without asking again."""
    return _without_prices(plain(config))


def _without_prices(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in ("token_price", "prices")}


def _asked(problem: Problem, row: dict[str, Any]) -> Asked:
    one, two = row["drafts"]
    return Asked(
        cell=(problem.task, problem.difficulty), prompt=problem.prompt,
        short_right=float(row["short"]["right"]), short_tokens=row["short"]["tokens"],
        think_right=float(row["think"]["right"]), think_tokens=row["think"]["tokens"],
        short_surprise=row["surprise"],
        drafts=Drafts(
            agree=one["answer"] is not None and one["answer"] == two["answer"],
            right=float(one["right"]), tokens=one["tokens"] + two["tokens"],
        ),
    )  # fmt: skip


class _Model:
    """The pretrained model, asked in both ways."""

    def __init__(self, config: PromptedTraining, device: str) -> None:
        import torch  # noqa: PLC0415 - an extra
        import transformers  # noqa: PLC0415

        from suffice.backends.embedded import prepare  # noqa: PLC0415

        transformers.utils.logging.disable_progress_bar()
        folder = prepare(lambda _: None) if config.model == EMBEDDED else Path(config.model)
        if not (folder / "config.json").is_file():
            raise InputError(f"{str(folder)!r} is no model folder: it has no config.json")
        self.config = config
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, config.dtype)
        )
        self.model = loaded.to(device).eval().requires_grad_(False)
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        known = {*listed, self.tokenizer.eos_token_id} - {None}
        if not known:
            raise InputError(f"{str(folder)!r} names no token that ends a response")
        self.ends = frozenset(known)
        self._check_switch()

    def answers(self, problems: Sequence[Problem], start: int) -> list[dict[str, Any]]:
        """Of each problem: short, think, drafts, the short answer's surprise, the state."""
        short = self._continue(problems, self.config.short, 0.0, start)
        think = self._continue(problems, self.config.think, 0.0, start)
        drafts = self._continue(
            [p for p in problems for _ in range(2)], self.config.short, 1.0, start
        )
        drawn = self._judged([p for p in problems for _ in range(2)], drafts)
        return [
            {
                "prompt": problem.prompt, "short": a, "think": b,
                "drafts": drawn[2 * n : 2 * n + 2], "surprise": round(short.surprise[n], 4),
                "state": [round(float(v), 4) for v in short.state_BD[n]],
            }
            for n, (problem, a, b) in enumerate(
                zip(problems, self._judged(problems, short), self._judged(problems, think),
                    strict=True)
            )
        ]  # fmt: skip

    def _continue(
        self, problems: Sequence[Problem], mode: PromptedMode, temperature: float, start: int
    ) -> Any:
        from suffice.training.modes.prompted import continue_prompts  # noqa: PLC0415 - torch
        from suffice.training.run_state import seeded  # noqa: PLC0415

        return continue_prompts(
            self.model, [self._ids(mode, p.prompt) for p in problems], ends=self.ends,
            max_tokens=mode.max_tokens, temperature=temperature,
            generator=seeded(self.config.seed, "drafts", start),
        )  # fmt: skip

    def _judged(self, problems: Sequence[Problem], found: Any) -> list[dict[str, Any]]:
        judged = []
        for problem, ids, ended, tokens in zip(
            problems, found.ids, found.ended, found.tokens, strict=True
        ):
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            usage = Usage(prompt_tokens=0, completion_tokens=tokens)
            spoken = Completion(text=text, finish_reason="stop" if ended else "length", usage=usage)
            said = check_of(self.config.answer_format, problem.answer)(spoken)
            judged.append({
                "text": text, "answer": said.answer, "tokens": tokens,
                "right": bool(ended and said.correct),
            })  # fmt: skip
        return judged

    def _ids(self, mode: PromptedMode, question: str) -> list[int]:
        text = self._text(mode, question)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _text(self, mode: PromptedMode, question: str) -> str:
        switch = mode.enable_thinking
        variables = {} if switch is None else {"enable_thinking": switch}
        text: str = self.tokenizer.apply_chat_template(
            mode.messages(question), tokenize=False, add_generation_prompt=True, **variables
        )
        return text

    def _check_switch(self) -> None:
        for mode in (self.config.short, self.config.think):
            if mode.enable_thinking is None:
                continue
            other = PromptedMode(
                instruction=mode.instruction, examples=mode.examples,
                enable_thinking=not mode.enable_thinking,
            )  # fmt: skip
            if self._text(mode, "?") == self._text(other, "?"):
                raise ConfigError(
                    "enable_thinking changes nothing in this model's chat template: ask for the "
                    "modes by instruction and examples, and leave it out"
                )


def _gate_values(gate: FrozenGate) -> dict[str, Any]:
    return {
        "reads": "last layer's state at the end of the short prompt",
        "mean": gate.mean_D.tolist(), "spread": gate.spread_D.tolist(),
        "weight": gate.weight_D.tolist(), "bias": gate.bias, "penalty": gate.penalty,
    }  # fmt: skip
