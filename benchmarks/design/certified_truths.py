"""Does "90 % certain" hold? Shapes that `suffice design` calls certified, under 500 made-up truths.

    python benchmarks/design/certified_truths.py [--truths 500]

A truth draws the law's own error and what the loss does for each doubling of the query heads per
KV head (from the published comparisons and their spread) and of the number of layers at equal size.
For depth no pooled effect is published: 2601.20994 loses .12 nats from 32 to 64 layers at 7B and
gains .03 relative from 8 to 16 at width 512, 2602.05970 says loss goes with one over depth,
MobileLLM that deep and thin wins. The draw is normal about 0 with .03 of the loss per doubling.
Each line: how often the recommended shape, the fastest certified one, and what a rule that is blind
to the axis would have certified, lose more than the reference. At most 10 % may.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from suffice import DesignConfig, DesignResult, design
from suffice.architecture.counts import ShapeGrid
from suffice.architecture.effects import grouping_effect
from suffice.architecture.lattice import shape_at
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import AbsoluteLaw
from suffice.architecture.shape import Shape
from suffice.recipes.design.loss_model import LossModel
from suffice.recipes.design.run import SCALE_LAW

REFERENCES = ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "Qwen/Qwen3-1.7B")
DEPTH_SD = 0.03


class Truths(NamedTuple):
    """Drawn truths: ln(loss) of the law's own error, and per doubling of each axis."""

    law_error: np.ndarray
    grouping: np.ndarray
    depth: np.ndarray


def drawn(result: DesignResult, count: int, seed: int = 7) -> Truths:
    """`count` truths for a design's law."""
    noise, effect = result.law.noise, grouping_effect()
    assert noise is not None
    generator = np.random.default_rng(seed)
    error = generator.standard_t(noise.degrees_of_freedom or 1e9, count) * noise.difference_sd()
    slope = effect.mean + effect.sd * generator.standard_t(effect.degrees_of_freedom, count)
    return Truths(error, slope, DEPTH_SD * generator.standard_normal(count))


def lost(result: DesignResult, shape: Shape, truths: Truths) -> float:
    """Share of truths in which `shape` has a higher loss than the reference."""
    reference, one = result.reference.shape, ShapeGrid.like(shape)
    model = loss_model(result)
    if model.uncertainty(one)[0][0] == 0.0:  # the reference itself
        return 0.0
    by_law = np.log(model.loss(one)[0] / result.reference.loss) - model.grouping_change(one)[0]
    grouped = truths.grouping * np.log2(shape.gqa / reference.gqa)
    deeper = truths.depth * np.log2(shape.num_hidden_layers / reference.num_hidden_layers)
    return float((by_law + grouped + deeper + truths.law_error > 0).mean())


def loss_model(result: DesignResult) -> LossModel:
    """The loss model that a design was made with."""
    scale = load_law(SCALE_LAW)
    assert isinstance(scale, AbsoluteLaw)
    return LossModel(
        law=result.law,
        scale=scale,
        reference=result.reference.shape,
        reference_loss=result.anchor.loss,
        tokens=result.config.tokens,
    )


def fastest_certified(result: DesignResult) -> Shape:
    """The fastest shape that a design calls certified."""
    return shape_at(result.grid, int(result.selection.within[0]), result.reference.shape)


def blind_to_grouping(config: DesignConfig) -> DesignResult:
    """The same search by a rule that knows nothing of KV heads."""
    with patch.object(LossModel, "grouping", property(lambda self: None)):
        return design(config)


def blind_to_depth(config: DesignConfig) -> DesignResult:
    """The same search by a rule that takes every depth for the reference's."""
    with patch("suffice.recipes.design.loss_model.sees_depth", lambda law: True):
        return design(config)


def lines(reference: str, truths: int) -> list[str]:
    """One line for KV heads and one for depth."""
    base = DesignConfig(like=reference, tokens=100e9)
    layers = design(base).reference.shape.num_hidden_layers
    told = []
    for axis, config, blind in (
        ("KV heads", base, blind_to_grouping),
        ("depth", DesignConfig(like=reference, tokens=100e9, depths=tuple(
            range(max(2, layers - 6), layers + 7, 2))), blind_to_depth),
    ):  # fmt: skip
        result, old = design(config), blind(config)
        made = drawn(result, truths)
        told.append(
            f"{reference.rsplit('/', maxsplit=1)[-1]:14} {axis:9} recommended "
            f"{lost(result, result.recommended.shape, made):5.1%}  fastest certified "
            f"{lost(result, fastest_certified(result), made):5.1%}  blind rule "
            f"{lost(result, fastest_certified(old), made):5.1%}"
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truths", type=int, default=500)
    truths = parser.parse_args().truths
    for reference in REFERENCES:
        print(*lines(reference, truths), sep="\n")


if __name__ == "__main__":
    main()
