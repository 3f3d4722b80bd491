"""The hand-written parts: KL against torch's own, gradients against finite differences."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from suffice.backends.latent.network import Gaussian, LatentNetwork  # noqa: E402
from suffice.backends.latent.shape import LatentShape  # noqa: E402
from suffice.tasks.grids.queens import Queens  # noqa: E402
from suffice.training.latent.losses import (  # noqa: E402
    balanced_kl,
    kl_divergence,
    reward_loss,
)

pytestmark = pytest.mark.torch
B, N, D = 3, 4, 5


def gaussian(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
    log_sigma = 0.5 * torch.randn(B, N, D, dtype=torch.float64, generator=generator) - 1
    return Gaussian(mean.requires_grad_(), log_sigma.requires_grad_())


def test_kl_is_that_of_torch_distributions_in_every_reduction() -> None:
    q, p = gaussian(0), gaussian(1)
    normal = torch.distributions.Normal
    parts = torch.distributions.kl_divergence(
        normal(q.mean, q.log_sigma.exp()), normal(p.mean, p.log_sigma.exp())
    )
    expected = {
        "sum": parts.sum(dim=(1, 2)).mean(),
        "channels": parts.sum(dim=2).mean(),
        "mean": parts.mean(),
    }
    for reduction, value in expected.items():
        found = kl_divergence(q, p, reduction)  # type: ignore[arg-type]
        assert float(found.detach()) == pytest.approx(float(value.detach()), rel=1e-12)


def test_balanced_kl_has_the_plain_value_and_shares_out_gradients() -> None:
    q, p = gaussian(0), gaussian(1)
    plain = kl_divergence(q, p, "sum")
    plain_q, plain_p = torch.autograd.grad(plain, (q.mean, p.mean))
    balanced = balanced_kl(q, p, balance=0.8, reduction="sum")
    found_q, found_p = torch.autograd.grad(balanced, (q.mean, p.mean))
    assert float(balanced.detach()) == pytest.approx(float(plain.detach()), rel=1e-12)
    torch.testing.assert_close(found_q, 0.2 * plain_q)
    torch.testing.assert_close(found_p, 0.8 * plain_p)


@pytest.mark.parametrize("reduction", ["sum", "channels", "mean"])
def test_gradients_of_the_kl_are_finite_differences(reduction: str) -> None:
    q, p = gaussian(0), gaussian(1)

    def value(*parts: torch.Tensor) -> torch.Tensor:
        return kl_divergence(Gaussian(*parts[:2]), Gaussian(*parts[2:]), reduction)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(value, (q.mean, q.log_sigma, p.mean, p.log_sigma))


def test_gradients_of_the_samples_are_finite_differences() -> None:
    q = gaussian(0)
    noise = torch.randn(B, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    assert torch.autograd.gradcheck(
        lambda mean, log_sigma: Gaussian(mean, log_sigma).sample(noise), (q.mean, q.log_sigma)
    )


def test_gradients_of_a_transition_with_prior_and_posterior_are_finite_differences() -> None:
    """One transition, a posterior's sample and both heads, against central differences."""
    shape = LatentShape(width=8, heads=2, mlp_width=8, noise="learned")
    network = LatentNetwork(shape, Queens(4).shape)
    network.initialise(0)
    network.double()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(5, (2, 4, 1), generator=generator)
    answers = torch.randint(4, (2, 4), generator=generator)
    noise = torch.randn(2, 4, 8, dtype=torch.float64, generator=generator)

    def loss() -> torch.Tensor:
        h, l = (z.double() for z in network.start(2))  # noqa: E741
        u, l = network.proposal(h, l, network.embed(inputs))  # noqa: E741
        posterior = network.posterior(u, network.answers(answers))
        h = posterior.sample(noise)
        cross_entropy = torch.nn.functional.cross_entropy(
            network.decode(u + h).flatten(0, 1), answers.flatten()
        )
        pooled = h.mean(dim=1)
        kl = kl_divergence(posterior, network.prior(u), "sum")
        heads = network.halting(pooled).sum() + reward_loss(
            network.value(pooled)[None], torch.tensor([True, False])
        )
        return cross_entropy + kl + heads

    names = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss(), list(names.values()))
    step = 1e-6
    for (name, weight), gradient in zip(names.items(), gradients, strict=True):
        place = int(gradient.abs().argmax())
        with torch.no_grad():
            flat = weight.view(-1)
            kept = float(flat[place])
            flat[place] = kept + step
            above = float(loss())
            flat[place] = kept - step
            below = float(loss())
            flat[place] = kept
        expected = float(gradient.view(-1)[place])
        assert (above - below) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_the_reward_loss_is_the_sum_over_steps_written_out() -> None:
    value = torch.tensor([[0.1, 0.9], [0.4, 0.8], [0.7, 0.2]])
    right = [1.0, 0.0]
    expected = sum((float(value[s, b]) - right[b]) ** 2 for s in range(3) for b in range(2)) / 2
    found = reward_loss(value, torch.tensor([True, False]))
    assert float(found) == pytest.approx(expected, rel=1e-6)
