"""Questions for the trace set that ships with the project, and what the set says about confidence.

    $ python benchmarks/runtime/own_traces.py questions --out DIR       three JSONL datasets, by --seed
    $ suffice record --dataset DIR/sums.jsonl --completions …   see docs/traces.md
    $ python benchmarks/runtime/own_traces.py signals FILE              AUC and votes by confidence signal

The questions are generated here from nothing but random numbers and the templates below, each asked
after four worked examples whose answers go step by step.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.files import write_text
from suffice.evals.traces.files import read_traces, subset
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.confidence_signals import trace_signal
from suffice.policies.votes import weighted_tally

SHOTS = 4
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Mia", "Tom", "Ana", "Ben", "Lea", "Sam", "Eva", "Max", "Ida", "Leo")
THINGS = ("apples", "books", "coins", "pens", "cards", "eggs", "shells", "cups", "stamps", "nuts")

# (question, worked answer, right answer, category)
Generated = tuple[str, str, str, str]


def running_sum(rng: random.Random) -> Generated:
    """A sum of two to four digits, added one by one."""
    terms = [rng.randint(1, 9) for _ in range(rng.randint(2, 4))]
    total, steps = terms[0], []
    for term in terms[1:]:
        steps.append(f"{total} + {term} = {total + term}")
        total += term
    asked = " + ".join(map(str, terms))
    return asked, f"{', '.join(steps)}. The answer is {total}.", str(total), f"{len(terms)} terms"


def story(rng: random.Random) -> Generated:
    """Someone gets or gives away a few things, once or twice."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    has = start = rng.randint(3, 12)
    told, steps = [], []
    for _ in range(rng.randint(1, 2)):
        n = rng.randint(1, min(9, has))
        if rng.random() < 0.5 and has > n:
            verb, after, sign = "gives away", has - n, "-"
        else:
            verb, after, sign = rng.choice(("finds", "buys", "gets")), has + n, "+"
        told.append(f"{verb} {n}")
        steps.append(f"{has} {sign} {n} = {after}")
        has = after
    asked = f"{name} has {start} {thing} and {' and '.join(told)}. How many {thing}?"
    return asked, f"{', '.join(steps)}. The answer is {has}.", str(has), f"{len(steps)} steps"


def weekday(rng: random.Random) -> Generated:
    """The day of the week one to five days later or earlier, counted one by one."""
    name, at, away = rng.choice(NAMES), rng.randrange(7), rng.randint(1, 5)
    sign = rng.choice((1, -1))
    day = [DAYS[(at + sign * k) % 7] for k in range(away + 1)]
    comes, later = ("comes", "later") if sign > 0 else ("came", "earlier")
    days = f"{away} day{'s' * (away > 1)}"
    asked = f"It is {day[0]}. {name} {comes} {days} {later}. Which day?"
    return asked, f"{', '.join(day)}. The answer is {day[-1]}.", day[-1], f"{sign * away:+d} days"


TASKS: dict[str, tuple[Callable[[random.Random], Generated], str]] = {
    "sums": (running_sum, "number"),
    "stories": (story, "number"),
    "weekdays": (weekday, rf"regex:answer is ({'|'.join(DAYS)})"),
}


