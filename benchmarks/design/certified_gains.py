"""The best certified gains of `suffice design`: joint search of width, MLP share and KV heads.

    python benchmarks/design/certified_gains.py [--out results/design/certified_gains.json]

For each reference, machine and workload: the recommended shape's tokens per second over the
reference's, with KV heads kept and free, and the one-sided bound of its loss. `if known` asks what
a measurement would be worth: the same search if the effect of KV heads were known to be its present
mean, and if in addition two trained shapes differed from the law by seed noise only. Batch: what
fits, at most 256. Every figure is a prediction. References above 2.95B lie outside the laws.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from suffice import DesignConfig, design
from suffice.architecture.effects import grouping_effect
from suffice.architecture.laws import ConditionalLaw
from suffice.core.errors import DoesNotFit, NothingFeasible, OutsideValidity
from suffice.core.files import write_json

REFERENCES = ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.1-8B")
MACHINES = ("a100-40gb", "h100", "h200", "b200")
WORKLOADS = {"short": (512, 256), "long": (8192, 1024)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/design/certified_gains.json"))
    parser.add_argument("--references", nargs="*", default=list(REFERENCES))
    parser.add_argument("--hardware", nargs="*", default=list(MACHINES))
    arguments = parser.parse_args()
    rows = [
        row_of(reference, machine, name)
        for reference in arguments.references
        for machine in arguments.hardware
        for name in WORKLOADS
    ]
    for row in rows:
        print(line(row))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        arguments.out, {"command": "python benchmarks/design/certified_gains.py", "rows": rows}
    )


def row_of(reference: str, machine: str, workload: str) -> dict[str, Any]:
    """One line of the table."""
    inputs, outputs = WORKLOADS[workload]
    row: dict[str, Any] = {"reference": reference, "hardware": machine, "workload": workload}
    config = DesignConfig(
        like=reference, tokens=100e9, hardware=machine, input_tokens=inputs,
        output_tokens=outputs, gqa_range=(1, 16), attention_width_range=(0.5, 2.0),
    )  # fmt: skip
    try:
        found = design(config)
        row["if_grouping_known"], row["if_law_known_too"] = known(config, found.law)
    except (OutsideValidity, NothingFeasible, DoesNotFit) as error:
        return row | {"gain": None, "why_not": str(error)}
    shape, pick, gain = found.recommended.shape, found.recommended, found.gain
    return row | {
        "gain": gain.total,
        "kept": gain.kept,
        "regrouped": gain.regrouped,
        "shape": f"{shape.hidden_size}/{shape.intermediate_size}, {shape.num_attention_heads}/"
        f"{shape.num_key_value_heads} x {shape.head_dim}",
        "loss_change_bound": pick.loss_high - found.reference.loss,
        "loss_change": pick.loss - found.reference.loss,
        "grouping_nats": [gain.loss_low, gain.loss_change, gain.loss_high],
        "fastest": found.pick("fastest").speedup,
        "shapes": len(found.grid),
    }


def known(config: DesignConfig, law: ConditionalLaw) -> tuple[float, float]:
    """The gain if the grouping effect had no spread, and if the law had seed noise only as well."""
    exact = replace(grouping_effect(), sd=1e-9)
    with patch("suffice.recipes.design.loss_model.grouping_effect", lambda: exact):
        grouping = design(config).gain.total
        return grouping, design(replace(config, law=replace(law, noise=None))).gain.total


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = f"{row['reference'].split('/')[-1]:14} {row['hardware']:10} {row['workload']:6}"
    if row["gain"] is None:
        return f"{head} none: {row['why_not'][:90]}"
    return (
        f"{head} {row['gain']:.2f}x (KV heads kept {row['kept']:.2f}x)  loss "
        f"{row['loss_change']:+.4f}, bound {row['loss_change_bound']:+.4f} nats  {row['shape']}  "
        f"(50 %: {row['fastest']:.2f}x; if known {row['if_grouping_known']:.2f}x, "
        f"{row['if_law_known_too']:.2f}x)"
    )


if __name__ == "__main__":
    main()
