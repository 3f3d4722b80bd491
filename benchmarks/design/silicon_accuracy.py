"""Accuracy of predicted TPOT, TTFT and throughput on measured serving points no constant saw.

python benchmarks/design/silicon_accuracy.py            print the tables (seconds)
python benchmarks/design/silicon_accuracy.py --fitted   only the rows that constants may see
python benchmarks/design/silicon_accuracy.py --pairs    fit the factors of measured pairs on the shipped
                                                 coefficients, and write them and the tables
python benchmarks/design/silicon_accuracy.py --write    first fit to the rows of side "fit", and write the
                                                 shipped coefficients and the tables of
                                                 docs/throughput.md (about a minute)

Which rows are on which side was fixed before the first fit: throughput/data/silicon/split.json.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from silicon import Point, full_loads, model_of, silicon_points
from silicon_fit import (
    ENGINE_PRIORS,
    ENGINES,
    GENERATIONS,
    OWN,
    FullTable,
    Pair,
    Rows,
    Table,
    fit,
    fit_pairs,
    pair_of,
    predict_full,
    predict_points,
    scaled,
    without_factors,
)

from suffice.architecture.catalog import load_model
from suffice.core.arrays import BoolArray
from suffice.core.files import read_json, write_json, write_text
from suffice.throughput.priors import DEVICE_PRIORS, Predicted, absolute_errors

ROOT = Path(__file__).parents[2]
UTILISATION = ROOT / "src/suffice/hardware/data/utilisation.json"
ENGINE_FILE = ROOT / "src/suffice/throughput/data/engines.json"
PAIR_FILE = ROOT / "src/suffice/throughput/data/measured_pairs.json"
DOCS = ROOT / "docs/throughput.md"
TABLES, CONSTANTS = "silicon table", "constants"
HEAD = (
    "| rows | n | TPOT | TTFT | full-load throughput | bias |",
    "|---|--:|--:|--:|--:|--:|",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write coefficients and docs table")
    parser.add_argument("--pairs", action="store_true", help="fit the factors of pairs alone")
    parser.add_argument("--fitted", action="store_true", help="only rows that constants may see")
    options = parser.parse_args()
    points = silicon_points()
    runs = full_loads()
    if options.fitted:
        points = tuple(p for p in points if p.usable and p.side == "fit")
        runs = tuple(run for run in runs if run.side == "fit")
    coefficients, pairs = None, None
    if options.write or options.pairs:
        coefficients, pairs = fit_all(afresh=options.write)
        write_pairs(pairs)
    table, full = Table.of(points), FullTable.of(runs)
    if pairs is not None:
        table, full = with_pairs(table, pairs), with_pairs(full, pairs)
    found = predict_points(table, coefficients)
    plain = predict_points(without_factors(table), coefficients)
    text = "\n".join(report(table, found, plain))
    text += "\n\n" + "\n".join(offline(full, coefficients))
    print(text)
    if (options.write or options.pairs) and not options.fitted:
        replace_block(DOCS, TABLES, text)
        replace_block(DOCS, CONSTANTS, "\n".join(constants()))


def fit_all(*, afresh: bool) -> tuple[dict[str, float] | None, Pairs]:
    """Coefficients (the shipped ones, unless `afresh`) and factors of pairs, to three digits.

    From the rows of the side "fit" alone.
    """
    points = [p for p in silicon_points() if p.usable and p.side == "fit"]
    runs = [run for run in full_loads() if run.side == "fit"]
    table, full = Table.of(points), FullTable.of(runs)
    coefficients = None
    if afresh:
        coefficients = {name: rounded(value) for name, value in fit(table, full).items()}
        write_coefficients(coefficients, len(points), len(runs))
    found = fit_pairs(table, full, coefficients)
    pairs = {pair: (rounded(d), rounded(p), rounded(w)) for pair, (d, p, w) in found.items()}
    return coefficients, pairs


Pairs = Mapping[Pair, tuple[float, float, float]]


def with_pairs(table: Rows, pairs: Pairs) -> Rows:
    """The same rows, each with the factors of its model, machine and engine."""
    items = table.points if isinstance(table, Table) else table.runs
    return scaled(table, np.array([pairs.get(pair_of(item), (1.0, 1.0, 1.0)) for item in items]))


def write_pairs(pairs: Pairs) -> None:
    """Write the factors to the file that ships with the package."""
    records = []
    for (name, hardware, engine), (decode, prefill, wait) in sorted(pairs.items()):
        model = load_model(name)
        records.append(
            {
                "model": name, "layers": model.layers, "hidden_size": model.hidden_size,
                "vocab_size": model.vocab_size, "hardware": hardware, "engine": engine,
                "decode": decode, "prefill": prefill, "wait": wait,
            }
        )  # fmt: skip
    source = "fitted to the rows of the side fit of data/silicon (docs/throughput.md)"
    write_json(PAIR_FILE, {"source": source, "pairs": records})


def report(table: Table, found: Predicted, plain: Predicted) -> Iterator[str]:
    """Lines of the Markdown tables."""
    sums = Sums(table, found)
    usable = mask(table, lambda p: p.usable)
    sides = {side: usable & mask(table, lambda p, s=side: p.side == s) for side in
             ("fit", "test", "unseen")}  # fmt: skip
    unfitted = sides["test"] | sides["unseen"]
    yield from HEAD
    yield sums.line("fitted to", sides["fit"])
    yield sums.line("**not fitted to**", unfitted)
    released = unfitted & mask(table, lambda p: p.released)
    yield sums.line("of these: released engines", released)
    yield sums.line("of these: other sweeps of the same pairs", sides["test"])
    yield sums.line("of these: unseen models and pairs", sides["unseen"])
    yield Sums(table, plain).line("not fitted to, by the formulas alone", unfitted)
    yield sums.line("not fitted to, rows that do not say enough", ~usable & ~sides["fit"])
    yield ""
    yield "Rows that no constant was fitted to, by device, by kind of model, by engine:"
    yield ""
    yield from HEAD
    for name in sorted({p.hardware for p in table.points}):
        yield sums.line(name, unfitted & mask(table, lambda p, n=name: p.hardware == n))
    for name in ("dense", "experts", "experts, latent attention", "experts, linear attention"):
        yield sums.line(name, unfitted & mask(table, lambda p, n=name: kind_of(p) == n))
    for engine in ENGINES:
        yield sums.line(engine, unfitted & mask(table, lambda p, n=engine: p.engine == n))
    yield ""
    yield "And by model, device and engine:"
    yield ""
    yield from HEAD
    for group in sorted({group_of(p) for p in table.points}):
        rows = unfitted & mask(table, lambda p, g=group: group_of(p) == g)
        if rows.any():
            yield sums.line(group, rows)
    yield ""
    asked = unfitted & mask(table, lambda p: p.aiconfigurator_tpot_s is not None)
    yield f"| the {asked.sum()} of these rows that aiconfigurator was asked about | TPOT | TTFT |"
    yield "|---|--:|--:|"
    yield f"| suffice | {sums.latencies(asked)} |"
    yield f"| aiconfigurator 0.12.0 | {Sums(table, theirs(table)).latencies(asked)} |"
    yield ""
    yield (
        "TPOT, TTFT: mean / median absolute error in %. Full load: the row of the highest "
        "concurrency of each sweep, its number in brackets; mean absolute error, and geometric "
        "mean of predicted over measured."
    )


def offline(table: FullTable, coefficients: Mapping[str, float] | None) -> Iterator[str]:
    """Lines of the table of published offline runs."""
    ratio = predict_full(table, coefficients) / table.output_tokens_per_s
    groups: dict[str, list[float]] = defaultdict(list)
    for run, found in zip(table.runs, ratio.tolist(), strict=True):
        groups[f"1 {run.side}"].append(found)
        if run.side != "fit":
            groups["2 **not fitted to**"].append(found)
            name = run.model.rsplit("/", 1)[1]
            gpus = run.tensor_parallel * run.attention_data_parallel
            kind = f"tp{gpus}" if run.attention_data_parallel == 1 else f"dp{gpus} ep"
            groups[f"3 {name}, {run.hardware}, {kind}, {run.weight_dtype}"].append(found)
    yield "| published offline runs at full load | n | throughput | bias |"
    yield "|---|--:|--:|--:|"
    for label, values in sorted(groups.items()):
        error = 100 * np.abs(np.array(values) - 1).mean()
        bias = 100 * (math.exp(np.mean(np.log(values))) - 1)
        yield f"| {label[2:]} | {len(values)} | {error:.1f} | {bias:+.1f} |"


def kind_of(point: Point) -> str:
    """What its model is made of."""
    if point.dense:
        return "dense"
    kinds = {m.kind for run in model_of(point).runs for m in run.block.mixers}
    if any("latent" in kind or "sparse" in kind for kind in kinds):
        return "experts, latent attention"
    if any(m.state for run in model_of(point).runs for m in run.block.mixers):
        return "experts, linear attention"
    return "experts"


def group_of(point: Point) -> str:
    """Its model, machine and engine."""
    return f"{point.model.rsplit('/', 1)[1]}, {point.hardware}, {point.engine}"


def mask(table: Table, wanted: Callable[[Point], bool]) -> BoolArray:
    """Which points are wanted."""
    return np.array([wanted(point) for point in table.points])


class Sums:
    """Errors of a set of predictions over groups of rows."""

    def __init__(self, table: Table, found: Predicted) -> None:
        self.table, self.found = table, found
        o = table.scenario.output_tokens
        e2e = table.ttft_s + table.tpot_s * (o - 1.0)
        measured = table.scenario.concurrency * o / e2e
        self.ratio = found.output_tokens_per_s / measured
        self.full = full_load(table.points)

    def line(self, label: str, rows: BoolArray) -> str:
        """One row of the table."""
        full = rows & self.full
        if not full.any():
            return f"| {label} | {rows.sum():,} | {self.latencies(rows)} | | |"
        ratio = self.ratio[full]
        bias = 100 * (math.exp(np.mean(np.log(ratio))) - 1)
        return (
            f"| {label} | {rows.sum():,} | {self.latencies(rows)} | "
            f"{100 * np.abs(ratio - 1).mean():.1f} ({full.sum()}) | {bias:+.1f} |"
        )

    def latencies(self, rows: BoolArray) -> str:
        """Errors of TPOT and TTFT; a start's time to first token is in no sum."""
        steady = rows & self.table.steady
        tpot = 100 * absolute_errors(self.found.tpot_s[rows], self.table.tpot_s[rows])
        ttft = 100 * absolute_errors(self.found.ttft_s[steady], self.table.ttft_s[steady])
        if not steady.any():
            return f"{tpot.mean():.1f} / {np.median(tpot):.1f} | "
        return (
            f"{tpot.mean():.1f} / {np.median(tpot):.1f} | {ttft.mean():.1f} / {np.median(ttft):.1f}"
        )