def write_questions(out: Path, count: int, seed: int) -> None:
    """Write `count` questions of each task, none asked twice, none among the examples."""
    for task, (generate, checker) in TASKS.items():
        rng = random.Random(f"{seed}/{task}")
        asked: dict[str, Generated] = {}
        while len(asked) < count + SHOTS:
            made = generate(rng)
            asked.setdefault(made[0], made)
        every = list(asked.values())
        shots = "".join(f"Q: {q}\nA: {worked}\n\n" for q, worked, _, _ in every[:SHOTS])
        rows = [
            {
                "id": f"{task}-{number}",
                "prompt": f"{shots}Q: {question}\nA:",
                "answer": answer,
                "checker": checker,
                "category": category,
            }
            for number, (question, _, answer, category) in enumerate(every[SHOTS:])
        ]
        write_text(out / f"{task}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One recorded sample, as the comparison needs it."""

    question: int
    right: bool
    answer: str | None
    confidences: FloatArray
    logprobs: FloatArray
    steps: tuple[int, ...]  # token index at which each step after the first begins


def samples_of(traces: TraceSet) -> list[Sample]:
    """Samples with confidences. A step ends with a token that holds a comma or a full stop."""
    found = []
    for row, trace in enumerate(traces):
        if not len(trace.confidences) or trace.correct is None:
            continue
        ends = [n + 1 for n, token in enumerate(trace.tokens) if "," in token or "." in token]
        found.append(
            Sample(
                question=int(traces.question[row]),
                right=trace.correct,
                answer=trace.answer,
                confidences=trace.confidences.astype(np.float64),
                logprobs=trace.logprobs.astype(np.float64),
                steps=tuple(n for n in ends if n < len(trace.confidences)),
            )
        )
    return found


def step_means(sample: Sample) -> list[float]:
    """Mean confidence of each step."""
    return [float(part.mean()) for part in np.split(sample.confidences, sample.steps) if part.size]


SIGNALS: dict[str, Callable[[Sample], float]] = {
    "global mean (the baseline)": lambda s: trace_signal(s.confidences, "mean"),
    "lowest group of 8": lambda s: trace_signal(s.confidences, "lowest", 8),
    "bottom 10 % of groups of 8": lambda s: trace_signal(s.confidences, "bottom", 8),
    "lowest group of 4": lambda s: trace_signal(s.confidences, "lowest", 4),
    "tail of 8": lambda s: trace_signal(s.confidences, "tail", 8),
    "weakest step": lambda s: min(step_means(s)),
    "last step but the answer": lambda s: ([0.0, *step_means(s)])[-2],
    "lowest token": lambda s: float(s.confidences.min()),
    "mean logprob of drawn tokens": lambda s: float(s.logprobs.mean()),
    "lowest logprob of a drawn token": lambda s: float(s.logprobs.min()),
    "fewer tokens": lambda s: -float(len(s.confidences)),
}


def pair_wins(samples: Sequence[Sample], values: FloatArray) -> FloatArray:
    """wins[p, q]: pairs (right sample of p, wrong sample of q) that the signal orders well."""
    questions = max(sample.question for sample in samples) + 1
    question = np.array([sample.question for sample in samples])
    right = np.array([sample.right for sample in samples])
    better = values[right][:, None] > values[~right][None, :]
    equal = values[right][:, None] == values[~right][None, :]
    score = better + 0.5 * equal
    wins = np.zeros((questions, questions))
    np.add.at(wins, (question[right][:, None], question[~right][None, :]), score)
    return wins


def aucs(wins: FloatArray, pairs: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(AUC over all pairs, AUC over pairs of one question), one per row of question weights."""
    pooled = np.einsum("dp,pq,dq->d", weights, wins, weights, optimize=True)
    pooled /= np.einsum("dp,pq,dq->d", weights, pairs, weights, optimize=True)
    within = (weights @ np.diag(wins)) / (weights @ np.diag(pairs))
    return pooled, within


def vote(samples: Sequence[Sample], values: FloatArray, keep: float, weighted: bool) -> bool | None:
    """Whether the vote of the top `keep` samples is right; None if nobody answered."""
    least = np.quantile(values, 1.0 - keep)
    weights = values - values.min() + 1e-9 if weighted else np.ones(len(values))
    tally = weighted_tally(
        (sample.answer, float(weight))
        for sample, value, weight in zip(samples, values, weights, strict=True)
        if value >= least
    )
    if not tally:
        return None
    return any(sample.right for sample in samples if sample.answer == tally[0][0])


def report(
    file: Path, draws: int, seed: int, *, dataset: str | None, model: str | None, samples: int
) -> str:
    """The comparison as Markdown tables, one per task and one over all; or one task's alone."""
    traces = read_traces(file)
    models = np.array([arm.model for arm in traces.arms])
    kept = traces.sample < samples
    if model is not None:
        kept &= models[traces.arm] == model
    traces = subset(traces, kept)
    parts = []
    for name in (*traces.datasets, None) if dataset is None else (dataset,):
        codes = [q.dataset == name or name is None for q in traces.questions]
        chosen = subset(traces, np.array(codes)[traces.question])
        parts.append(_table(name or "all three tasks", samples_of(chosen), draws, seed))
    return "\n".join(parts)


def _table(title: str, samples: list[Sample], draws: int, seed: int) -> str:
    questions = max(sample.question for sample in samples) + 1
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(questions, np.full(questions, 1 / questions), size=draws)
    weights = np.vstack([np.ones(questions), weights]).astype(np.float64)
    of_question: list[list[int]] = [[] for _ in range(questions)]
    for n, sample in enumerate(samples):
        of_question[sample.question].append(n)
    found = {}
    for name, signal in SIGNALS.items():
        values = np.array([signal(sample) for sample in samples])
        wins = pair_wins(samples, values)
        pairs = pair_wins(samples, np.zeros(len(samples))) * 2.0
        pooled, within = aucs(wins, pairs, weights)
        columns = [pooled, within]
        for keep, weighted in ((1.0, True), (0.5, False)):
            right = np.array(
                [
                    bool(vote([samples[n] for n in rows], values[rows], keep, weighted))
                    for rows in of_question
                ],
                dtype=np.float64,
            )
            columns.append((weights @ right) / weights.sum(axis=1))
        found[name] = columns
    base = next(iter(found.values()))
    plain = np.array(
        [
            bool(vote([samples[n] for n in rows], np.ones(len(rows)), 1.0, False))
            for rows in of_question
        ]
    )
    share = np.mean([sample.right for sample in samples])
    lines = [
        f"**{title}**: {questions} questions, {len(samples)} samples, {share:.1%} right; "
        f"plain vote {plain.mean():.1%}",
        "",
        "| signal | AUC, all pairs | against the mean | AUC, same question | against the mean "
        "| weighted vote, points | best half votes, points |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    plain_of = (weights @ plain.astype(np.float64)) / weights.sum(axis=1)
    for name, (pooled, within, weighted_vote, half) in found.items():
        cells = [_shown(pooled), _shown(pooled - base[0], signed=True)]
        cells += [_shown(within), _shown(within - base[1], signed=True)]
        cells += [
            _shown(100 * (each - plain_of), digits=1, signed=True) for each in (weighted_vote, half)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _shown(values: FloatArray, *, digits: int = 3, signed: bool = False) -> str:
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    sign = "+" if signed else ""
    return f"{values[0]:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    questions = verbs.add_parser("questions")
    questions.add_argument("--out", type=Path, required=True)
    questions.add_argument("--count", type=int, default=120)
    questions.add_argument("--seed", type=int, default=0)
    signals = verbs.add_parser("signals")
    signals.add_argument("file", type=Path)
    signals.add_argument("--draws", type=int, default=2000)
    signals.add_argument("--seed", type=int, default=0)
    signals.add_argument("--dataset", help="one task of the recording")
    signals.add_argument("--model", help="one model of the recording")
    signals.add_argument("--samples", type=int, default=16, help="the first of each question")
    arguments = parser.parse_args()
    if arguments.verb == "signals":
        named = {name: getattr(arguments, name) for name in ("dataset", "model", "samples")}
        print(report(arguments.file, arguments.draws, arguments.seed, **named))
        return
    write_questions(arguments.out, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
