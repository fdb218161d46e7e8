"""Known answers of densities, divergences and likelihoods."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from dgm import distributions as d
from dgm.nn.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, LogisticMixture


def test_kl_of_the_prior_with_itself_is_zero():
    assert d.gaussian_kl(torch.zeros(3), torch.zeros(3)).abs().max() == 0


def test_kl_agrees_with_torch_and_is_positive():
    mu, logvar = torch.randn(200, 5), torch.randn(200, 5)
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    assert torch.allclose(d.gaussian_kl(mu, logvar), expected, atol=1e-5)
    assert (d.gaussian_kl(mu, logvar) > 0).all()


def test_kl_agrees_with_monte_carlo():
    mu, logvar = torch.tensor([0.7], dtype=torch.double), torch.tensor([-1.2], dtype=torch.double)
    generator = torch.Generator().manual_seed(0)
    z = d.reparameterise(mu, logvar, torch.randn(1_000_000, generator=generator, dtype=torch.double))
    terms = d.gaussian_log_prob(z, mu, logvar) - d.standard_normal_log_prob(z)
    assert abs(terms.mean() - d.gaussian_kl(mu, logvar)) < 3 * terms.std() / 1000


def test_gaussian_agrees_with_torch():
    x, mu, logvar = torch.randn(3, 50)
    expected = Normal(mu, (0.5 * logvar).exp()).log_prob(x)
    assert torch.allclose(d.gaussian_log_prob(x, mu, logvar), expected, atol=1e-5)
    assert torch.allclose(d.standard_normal_log_prob(x), Normal(0.0, 1.0).log_prob(x), atol=1e-6)


def test_reparameterised_gradient_is_exact():
    mu, logvar = torch.tensor(0.3, requires_grad=True), torch.tensor(-0.8, requires_grad=True)
    eps = torch.tensor(1.7)
    d.reparameterise(mu, logvar, eps).backward()
    assert mu.grad == 1
    assert torch.isclose(logvar.grad, 0.5 * (0.5 * logvar).exp() * eps)


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize(("mean", "log_scale"), [(0.5, -3.0), (0.0, -5.5), (1.0, 0.0), (0.3, -1.0), (2.0, -2.0)])
def test_discretized_logistic_sums_to_one_over_its_levels(levels, mean, log_scale):
    x = torch.arange(levels, dtype=torch.double) / (levels - 1)
    log_p = d.discretized_logistic_log_prob(x, torch.tensor(mean), torch.tensor(log_scale), levels)
    assert abs(log_p.exp().sum() - 1) < 1e-6


def test_discretized_logistic_has_finite_gradients_in_the_tails():
    mean = torch.tensor([50.0, -50.0, 0.5], requires_grad=True)
    d.discretized_logistic_log_prob(torch.tensor([0.0, 1.0, 0.2]), mean, torch.tensor(-7.0)).sum().backward()
    assert mean.grad.isfinite().all()


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.3), Gaussian(learned=True), DiscretizedLogistic(2)])
def test_likelihoods_sum_over_the_event_for_every_sample(likelihood):
    x, output = torch.rand(5, 2, 3, 3).round(), torch.randn(4, 5, 2, 3, 3)
    log_p = likelihood.log_prob(x, output)
    assert log_p.shape == (4, 5)
    alone = likelihood.log_prob(x[1:2], output[2:3, 1:2])
    assert torch.allclose(log_p[2, 1], alone[0, 0], rtol=1e-5)


def test_bernoulli_image_sums_to_one_over_all_binary_images():
    images = torch.tensor([[(i >> b) & 1 for b in range(9)] for i in range(512)], dtype=torch.float).view(512, 1, 3, 3)
    log_p = Bernoulli().log_prob(images, torch.randn(1, 3, 3).expand(512, 1, 3, 3))
    assert abs(log_p.exp().sum() - 1) < 1e-5


def test_gaussian_with_a_fixed_scale_is_squared_error_up_to_a_constant():
    x, output, scale = torch.rand(7, 1, 4, 4), torch.rand(7, 1, 4, 4), 0.5
    squared = (x - output).square().flatten(1).sum(1) / (2 * scale**2)
    constant = 16 * (0.5 * math.log(2 * math.pi) + math.log(scale))
    assert torch.allclose(-Gaussian(scale).log_prob(x, output), squared + constant, rtol=1e-5)


def test_only_a_learned_scale_is_trained():
    assert not Gaussian().log_scale.requires_grad
    assert Gaussian(learned=True).log_scale.requires_grad


def test_a_fixed_scale_is_what_was_asked_for_and_a_learned_one_keeps_its_gradient_near_its_bound():
    x = torch.full((2, 1, 4, 4), 0.25)
    normal = torch.distributions.Normal(0.251, 0.001)
    assert torch.allclose(Gaussian(0.001).log_prob(x, x + 0.001), normal.log_prob(x).flatten(1).sum(1), rtol=1e-3)
    for likelihood in (Gaussian(0.1, learned=True), DiscretizedLogistic(1, 0.1)):
        with torch.no_grad():
            likelihood.free.fill_(-9.0)  # far beyond the bound
        value = likelihood.log_prob(x, torch.full_like(x, 0.9)).sum()
        (slope,) = torch.autograd.grad(value, likelihood.free)
        assert slope.item() > 0  # a wider one would do better
    assert Gaussian(0.1, learned=True).log_scale.exp().item() == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"scale=0\.001"):
        Gaussian(0.001, learned=True)


@pytest.mark.parametrize("values", [2, 16, 17, 256])
def test_a_mixture_of_logistics_is_a_likelihood_over_its_own_levels(values):
    mixture = LogisticMixture(components=3, values=values)
    pixels = torch.arange(256.0).view(256, 1, 1, 1) / 255
    output = torch.randn(1, mixture.outputs(1), 1, 1).double().expand(256, -1, -1, -1)
    levels = (pixels * (values - 1)).round().unique() / (values - 1)
    of_levels = mixture.log_prob(levels.view(-1, 1, 1, 1).double(), output[: len(levels)])
    assert of_levels.exp().sum().item() == pytest.approx(1)
    nearest = (pixels.flatten() * (values - 1)).round().long()
    assert torch.allclose(mixture.log_prob(pixels.double(), output), of_levels[nearest])


def test_bernoulli_cross_entropy_is_its_definition_in_value_and_gradient_everywhere():
    logits = torch.cat([torch.linspace(-200, 200, 81), torch.zeros(3), torch.tensor([1e-4, -1e-4])]).double()
    logits = logits.repeat(4, 1)
    x = torch.rand(logits.shape).double()
    x[0], x[1] = 0, 1
    mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = d.bernoulli_cross_entropy(x, mine)
    expected = -x * torch.nn.functional.logsigmoid(other) - (1 - x) * torch.nn.functional.logsigmoid(-other)
    assert torch.allclose(value, expected, rtol=1e-12, atol=1e-12)
    value.sum().backward(), expected.sum().backward()
    assert torch.allclose(mine.grad, other.grad, rtol=1e-12, atol=1e-12)
    single = d.bernoulli_cross_entropy(x.float(), logits.float())
    assert torch.allclose(single.double(), expected, rtol=1e-6, atol=3e-5)


def test_bernoulli_has_first_and_second_derivatives_also_in_a_batch_of_functions():
    x, logits = torch.rand(3, 4).double().requires_grad_(), torch.randn(2, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(d.bernoulli_cross_entropy, (x, logits))
    assert torch.autograd.gradgradcheck(d.bernoulli_cross_entropy, (x, logits))
    gradient = torch.func.grad(lambda logits, x: d.bernoulli_cross_entropy(x, logits).sum())
    many = torch.func.vmap(gradient, in_dims=(0, None))(logits.detach(), x.detach())
    assert torch.allclose(many, logits.detach().sigmoid() - x.detach())