def full_load(points: Sequence[Point]) -> BoolArray:
    """The row of the highest concurrency of every sweep of two rows or more."""
    sweeps: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, point in enumerate(points):
        sweeps[point.model, point.hardware, *point.sweep].append(i)
    full = np.zeros(len(points), dtype=bool)
    for members in sweeps.values():
        if len(members) > 1:
            full[max(members, key=lambda i: points[i].concurrency)] = True
    return full


def theirs(table: Table) -> Predicted:
    """aiconfigurator's own predictions; NaN where it was not asked."""
    pairs = [(p.aiconfigurator_ttft_s, p.aiconfigurator_tpot_s) for p in table.points]
    values = np.array([[math.nan if v is None else v for v in pair] for pair in pairs])
    return Predicted(values[:, 0], values[:, 1], values[:, 0])


def write_coefficients(coefficients: dict[str, float], rows: int, runs: int) -> None:
    """Write the coefficients to the files that ship with the package, to three digits."""
    source = (
        f"fitted to {rows:,} measured serving points and {runs} offline runs on H100, H200, "
        "B200, B300 (docs/throughput.md)"
    )
    utilisation = read_json(UTILISATION, what="utilisation")
    own = {g: {name: rounded(coefficients[f"{g}.{name}"]) for name in OWN} for g in GENERATIONS}
    utilisation["gpu"] = {
        name: mean([coefficients[f"{g}.{name}"] for g in GENERATIONS])
        if name in OWN
        else rounded(coefficients[name])
        for name in DEVICE_PRIORS
    }
    utilisation["gpu"]["source"] = source
    for generation, values in own.items():
        utilisation[f"gpu-{generation}"] = values
    write_json(UTILISATION, utilisation)
    engines = {}
    for engine in ("generic", *ENGINES):
        members = ENGINES if engine == "generic" else (engine,)
        early = engine in ("vllm", "sglang")
        engines[engine] = {
            **{
                name: mean([coefficients.get(f"{m}.{name}", 0.0) for m in members])
                for name in ENGINE_PRIORS
            },
            "planned_output": 0.5 if early else 1.0,
            "admitted_output": 0.0 if early else 1.0,
            "source": "geometric mean of the fitted engines" if len(members) > 1 else source,
        }
    write_json(ENGINE_FILE, engines)


