"""Decode and prefill speed of the published shapes, their neighbours and given picks, on one GPU.

    PYTHONPATH=src python3 benchmarks/gpu/throughput.py --out results/h200.jsonl --budget-s 450
    PYTHONPATH=src python3 benchmarks/gpu/throughput.py --quick --out /tmp/quick.jsonl   # CPU, tiny

Stages in order of importance, each line of the result file written as it is taken; a stage that
would begin after the budget is left out and named. A second call with the same --out resumes.
Extra shapes: --picks FILE, a JSON list of {"name": ..., "config": {config.json}, "like": "1b" or
"3b"}; they are measured in turn with the published shapes of that size.

Stages: check (kernels against float32, programmatic launch, whole steps), 1b, 3b, full (all 1,023
steps run, against the ladder), calibration (neighbours of the 1B shapes), study (what each kernel
reaches). Choose some with --stages 1b,3b.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from suffice.architecture.catalog import load_shape
from suffice.architecture.hf_config import shape_from_config
from suffice.architecture.shape import Shape
from suffice.core.errors import SufficeError
from suffice.recipes.ablation.families import shapes_along
from suffice.throughput.engines import torch_model
from suffice.throughput.engines.protocol import Ceilings, Lengths
from suffice.throughput.engines.torch_engine import TorchEngine
from suffice.throughput.measure import (
    Measurement,
    MeasurePlan,
    begin_run,
    paired_ratios,
    summarise,
)
from suffice.throughput.records import ResultFile, read_samples, shape_config

PUBLISHED = {
    "1b": ("meta-llama/Llama-3.2-1B", "bian2025/surefire-1b", "bian2025/panda-1b"),
    "3b": (
        "meta-llama/Llama-3.2-3B",
        "bian2025/surefire-3b",
        "bian2025/panda-3b",
        "bian2025/panda-3b-circ",
    ),
}
OBSERVED_RATIO = {"bian2025/surefire-1b": 1.469, "bian2025/surefire-3b": 1.166}
# Neighbours of the 1B shapes: hidden size, MLP share and GQA each varied alone, KV heads 1 to 20.
CALIBRATION = (
    ("meta-llama/Llama-3.2-1B", "hidden_size", (16, 12, 6, 4)),
    ("meta-llama/Llama-3.2-1B", "mlp_ratio", (18, 16, 12, 6, 3)),
    ("meta-llama/Llama-3.2-1B", "gqa", (20, 5, 4, 2)),
    ("bian2025/surefire-1b", "hidden_size", (8, 3, 2)),
    ("bian2025/surefire-1b", "gqa", (10, 1)),
)
STAGES = ("check", "1b", "3b", "full", "calibration", "study")


class Programme:
    def __init__(self, options: argparse.Namespace) -> None:
        self.quick: bool = options.quick
        self.stop_at = time.monotonic() + options.budget_s
        self.began = time.monotonic()
        self.out = Path(options.out)
        self.kernels = options.kernels
        self.picks = [] if options.picks is None else json.loads(Path(options.picks).read_text())
        self.lengths = (
            Lengths(input_tokens=48, output_tokens=8)
            if self.quick
            else Lengths(input_tokens=4096, output_tokens=1024)
        )
        self.results = ResultFile(self.out)
        self.pdl = not options.no_pdl
        self.engine = self.new_engine()
        self.run_id, self.environment, self.ceilings = begin_run(
            self.engine,
            self.results,
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            commit=options.commit,
        )

    def new_engine(self, **options: object) -> TorchEngine:
        steps = {"steps_per_rung": 2} if self.quick else {}
        return TorchEngine(
            device="cpu" if self.quick else None,
            dtype="fp32" if self.quick else "bf16",
            kernels=self.kernels,
            pdl=self.pdl,
            **{**steps, **options},  # type: ignore[arg-type]
        )

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def late(self, stage: str, needs_s: float = 0.0) -> bool:
        late = time.monotonic() + (0.0 if self.quick else needs_s) > self.stop_at
        if late:
            self.say(f"{stage}: left out, out of time")
        return late

    def shape(self, name: str) -> Shape:
        return tiny(load_shape(name)) if self.quick else load_shape(name)

    def measure(
        self,
        shapes: list[Shape],
        batches: tuple[int, ...],
        *,
        repeats: int,
        prefills: int,
        stage: str,
        engine: TorchEngine | None = None,
    ) -> None:
        if self.late(stage):
            return
        if self.quick:
            batches, repeats = tuple(sorted({min(b, 2) for b in batches})), min(repeats, 2)
        measurement = Measurement(
            engine or self.engine,
            self.results,
            run=self.run_id,
            environment=self.environment,
            held=read_samples(self.out),
            progress=self.say,
        )
        measurement.carry_out(
            MeasurePlan(
                shapes=tuple(shapes),
                lengths=self.lengths,
                batches=batches,
                repeats=repeats,
                prefill_repeats=prefills,
                dtype=(engine or self.engine).dtype_name,
                stop_at=self.stop_at,
                tags={"stage": stage},
            )
        )

    def check(self) -> None:
        """Falls back step by step: no programmatic launch, then no Triton at all."""
        if self.quick and self.kernels != "triton":
            return
        if self.kernels == "torch":
            return
        try:
            worst = self.check_kernels()
            self.say(f"kernels: worst relative error {worst:.2e}")
            if not worst < 1e-2:
                raise SufficeError("a kernel is wrong")
        except (SufficeError, RuntimeError) as error:
            self.say(f"kernels: {type(error).__name__}: {first_line(error)}")
            if self.pdl:
                self.say("trying again without programmatic launch")
                self.pdl = False
                self.engine = self.new_engine()
                self.check()
            else:
                self.say("falling back to plain torch")
                self.kernels = "torch"
                self.engine = self.new_engine()

    def check_kernels(self) -> float:
        # Imports Triton, which a machine without a GPU need not have.
        from kernel_check import (  # noqa: PLC0415
            AttentionCase,
            AttentionChoice,
            check_kernels,
        )

        small = [
            AttentionCase(kv_heads=3, gqa=3, head_dim=64, batch=2, context=75,
                          choice=AttentionChoice(splits=1)),
            AttentionCase(kv_heads=2, gqa=17, head_dim=64, batch=3, context=90,
                          choice=AttentionChoice(splits=3), qk_norm=True),
        ]  # fmt: skip
        large = [
            AttentionCase(kv_heads=kv, gqa=gqa, head_dim=d, batch=batch, context=context,
                          choice=AttentionChoice(splits=splits, block_t=t, stages=s, warps=w))
            for kv, gqa, d, batch, context, splits, t, s, w in (
                (8, 4, 64, 1, 4700, 33, 64, 3, 4), (18, 4, 64, 4, 4100, 2, 128, 3, 4),
                (4, 9, 64, 2, 5000, 16, 64, 4, 4), (6, 7, 128, 3, 4500, 1, 64, 3, 4),
                (11, 3, 128, 2, 3000, 5, 32, 4, 2), (1, 39, 64, 8, 2000, 64, 128, 2, 8),
                (8, 3, 128, 2, 77, 2, 64, 3, 2),
            )
        ]  # fmt: skip
        checks = check_kernels(
            self.engine.ops,  # type: ignore[arg-type]
            self.engine.device,
            self.engine.dtype,
            tokens=(1, 5) if self.quick else (1, 7, 16, 64, 128),
            matrices=((48, 96),) if self.quick else ((3072, 2048), (2560, 2304), (4096, 10000)),
            attention=tuple(small[:1] if self.quick else small + large),
        )
        for failed in [check for check in checks if not check.passed]:
            self.say(f"WRONG {failed.name}: {failed.relative_error:.3g}")
        self.say(f"kernels: {len(checks)} checks, {sum(c.passed for c in checks)} passed")
        return max(c.relative_error if c.passed else float("inf") for c in checks)

    def check_steps(self) -> None:
        """Whole steps at real shapes against plain torch, and the same with and without overlap."""
        if type(self.engine.ops) is torch_model.TorchOps:
            return
        for name in PUBLISHED["1b"][:2]:
            shape = self.shape(name)
            batches = (1,) if self.quick else (1, 16, 64)
            with torch.no_grad(), self.engine.open([shape], self.lengths, batches) as (session,):
                for batch in batches:
                    session.prepare(batch)
                    self.say(f"{name} batch {batch}: {self.compare_step(session, batch)}")

    def compare_step(self, session, batch: int) -> str:  # type: ignore[no-untyped-def]
        from kernel_check import relative_error  # noqa: PLC0415

        run = session.run(batch)
        model, cache = run.model, run.cache
        context = self.lengths.input_tokens
        tokens = torch.randint(model.shape.vocab_size, (batch,), device=run.x.device)
        logits = []
        for ops in (self.engine.ops, torch_model.TorchOps()):
            run.start(tokens, context)
            x = run.x.clone()
            logits.append(torch_model.decode_logits(model, ops, cache, x, run.positions))
        error = relative_error(*logits)
        generated = []
        for replayed in (True, True, False):
            run.start(tokens, context)
            picked = []
            for _ in range(8 if self.quick else 48):
                run.steps(1) if replayed else run.step_eagerly()
                picked.append(run.tokens.clone())
            generated.append(torch.stack(picked))
        same = torch.equal(generated[0], generated[1]) and torch.equal(generated[0], generated[2])
        if not (same and error < 5e-2):
            self.say("WRONG: replayed and eager steps differ, or a step is off")
        return f"logits differ by {error:.2e} from plain torch; replay equals eager: {same}"

    def published(self, size: str) -> None:
        shapes = [self.shape(name) for name in PUBLISHED[size]]
        for pick in self.picks:
            if pick.get("like", "1b") == size:
                shape = shape_from_config(pick["config"], name=pick["name"])
                shapes.append(tiny(shape) if self.quick else shape)
        self.measure(shapes, (1, 64), repeats=5, prefills=1, stage=size)
        self.measure(shapes, (16, 128), repeats=5, prefills=1, stage=size)

    def full(self) -> None:
        """All decode steps, replayed one after the other: what the ladder interpolates."""
        if self.late("full", needs_s=20):
            return
        engine = self.new_engine(full_decode=True)
        if hasattr(engine.ops, "matmuls"):
            engine.ops = self.engine.ops
        shapes = [self.shape(name) for name in PUBLISHED["1b"][:2]]
        self.measure(shapes, (1, 64), repeats=1, prefills=0, stage="full", engine=engine)

    def calibration(self) -> None:
        shapes: dict[Shape, None] = {}
        for like, axis, wanted in CALIBRATION:
            for shape in shapes_along(axis, load_shape(like)):  # type: ignore[arg-type]
                if shape.num_key_value_heads in wanted:
                    shapes[tiny(shape) if self.quick else shape] = None
        every = list(shapes)[: 3 if self.quick else None]
        for at in range(0, len(every), 6):
            few = every[at : at + 6]
            self.measure(few, (1,), repeats=3, prefills=3, stage="calibration")
            self.measure(few, (64, 16, 128), repeats=3, prefills=0, stage="calibration")

    def study(self) -> None:
        """What each kernel reaches, from the record: choice and bytes per second."""
        for sample in read_samples(self.out):
            if sample.repeat == 0 and sample.tags.get("stage") in {"1b", "3b"}:
                parts = "; ".join(f"{k} {v}" for k, v in sample.kernels.items())
                print(f"{sample.name} batch {sample.batch}: {parts}")

    def report(self) -> None:
        samples = read_samples(self.out)
        print_table(samples, self.ceilings)


def tiny(shape: Shape) -> Shape:
    """The same head counts and GQA at a size that a CPU runs in milliseconds."""
    small = shape.resized(
        hidden_size=shape.hidden_size // 32,
        intermediate_size=shape.intermediate_size // 64,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=16,
        num_hidden_layers=2,
        name=shape.name,
    )
    return shape_from_config(
        {**_config(small), "vocab_size": 251, "tie_word_embeddings": True}, name=shape.name
    )


def _config(shape: Shape) -> dict[str, object]:
    return shape_config(shape)


def print_table(samples, ceilings: Ceilings) -> None:  # type: ignore[no-untyped-def]
    print(
        f"\ncopy {ceilings.copy_bytes_per_s / 1e12:.3f} TB/s, matmul "
        f"{ceilings.matmul_flops_per_s / 1e12:.1f} TFLOP/s"
    )
    print(f"{'shape':34}{'batch':>6}{'tok/s':>11}{'TPOT ms':>9}{'spread':>8}{'floor':>7}"
          f"{'TTFT s':>9}{'GB':>7}{'ratio':>8}")  # fmt: skip
    first: dict[int, Shape] = {}
    for summary in summarise(samples, ceilings):
        reference = first.setdefault(
            (summary.batch, summary.shape.num_hidden_layers), summary.shape
        )
        ratio = paired_ratios(samples, summary.shape, reference, summary.batch)
        ttft = f"{summary.ttft_s.median:9.4f}" if summary.ttft_s else f"{'':9}"
        print(
            f"{(summary.shape.name or '')[-33:]:34}{summary.batch:6}"
            f"{summary.decode_tokens_per_s.median:11,.1f}{summary.tpot_s.median * 1e3:9.3f}"
            f"{summary.tpot_s.relative:8.2%}{summary.decode_share_of_floor or 0:7.1%}{ttft}"
            f"{(summary.memory_bytes or 0) / 1e9:7.1f}" + (f"{ratio.median:8.3f}" if ratio else "")
        )


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--budget-s", type=float, default=450.0)
    parser.add_argument("--picks", help="JSON list of further shapes")
    parser.add_argument("--commit", help="for a copy of the sources without their history")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--kernels", default="auto", choices=("auto", "torch", "triton"))
    parser.add_argument("--no-pdl", action="store_true")
    parser.add_argument("--quick", action="store_true", help="tiny shapes on the CPU")
    options = parser.parse_args()
    programme = Programme(options)
    programme.say(
        f"{programme.environment.device}, driver {programme.environment.driver}, "
        f"{programme.environment.software}"
    )
    for stage in options.stages.split(","):
        try:
            if stage == "check":
                programme.check()
                programme.check_steps()
            elif stage in PUBLISHED:
                programme.published(stage)
            else:
                {"full": programme.full, "calibration": programme.calibration,
                 "study": programme.study}[stage]()  # fmt: skip
        except (SufficeError, RuntimeError) as error:
            # One stage's failure must not cost the others their turn on a borrowed machine.
            programme.say(f"stage {stage} failed: {type(error).__name__}: {first_line(error)}")
    programme.report()
    programme.say("done")


if __name__ == "__main__":
    main()
