"""What a step of a trajectory costs; needs no torch."""

from __future__ import annotations

from suffice.backends.latent.shape import LatentShape
from suffice.tasks.grids.puzzles import GridShape


def block_flops(shape: LatentShape, tokens: int) -> float:
    """Matmul FLOPs of one block on one trajectory, two per multiply-add.

    8 N D² for the four projections, 4 N² D for both attention products, 6 N D F for the SwiGLU.
    """
    d, f, n = shape.width, shape.mlp_width, tokens
    return 8.0 * n * d * d + 4.0 * n * n * d + 6.0 * n * d * f


def step_flops(shape: LatentShape, grid: GridShape) -> float:
    """Matmul FLOPs of one step of one trajectory: T transitions and one reading.

    A transition has K inner modules and an outer one, and the prior network where there is one. The
    reading decodes every token and evaluates both heads on their mean. Embedding the input is done
    once and looked up; it is left out.
    """
    d, n = shape.width, grid.tokens
    blocks = (shape.inner_updates + 1) * shape.blocks * block_flops(shape, n)
    prior = 0.0 if shape.noise == "none" else 2.0 * n * d * 3 * d
    reading = 2.0 * n * d * grid.classes + 2.0 * d * (d + 2)
    return shape.transitions * (blocks + prior) + reading
