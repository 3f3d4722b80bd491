from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from suffice.architecture.counts import parameter_counts  # noqa: E402
from suffice.architecture.shape import Shape  # noqa: E402
from suffice.core.errors import ConfigError  # noqa: E402
from suffice.training.model import (  # noqa: E402
    LossFunction,
    build_model,
    evaluate,
    evaluation_windows,
    save_model,
)
from suffice.training.optimiser import (  # noqa: E402
    build_optimiser,
    initialise,
    matrix_kind,
    schedule,
)
from suffice.training.pretrain.batches import window_order  # noqa: E402
from suffice.training.rung import LadderRung, Recipe, ladder_shape  # noqa: E402

CPU = torch.device("cpu")


def _shape(heads: int, kv_heads: int) -> Shape:
    return ladder_shape(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=16, vocab_size=257,
    )  # fmt: skip


# 48 is a multiple of 3 heads, not of 5: the second is written as Mistral.
@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 1), (5, 5)])
def test_the_loss_is_the_models_own(heads: int, kv_heads: int) -> None:
    model = build_model(_shape(heads, kv_heads))
    initialise(model, Recipe(), 2, seed=0)
    torch.nn.init.normal_(model.lm_head.weight, std=0.1)
    ids = torch.randint(0, 257, (3, 33))
    ours = LossFunction(model, sequence_length=32, compiled=False)(ids)
    logits = model(ids[:, :-1]).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 1), (5, 5)])
def test_an_export_loads_in_transformers_with_the_same_logits(
    tmp_path: Path, heads: int, kv_heads: int
) -> None:
    model = build_model(_shape(heads, kv_heads)).eval()
    initialise(model, Recipe(), 2, seed=0)
    torch.nn.init.normal_(model.lm_head.weight, std=0.1)
    save_model(model, tmp_path / "export", tokenizer_json="{}")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export").eval()
    ids = torch.randint(0, 257, (2, 16))
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert again.num_parameters() == parameter_counts(_shape(heads, kv_heads)).total
    assert (tmp_path / "export" / "tokenizer.json").exists()


def test_initial_scales_follow_fan_in() -> None:
    shape = ladder_shape(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, head_dim=16, vocab_size=512,
    )  # fmt: skip
    model = build_model(shape)
    initialise(model, Recipe(embedding_std=0.5), 2, seed=1)
    std = {name: weight.std().item() for name, weight in model.named_parameters()}
    layer = "model.layers.1."
    assert std["model.embed_tokens.weight"] == pytest.approx(0.5, rel=0.02)
    assert std["lm_head.weight"] == 0.0
    assert std[layer + "self_attn.q_proj.weight"] == pytest.approx(256**-0.5, rel=0.03)
    # Into the residual stream: fan-in 64 and 512, over sqrt(2 * 2 layers).
    assert std[layer + "self_attn.o_proj.weight"] == pytest.approx(64**-0.5 / 2, rel=0.03)
    assert std[layer + "mlp.down_proj.weight"] == pytest.approx(512**-0.5 / 2, rel=0.03)


def test_learning_rates_follow_fan_in_and_decay_per_step_is_equal() -> None:
    model = build_model(_shape(2, 1))
    recipe = Recipe(peak_learning_rate=1e-2, base_fan_in=256, weight_decay=0.1)
    for factor in (1.0, 2.0):
        optimiser = build_optimiser(model, recipe, factor, CPU)
        rate = {}
        for group in optimiser.param_groups:
            for weight in group["params"]:
                rate[id(weight)] = (group["peak"], group["peak"] * group["weight_decay"])
        for name, weight in model.named_parameters():
            peak, decay = rate[id(weight)]
            kind = matrix_kind(name)
            matrix = kind in ("head", "inner", "residual")
            wanted = 1e-2 * factor * (256 / weight.shape[1] if matrix else 1.0)
            assert peak == pytest.approx(wanted), name
            assert decay == pytest.approx(1e-3 if matrix else 0.0), name


