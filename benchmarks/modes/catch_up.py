"""Can short answers, sampled again and again, catch up with one thought? (arXiv:2504.14047)

    python benchmarks/modes/catch_up.py --model nano --out results/modes [--short-only FOLDER]

For every held-out problem the distribution over short answers is read from the model (temperature
1), so that K samples cost no forward pass: K answers are drawn from it, and the most frequent one
(ties by lot) or, with a perfect verifier, any right one is taken. The thought answer is greedy.
Costs count what each way has to generate: tokens of the responses, and FLOPs (`matmul` convention)
with the prompt computed once. "At equal cost" is the largest K whose cost does not exceed the
thought's. Intervals are bootstraps over problems; NumPy alone, no torch.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffice.architecture.counts import decode_flops, prefill_flops
from suffice.architecture.hf_config import shape_from_config
from suffice.architecture.shape import Shape
from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.vocabulary import END, SHORT, THINK
from suffice.core.files import read_json, write_bytes, write_json
from suffice.report.style import AMBER, BLUE, GREEN, house_style, new_figure, to_png
from suffice.tasks.puzzles import Mixture, Problem

SAMPLES = (1, 4, 16, 64, 256)
DRAWS = 200  # of K answers each, per problem
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the model would answer to one problem."""

    answers: np.ndarray  # distribution over the token after <short>
    answer: int  # the right one
    ends: float  # p(end) after it
    think_right: bool
    think_tokens: int
    prompt_tokens: int


def read(model: NanoModel, problem: Problem) -> Read:
    """The short answers' distribution and the greedy thought of one problem."""
    words = model.vocabulary
    prompt, answer = words.prompt(problem.prompt), words.encode(problem.answer)[0]
    cache = model.start()
    model.advance(prompt, cache)
    short = cache.copy()
    shares_V = softmax(model.advance([words.id(SHORT)], short))
    ends = softmax(model.advance([answer], short))[words.id(END)]
    drawn = greedy(model, [words.id(THINK)], max_tokens=60, cache=cache)
    ended = drawn[-1] == words.id(END)
    right = ended and problem.is_right(words.decode(drawn[:-1]), think=True)
    return Read(
        answers=shares_V, answer=answer, ends=float(ends), think_right=right,
        think_tokens=1 + len(drawn), prompt_tokens=len(prompt),
    )  # fmt: skip


def softmax(logits_V: np.ndarray) -> np.ndarray:
    """Probabilities, in float64."""
    raised = np.exp(logits_V.astype(np.float64) - logits_V.max())
    return raised / raised.sum()


def vote_right(found: Read, samples: int, rng: np.random.Generator) -> float:
    """P(the most frequent of K short answers is right), ties by lot."""
    counts_DV = rng.multinomial(samples, found.answers, size=DRAWS)
    most_D = counts_DV.max(axis=1)
    tied_D = (counts_DV == most_D[:, None]).sum(axis=1)
    won_D = counts_DV[:, found.answer] == most_D
    return float((won_D / tied_D).mean()) * found.ends


def verifier_right(found: Read, samples: int) -> float:
    """P(at least one of K short answers is right)."""
    return float(1 - (1 - found.answers[found.answer] * found.ends) ** samples)


def response_flops(shape: Shape, prompt_tokens: int, response_tokens: int, samples: int) -> float:
    """FLOPs of K responses to one prompt. The last token of a response is never fed back."""
    fed = range(prompt_tokens, prompt_tokens + response_tokens - 1)
    one = sum(float(decode_flops(shape, at + 1, "matmul", lm_head=True)) for at in fed)
    return float(prefill_flops(shape, prompt_tokens, "matmul")) + samples * one


