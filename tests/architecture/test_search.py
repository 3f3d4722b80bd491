from __future__ import annotations

import numpy as np
import pytest

from suffice.architecture import counts
from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import ShapeGrid
from suffice.architecture.lattice import Lattice, enumerate_lattice, shape_at
from suffice.architecture.search import LossTarget, Scores, pareto_front, select
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, NothingFeasible

REFERENCE = load_shape("meta-llama/Llama-3.2-1B")


def scores_of(grid: ShapeGrid, loss: FloatArray, tokens_per_s: FloatArray, sd: float) -> Scores:
    ones = np.ones(len(grid))
    return Scores(
        loss=loss,
        loss_at_equal_size=loss,
        loss_sd=sd * ones,
        output_tokens_per_s=tokens_per_s,
        ttft_s=ones,
        tpot_s=ones,
        e2e_s=1 / np.maximum(tokens_per_s, 1e-9),
        usd_per_million_tokens=1 / np.maximum(tokens_per_s, 1e-9),
        kv_bytes_per_token=np.asarray(counts.kv_cache_bytes_per_token(grid, "bf16")),
        batch=ones,
    )


@pytest.mark.parametrize("name", ["panda-1b", "surefire-1b", "llama-3.2-1b"])
def test_the_lattice_holds_the_published_shapes(name: str) -> None:
    published = load_shape(name)
    grid = enumerate_lattice(REFERENCE, Lattice.around(REFERENCE))
    keys = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    match = np.logical_and.reduce([getattr(grid, k) == getattr(published, k) for k in keys])
    assert match.sum() == 1


def test_the_lattice_equals_brute_force_on_a_small_space() -> None:
    lattice = Lattice.around(
        REFERENCE, x_range=(0.07, 0.09), gqa_range=(1, 5), r_range=(1.0, 4.0), head_dims=(64,)
    )
    expected = set()
    for d in range(128, 8192, 128):
        for kv in range(2, 170, 2):
            for gqa in range(1, 6):
                heads = kv * gqa
                if not 0.75 <= heads * 64 / d <= 2:
                    continue
                attention = 2 * d * 64 * (heads + kv)
                for f in range(256, 40_000, 256):
                    size = 16 * (attention + 3 * d * f)
                    ratio, x = 3 * d * f / attention, d / size**0.5
                    if (
                        abs(size / lattice.parameters - 1) <= 0.01
                        and 1 <= ratio <= 4
                        and 0.07 <= x <= 0.09
                    ):
                        expected.add((d, f, heads, kv))
    grid = enumerate_lattice(REFERENCE, lattice)
    found = set(
        zip(
            grid.hidden_size.astype(int).tolist(),
            grid.intermediate_size.astype(int).tolist(),
            grid.num_attention_heads.astype(int).tolist(),
            grid.num_key_value_heads.astype(int).tolist(),
            strict=True,
        )
    )
    assert found == expected
    assert len(found) == len(grid) > 50


def test_grid_counts_equal_shape_counts() -> None:
    grid = enumerate_lattice(REFERENCE, Lattice.around(REFERENCE))
    rng = np.random.default_rng(0)
    for row in rng.choice(len(grid), 50, replace=False):
        shape = shape_at(grid, int(row), REFERENCE)
        one = grid.take(np.array([row]))
        assert counts.non_embedding_parameters(one)[0] == counts.non_embedding_parameters(shape)
        assert counts.decode_flops(one, np.array([5000.0]), "matmul", lm_head=True)[
            0
        ] == counts.decode_flops(shape, 5000, "matmul", lm_head=True)
        assert counts.prefill_flops(one, np.array([4097.0]), "matmul")[0] == counts.prefill_flops(
            shape, 4097, "matmul"
        )


def test_tensor_parallel_divides_heads_and_mlp() -> None:
    grid = enumerate_lattice(REFERENCE, Lattice.around(REFERENCE, tensor_parallel=4))
    assert (grid.num_attention_heads % 4 == 0).all()
    assert (grid.intermediate_size % 4 == 0).all()
    assert set(np.unique(grid.num_key_value_heads)) <= {2, *range(4, 200, 4)}