def mean(values: Sequence[float]) -> float:
    """Geometric mean, to three digits; 0 where some have none of it."""
    if min(values) <= 0.0:
        return 0.0
    return rounded(math.exp(np.mean(np.log(values))))


def rounded(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")


MEANINGS = {
    "gemm": "share of the 16-bit peak that products reach",
    "gemm_8bit": "the same of the 8-bit peak, a scale per row or tensor",
    "gemm_8bit_block": "the same, a scale per block of 128",
    "gemm_4bit": "the same of the 4-bit peak",
    "weight_bandwidth": "share of memory bandwidth while weights stream",
    "expert_bandwidth": "the same for routed experts",
    "kv_bandwidth": "the same for the cache",
    "attention": "share of the 16-bit peak that attention scores reach",
    "interconnect": "share of the link's bandwidth in an all-reduce",
    "exchange": "the same where attention replicas gather and scatter tokens",
    "overlap": "part of the shorter of moving and computing that is not hidden",
    "ramp_tokens": "rows that a pass computes beyond its own",
    "expert_spread": "tokens choosing at random that touch as many experts as one",
    "layer_s": "per layer and pass",
    "expert_layer_s": "more per layer with routed experts",
    "recurrent_layer_s": "more per layer with recurrent state",
    "latent_layer_s": "more per layer with latent attention",
    "block_layer_s": "more per layer whose activations are scaled by blocks",
    "expert_gemm": "share of `gemm` that products of routed experts reach",
    "layer_token_s": "per layer and token",
    "all_reduce_s": "per all-reduce",
    "step_s": "host time per pass",
    "launch": "factor on the costs per layer",
    "eager_layer_s": "least host time per layer of a prompt's pass",
    "eager_expert_s": "more with routed experts",
    "eager_latent_s": "more with latent attention",
    "eager_recurrent_s": "more with recurrent state",
    "mixed": "part of a pass that prompts and decoding share",
    "burst": "share of the others' prefill that is waited for",
    "crowd": "weight of prompts that come just before",
    "eager_share": "of a lone prompt's host time, what every prompt takes up under load",
    "balance_steps": "steps that a prompt waits for those of other attention replicas",
    "lockstep": "prompts that stay together where requests are all of one length",
    "first_s": "per request that finds others running",
    "arrival_s": "per request and each of the others",
}


def constants() -> Iterator[str]:
    """Lines of the tables of all coefficients, as the shipped files have them."""
    utilisation = read_json(UTILISATION, what="utilisation")
    gpu = utilisation["gpu"]
    yield "| device | | Hopper | Blackwell | other GPUs | prior (deviation of its log) |"
    yield "|---|---|--:|--:|--:|--:|"
    for name, prior in DEVICE_PRIORS.items():
        own = [utilisation[f"gpu-{g}"].get(name, gpu[name]) for g in GENERATIONS]
        values = " | ".join(spelled(name, v) for v in (*own, gpu[name]))
        given = f"{spelled(name, prior.value)} ({prior.deviation:g})"
        yield f"| `{name}` | {MEANINGS[name]} | {values} | {given} |"
    engines = read_json(ENGINE_FILE, what="engines")
    order = (*ENGINES, "generic")
    yield ""
    yield f"| engine | | {' | '.join(order)} | prior (deviation of its log) |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for name, prior in ENGINE_PRIORS.items():
        values = " | ".join(spelled(name, engines[engine][name]) for engine in order)
        given = f"{spelled(name, prior.value)} ({prior.deviation:g})"
        yield f"| `{name}` | {MEANINGS[name]} | {values} | {given} |"
    yield ""
    yield "| measured model, machine, engine | decode step | prompt | wait |"
    yield "|---|--:|--:|--:|"
    for pair in read_json(PAIR_FILE, what="measured pairs")["pairs"]:
        name = pair["model"].rsplit("/", 1)[1]
        factors = " | ".join(f"{pair[k]:.3g}" for k in ("decode", "prefill", "wait"))
        yield f"| {name}, {pair['hardware']}, {pair['engine']} | {factors} |"
    yield ""
    yield f"Source: {gpu['source'].replace(' (docs/throughput.md)', '')}."


def spelled(name: str, value: float) -> str:
    """A coefficient with its unit."""
    if not name.endswith("_s"):
        return f"{value:.3g}"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def replace_block(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    write_text(path, f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