def interval(values: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Mean over problems with its 95 % bootstrap interval."""
    picks = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def cell(
    shape: Shape, thinks: list[Read], shorts: list[Read], rng: np.random.Generator
) -> dict[str, Any]:
    """One difficulty: thought and short answers, by samples and at the thought's cost."""
    prompt, tokens = thinks[0].prompt_tokens, float(np.mean([r.think_tokens for r in thinks]))
    think_flops = response_flops(shape, prompt, round(tokens), 1)
    once = response_flops(shape, prompt, 3, 1)
    more = response_flops(shape, prompt, 3, 2) - once
    equal = {
        "tokens": max(1, int(tokens // 3)),
        "flops": max(1, 1 + int((think_flops - once) // more)),
    }

    def short(samples: int) -> dict[str, Any]:
        return {
            "samples": samples,
            "tokens": 3 * samples,
            "flops": response_flops(shape, prompt, 3, samples),
            "vote": interval(np.array([vote_right(r, samples, rng) for r in shorts]), rng),
            "verifier": interval(np.array([verifier_right(r, samples) for r in shorts]), rng),
        }

    return {
        "problems": len(thinks),
        "think": {
            "right": interval(np.array([float(r.think_right) for r in thinks]), rng),
            "tokens": tokens,
            "flops": think_flops,
        },
        "short": [short(samples) for samples in SAMPLES],
        "at_equal_cost": {by: short(samples) for by, samples in equal.items()},
    }


def measure(folder: Path, short_only: Path, difficulties: tuple[int, ...]) -> dict[str, Any]:
    """All difficulties; `short_only` answers at once, `folder` thinks."""
    thinker, answerer = NanoModel(folder), NanoModel(short_only)
    shape = shape_from_config(read_json(folder / "config.json", what="model config"))
    rng = np.random.default_rng(0)
    problems = Mixture(difficulties=difficulties).distinct(200, seed=0, split="held_out")
    cells = {}
    for (_, difficulty), these in problems.items():
        thinks = [read(thinker, problem) for problem in these]
        shorts = thinks if short_only == folder else [read(answerer, p) for p in these]
        cells[str(difficulty)] = cell(shape, thinks, shorts, rng)
    return cells


def figure(cells: dict[str, Any]) -> bytes:
    """One panel a difficulty: accuracy against generated tokens."""
    with house_style():
        drawn = new_figure(11.5, 6.2)
        panels: Any = drawn.subplots(2, 3, sharex=True, sharey=True).flatten()
        for panel, (difficulty, found) in zip(panels, cells.items(), strict=False):
            tokens = [s["tokens"] for s in found["short"]]
            for name, colour in (("vote", AMBER), ("verifier", GREEN)):
                means = np.array([s[name]["mean"] for s in found["short"]])
                low = [s[name]["low"] for s in found["short"]]
                high = [s[name]["high"] for s in found["short"]]
                panel.plot(tokens, means, "o-", color=colour, label=f"short, {name}")
                panel.fill_between(tokens, low, high, color=colour, alpha=0.2, lw=0)
            think = found["think"]
            panel.plot([think["tokens"]], [think["right"]["mean"]], "*", ms=13, color=BLUE,
                       label="one thought")  # fmt: skip
            panel.axhline(think["right"]["mean"], color=BLUE, lw=0.8, ls=":")
            panel.set_xscale("log")
            panel.set_ylim(-0.04, 1.06)
            panel.set_title(f"{difficulty} step{'s' if difficulty != '1' else ''}")
        panels[0].legend(loc="lower right")
        for panel in panels[3:]:
            panel.set_xlabel("tokens generated")
        for panel in panels[::3]:
            panel.set_ylabel("right")
    return to_png(drawn)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--short-only", type=Path, help="answers at once; default: the same model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="catch-up")
    asked = parser.parse_args()
    cells = measure(asked.model, asked.short_only or asked.model, (1, 2, 3, 4, 5, 6))
    write_json(asked.out / f"{asked.name}.json", cells)
    write_bytes(asked.out / f"{asked.name}.png", figure(cells))
    for difficulty, found in cells.items():
        think = found["think"]
        by = {s["samples"]: s for s in found["short"]}
        print(
            f"{difficulty} steps · think {think['right']['mean']:.3f}, {think['tokens']:.0f} tokens"
            + "".join(
                f" · {name} " + " ".join(f"{k}: {s[name]['mean']:.3f}" for k, s in by.items())
                for name in ("vote", "verifier")
            )
            + "".join(
                f" · equal {cost} K={s['samples']}: {s['vote']['mean']:.3f}, "
                f"{s['verifier']['mean']:.3f}"
                for cost, s in found["at_equal_cost"].items()
            )
        )


if __name__ == "__main__":
    main()
