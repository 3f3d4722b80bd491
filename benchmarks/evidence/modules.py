"""Helpers of a frozen small model behind one interface: what each costs, and what it brings.

    python benchmarks/evidence/modules.py --out modules.json

data/models/hidden-depth, frozen, on `restarts` and `zeros`. With no module it thinks about everything.
Modules are added one after another; each reads the prompt and proposes:

gate        the model's own log odds of thinking plus 2.8 (its card): a mode
retrieval   the longest beginning that one of 3,000 worked training puzzles shares: a begun thought
tool        a calculator, for what it can read: an answer
soft        two vectors, the mean of the prompt's embeddings, before the model's turn (as constants of
            soft thoughts; nothing was trained for them)

Orchestration:

calls       every module and the model behind HTTP on loopback (standard library, one connection kept
            open), one call after another; the prompt is computed anew in each
process     the same functions called in one process; the prompt is computed anew in each
fork        one process, and the gate's prompt cache is taken over by the answer

Costs are CPU time of the process, client and server together: one thing happens at a time, so on a quiet
machine it is the latency without a network's. Orchestration is what is neither module nor model. `m_star`
is the least number of modules at which it passes 30 % of the whole. For larger models the same overhead
is set against a decode step's time (computed, not measured).
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Before numpy is imported: threads that wait for a busy core would count as cost.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

from suffice.backends.nano.runtime import NanoModel, SequenceCache  # noqa: E402
from suffice.backends.nano.vocabulary import END, PAD, SHORT, THINK  # noqa: E402
from suffice.core.files import write_json  # noqa: E402
from suffice.evals.statistics.paired import Pairs, drop_upper_bound  # noqa: E402
from suffice.tasks.puzzles import Mixture, Problem  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns  # noqa: E402

KINDS = ("restarts", "zeros")
NAMES = ("gate", "retrieval", "tool", "soft")
PER_CELL, SEEDS, STORE, BIAS, SOFT, MOST = 12, (0, 1, 2), 3000, 2.8, 2, 32
SHARE, MAX_DROP = 0.3, 0.02
_SUM = re.compile(r"\d(?:[+*-]\d)+")


@dataclass(slots=True)
class Spent:
    """CPU seconds of modules and of the model, prompt tokens computed again, calls."""

    module_s: float = 0.0
    model_s: float = 0.0
    again: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a module proposes; the fields that it does not know stay empty."""

    mode: str | None = None
    begun: str = ""
    answer: str | None = None
    soft: int = 0


@dataclass(slots=True)
class Backbone:
    """The frozen model with the store of worked steps."""

    model: NanoModel
    store: dict[str, str]
    kept: tuple[str, SequenceCache, Any] | None = field(default=None)

    def prompt(self, text: str) -> tuple[SequenceCache, Any]:
        cache = self.model.start()
        return cache, self.model.advance(self.model.vocabulary.prompt(text), cache)

    def gate(self, text: str) -> Proposal:
        words = self.model.vocabulary
        cache, logits = self.prompt(text)
        self.kept = text, cache, logits
        odds = float(logits[words.id(THINK)] - logits[words.id(SHORT)])
        return Proposal(mode=THINK if odds + BIAS > 0 else SHORT)

    def retrieval(self, text: str) -> Proposal:
        for stop in range(len(text) - 1, 1, -1):
            if text[:stop] in self.store:
                return Proposal(begun=self.store[text[:stop]])
        return Proposal()

    def tool(self, text: str) -> Proposal:
        if not _SUM.fullmatch(text):
            return Proposal()
        state = int(text[0])
        for at in range(1, len(text), 2):
            value = int(text[at + 1])
            state = {"+": state + value, "-": state - value, "*": state * value}[text[at]] % 10
        return Proposal(answer=str(state))

    def soft(self, text: str) -> Proposal:
        return Proposal(soft=SOFT)

    def answer(
        self, text: str, proposal: Proposal, *, gated: bool, fork: bool
    ) -> tuple[str, int, int]:
        """(response, generated tokens, prompt tokens computed again).

        `gated`: the gate has computed this prompt before; with `fork` its cache is gone on with.
        """
        words = self.model.vocabulary
        mode = proposal.mode or THINK
        again = 0
        if fork and gated and self.kept is not None and not proposal.soft:
            cache = self.kept[1]
        else:
            ids = words.prompt(text)
            again = len(ids) if gated else 0
            cache = self.model.start()
            vectors = self.model.embed(ids)
            if proposal.soft:
                extra = np.repeat(vectors.mean(axis=0, keepdims=True), proposal.soft, axis=0)
                vectors = np.concatenate([vectors[:-1], extra, vectors[-1:]]).astype(np.float32)
            self.model.advance_vectors(vectors, cache)
        self.kept = None
        begun = proposal.begun if mode == THINK else ""
        step = [words.id(mode), *words.encode(begun)]
        drawn: list[int] = []
        while len(drawn) < MOST:
            logits = self.model.advance(step, cache)
            logits[words.id(PAD)] = -np.inf
            token = int(logits.argmax())
            drawn.append(token)
            if token == words.id(END):
                break
            step = [token]
        ended = drawn[-1] == words.id(END)
        said = words.decode(drawn[:-1] if ended else drawn)
        return mode + begun + said + (END if ended else ""), len(drawn), again