def test_rates_by_depth_and_by_shared_keys() -> None:
    shape = ladder_shape(
        hidden_size=64, intermediate_size=96, num_hidden_layers=9, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, vocab_size=257,
    )  # fmt: skip
    recipe = Recipe(peak_learning_rate=1e-2, layer_rate_exponent=0.5, repeated_kv_rate=True)
    model = build_model(shape)
    peak = {}
    for group in build_optimiser(model, recipe, 1.0, CPU, shape).param_groups:
        peak |= {id(weight): group["peak"] for weight in group["params"]}
    rates = {name: peak[id(weight)] for name, weight in model.named_parameters()}
    layer = "model.layers.0."
    # Nine layers against a base of four, on fan-in 64 or 96; four query heads share a KV head.
    deep = 1e-2 * 256 / 64 * (4 / 9) ** 0.5
    assert rates[layer + "self_attn.q_proj.weight"] == pytest.approx(deep)
    assert rates[layer + "self_attn.k_proj.weight"] == pytest.approx(deep * 2 / 3)
    assert rates[layer + "self_attn.v_proj.weight"] == pytest.approx(deep * 2 / 3)
    assert rates[layer + "mlp.down_proj.weight"] == pytest.approx(deep * 64 / 96)
    assert rates["lm_head.weight"] == pytest.approx(1e-2 * 256 / 64)
    assert rates["model.embed_tokens.weight"] == pytest.approx(1e-2)
    with pytest.raises(ConfigError, match="need a shape"):
        build_optimiser(model, recipe, 1.0, CPU)


def test_schedules() -> None:
    cosine = schedule(Recipe(warmup_share=0.1, final_learning_rate_share=0.1), 100)
    assert cosine[:10].tolist() == pytest.approx([0.1 * i for i in range(1, 11)])
    assert cosine[10].item() == pytest.approx(1.0)
    assert cosine[55].item() == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert 0.1 <= cosine[-1].item() < 0.101
    wsd = schedule(
        Recipe(schedule="wsd", warmup_share=0.1, decay_share=0.2, final_learning_rate_share=0.0),
        100,
    )
    assert wsd[10:80].tolist() == [1.0] * 70
    assert wsd[90].item() == pytest.approx(0.5)
    assert wsd[-1].item() == pytest.approx(0.05)


def test_every_window_once_per_epoch() -> None:
    recipe = Recipe(sequence_length=8, aimed_steps=10, min_batch_sequences=4)
    # 50 windows of 8 tokens; 100 windows are needed: two epochs.
    order = window_order(401, recipe, 800, seed=5)
    assert order.shape == (13, 8)
    starts = order.flatten()
    first, second = starts[:50].tolist(), starts[50:100].tolist()
    assert sorted(first) == sorted(second) == list(range(0, 400, 8))
    assert first != second
    assert torch.equal(order, window_order(401, recipe, 800, seed=5))
    assert not torch.equal(order, window_order(401, recipe, 800, seed=6))


def test_held_out_loss_is_the_mean_over_its_windows(rung: LadderRung) -> None:
    recipe = Recipe(sequence_length=16, evaluation_sequences=10)
    model = build_model(rung.shape)
    initialise(model, recipe, 3, seed=0)
    torch.nn.init.normal_(model.lm_head.weight, std=0.1)
    loss_of = LossFunction(model, sequence_length=16, compiled=False)
    ids = torch.randint(0, 257, (1000,), dtype=torch.int16)
    windows = evaluation_windows(ids, recipe)
    # Spread over all 62 windows, not the first ten.
    assert windows.shape == (10, 17)
    assert torch.equal(windows[9], ids[55 * 16 : 55 * 16 + 17])
    one_by_one = [loss_of(window[None].long()).item() for window in windows]
    for batch in (3, 10):
        found = evaluate(loss_of, ids, recipe, batch, compiled=False)
        assert found == pytest.approx(sum(one_by_one) / 10, rel=1e-6)