def test_depth_can_vary() -> None:
    grid = enumerate_lattice(REFERENCE, Lattice.around(REFERENCE, depths=(12, 16, 20)))
    assert set(np.unique(grid.num_hidden_layers)) == {12, 16, 20}


def test_default_bounds_stay_where_evidence_exists() -> None:
    assert Lattice.around(REFERENCE).gqa_range == (1, 9)
    assert Lattice.around(load_shape("llama-3.2-3b")).gqa_range == (1, 7)
    assert Lattice.around(REFERENCE).r_range == (0.5, 5.0)


def test_an_empty_lattice_says_what_to_widen() -> None:
    with pytest.raises(NothingFeasible, match="widen the tolerance"):
        enumerate_lattice(REFERENCE, Lattice.around(REFERENCE, parameters=5e5, x_range=(0.1, 0.1)))


@pytest.mark.parametrize(
    "bad", [{"parameters": -1.0}, {"parameter_tolerance": 2.0}, {"r_range": (5.0, 1.0)}]
)
def test_absurd_lattices_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Lattice.around(REFERENCE, **bad)


def test_confidence_moves_the_pick_to_the_safe_side() -> None:
    grid = ShapeGrid.like(REFERENCE, hidden_size=np.array([1024.0, 2048.0, 3072.0]))
    loss, speed = np.array([2.800, 2.795, 2.780]), np.array([300.0, 200.0, 100.0])
    scores = scores_of(grid, loss, speed, sd=0.003)
    picks = {
        confidence: select(
            grid, scores, "throughput", LossTarget(loss=2.8, confidence=confidence)
        ).recommended
        for confidence in (0.5, 0.9, 0.99)
    }
    # Upper bounds at 90 %: 2.8038, 2.7988, 2.7838; at 99 %: the second is 2.8020.
    assert picks == {0.5: 0, 0.9: 1, 0.99: 2}
    selection = select(grid, scores, "throughput", LossTarget(loss=2.8, confidence=0.9))
    assert selection.fastest == 0
    assert selection.lowest_loss == 2
    assert selection.within.tolist() == [1, 2]


def test_no_shape_meets_the_target() -> None:
    grid = ShapeGrid.like(REFERENCE, hidden_size=np.array([1024.0, 2048.0]))
    scores = scores_of(grid, np.array([2.9, 3.0]), np.array([1.0, 2.0]), sd=0.01)
    selection = select(grid, scores, "throughput", LossTarget(loss=2.8, confidence=0.9))
    assert selection.recommended is selection.fastest is None
    assert selection.lowest_loss == 0
    assert not len(selection.within) and not selection.runners_up


def test_shapes_that_do_not_fit_are_never_picked() -> None:
    grid = ShapeGrid.like(REFERENCE, hidden_size=np.array([1024.0, 2048.0]))
    scores = scores_of(grid, np.array([2.0, 2.5]), np.array([0.0, 2.0]), sd=0.0)
    for objective in ("throughput", "latency", "cost", "loss", "kv-memory"):
        selection = select(grid, scores, objective, LossTarget(loss=2.8))  # type: ignore[arg-type]
        assert selection.recommended == selection.lowest_loss == 1
    none = scores_of(grid, np.array([2.0, 2.5]), np.zeros(2), sd=0.0)
    with pytest.raises(NothingFeasible, match="memory"):
        select(grid, none, "throughput", LossTarget(loss=2.8))


def test_pareto_front_of_a_known_set() -> None:
    first = np.array([1.0, 2.0, 2.0, 3.0, 4.0, np.inf, np.nan])
    second = np.array([5.0, 3.0, 4.0, 3.0, 1.0, 0.0, 0.0])
    assert pareto_front(first, second).tolist() == [0, 1, 4]