def combined(proposals: Sequence[Proposal]) -> Proposal:
    """What all modules together propose: a later one decides where both know something."""
    found = Proposal()
    for each in proposals:
        found = Proposal(
            mode=each.mode or found.mode, begun=each.begun or found.begun,
            answer=each.answer if each.answer is not None else found.answer,
            soft=each.soft or found.soft,
        )  # fmt: skip
    return found


Call = Callable[[str, dict[str, Any]], dict[str, Any]]


def handle(backbone: Backbone, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """One module's or the model's work, with the CPU seconds that it took."""
    began = time.thread_time()
    if name == "answer":
        proposal = Proposal(**body["proposal"])
        text, tokens, again = backbone.answer(
            body["prompt"], proposal, gated=body["gated"], fork=body["fork"]
        )
        told: dict[str, Any] = {"text": text, "tokens": tokens, "again": again}
    else:
        one: Proposal = getattr(backbone, name)(body["prompt"])
        told = {"mode": one.mode, "begun": one.begun, "answer": one.answer, "soft": one.soft}
    return {**told, "spent_s": time.thread_time() - began}


class Server:
    """The same work behind HTTP."""

    def __init__(self, backbone: Backbone) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told = json.dumps(handle(backbone, self.path[1:], body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._line = http.client.HTTPConnection("127.0.0.1", self._server.server_port)

    def __call__(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self._line.request("POST", f"/{name}", json.dumps(body))
        return json.loads(self._line.getresponse().read())  # type: ignore[no-any-return]

    def close(self) -> None:
        self._line.close()
        self._server.shutdown()
        self._server.server_close()


def ask(call: Call, problem: Problem, modules: Sequence[str], *, fork: bool) -> Any:
    """(right, generated tokens, whole CPU seconds, what it was spent on) of one puzzle."""
    spent = Spent()
    began = time.process_time()
    proposals = []
    for name in modules:
        told = call(name, {"prompt": problem.prompt})
        spent.module_s += told.pop("spent_s")
        spent.calls += 1
        proposals.append(Proposal(**told))
        if proposals[-1].answer is not None:
            break  # what the tool can read needs no model
    wanted = combined(proposals)
    if wanted.answer is not None:
        whole = time.process_time() - began
        return float(wanted.answer == problem.answer), 0, whole, spent
    told = call("answer", {
        "prompt": problem.prompt, "fork": fork, "gated": "gate" in modules,
        "proposal": {"mode": wanted.mode, "begun": wanted.begun, "soft": wanted.soft},
    })  # fmt: skip
    spent.model_s, spent.again = told["spent_s"], told["again"]
    spent.calls += 1
    whole = time.process_time() - began
    text = told["text"]
    mode = THINK if text.startswith(THINK) else SHORT
    ended = text.endswith(END)
    said = text.removeprefix(mode).removesuffix(END)
    right = problem.is_right(said, think=mode == THINK, ended=ended)
    return float(right), told["tokens"], whole, spent


def store_of(seed: int) -> dict[str, str]:
    """Beginnings of worked training puzzles, with the steps that they share."""
    found: dict[str, str] = {}
    for kind, read, written in (("restarts", 1, 2), ("zeros", 2, 3)):
        mixture = Mixture(tasks=(kind,), difficulties=(1, 2, 3))
        for problem in mixture.draw(STORE, seed=seed, step=0, split="train"):
            for steps in range(1, 5):
                found[problem.prompt[: 1 + read * steps]] = (problem.steps or "")[: written * steps]
    return found


def one_seed(folder: Path, seed: int) -> dict[str, Any]:
    """All orchestrations and numbers of modules on one draw of puzzles and store."""
    backbone = Backbone(model=NanoModel(folder), store=store_of(seed))
    cells = Mixture(tasks=KINDS, difficulties=(1, 2, 3)).distinct(
        PER_CELL, seed=seed, split="held_out"
    )
    problems = [p for cell in cells.values() for p in cell]

    def here(name: str, body: dict[str, Any]) -> dict[str, Any]:
        return handle(backbone, name, body)

    server = Server(backbone)
    ways: tuple[tuple[str, Call, bool], ...] = (
        ("calls", server, False), ("process", here, False), ("fork", here, True),
    )  # fmt: skip
    rows: dict[str, list[list[Any]]] = {name: [[] for _ in range(5)] for name, *_ in ways}
    for _, call, fork in ways:  # connections and caches are warm before anything counts
        ask(call, problems[0], NAMES[:3], fork=fork)
    for problem in problems:  # all settings by turns: the machine is the same for all
        for name, call, fork in ways:
            for m in range(5):
                rows[name][m].append(ask(call, problem, NAMES[:m], fork=fork))
    server.close()
    found: dict[str, Any] = {"seed": seed, "puzzles": len(problems), "ways": {}}
    for name, *_ in ways:
        found["ways"][name] = [shown(each, rows[name][0]) for each in rows[name]]
        over = [m for m, each in enumerate(found["ways"][name])
                if each["orchestration_share"]["estimate"] > SHARE]  # fmt: skip
        found["ways"][name + " m_star"] = over[0] if over else None
    found["call_s"] = call_cost(rows["calls"], rows["process"])
    found["benefit"] = benefit(rows["process"])
    return found


def columns(rows: Sequence[Any]) -> dict[str, np.ndarray]:
    whole = np.array([r[2] for r in rows])
    module, model = (np.array([getattr(r[3], n) for r in rows]) for n in ("module_s", "model_s"))
    return {
        "right": np.array([r[0] for r in rows]), "tokens": np.array([float(r[1]) for r in rows]),
        "whole": whole, "module": module, "model": model, "rest": whole - module - model,
        "again": np.array([float(r[3].again) for r in rows]),
        "calls": np.array([float(r[3].calls) for r in rows]),
    }  # fmt: skip


def shown(rows: Sequence[Any], alone: Sequence[Any]) -> dict[str, Any]:
    """Means over puzzles, and the cost of a right answer against that without modules."""
    c, base = columns(rows), columns(alone)
    return {
        "right": mean(c["right"]), "generated": mean(c["tokens"]), "computed_again": mean(c["again"]),
        "ms": mean(1e3 * c["whole"]), "module_ms": mean(1e3 * c["module"]),
        "model_ms": mean(1e3 * c["model"]), "orchestration_ms": mean(1e3 * c["rest"]),
        "orchestration_share": of_columns(lambda m: m[0] / m[1], c["rest"], c["whole"]),
        "times_cheaper": of_columns(
            lambda m: (m[0] / m[1]) / (m[2] / m[3]), base["whole"], base["right"], c["whole"],
            c["right"],
        ),
    }  # fmt: skip


def call_cost(calls: Sequence[Sequence[Any]], process: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Orchestration seconds of one more call, least squares over all puzzles, and per token again."""
    sides = {}
    for name, rows in (("http", calls), ("process", process)):
        c = [columns(each) for each in rows]
        count = np.concatenate([each["calls"] for each in c])
        rest = np.concatenate([each["rest"] for each in c])
        slope = ((count - count.mean()) * (rest - rest.mean())).sum() / (
            (count - count.mean()) ** 2
        ).sum()
        sides[name] = round(float(slope), 8)
    model = np.concatenate([columns(each)["model"] for each in process])
    tokens = np.concatenate([columns(each)["tokens"] for each in process])
    step_s = float(model.sum() / tokens.sum())
    # With a step of s seconds and an answer of T tokens, m calls are m c / (m c + T s) of the whole.
    answer = float(tokens[tokens > 0].mean())
    star = {
        f"{ms:g} ms": round(SHARE / (1 - SHARE) * answer * ms / 1e3 / sides["http"], 2)
        for ms in (round(1e3 * step_s, 3), 5.0, 20.0)
    }
    return {**sides, "decode_step_s": round(step_s, 8), "tokens": answer, "m_star_at_step": star}


def benefit(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Each module's own part: accuracy and tokens against one module less, bounds that hold together."""
    c = [columns(each) for each in rows]
    found = []
    for m in range(1, 5):
        pairs = Pairs.of(c[m - 1]["right"], c[m]["right"])
        bound = drop_upper_bound(pairs, 1 - 0.05 / 4)
        found.append({
            "module": NAMES[m - 1],
            "right_gained": mean(c[m]["right"] - c[m - 1]["right"]),
            "tokens_saved": of_columns(
                lambda v: 1 - v[0] / v[1], c[m]["tokens"], c[m - 1]["tokens"]
            ),
            "drop_at_most": round(bound, 6), "certified": bool(bound <= MAX_DROP),
        })  # fmt: skip
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--model", type=Path, default=Path("data/models/hidden-depth"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    write_json(given.out, {"seeds": [one_seed(given.model, seed) for seed in SEEDS]})


if __name__ == "__main__":
    main()
