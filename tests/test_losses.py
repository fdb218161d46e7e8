"""Known answers of the variational objectives."""

import math

import pytest
import torch

from dgm.distributions import gaussian_log_prob, standard_normal_log_prob
from dgm.losses.variational import Draw, beta_tcvae, capacity, decompose, elbo, iwae, stratified_log_weights

K, B, D = 3, 8, 4


def draw(samples=K, step=0.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    mu, logvar = torch.randn(2, B, D, generator=g).requires_grad_().unbind()
    z = mu + (0.5 * logvar).exp() * torch.randn(samples, B, D, generator=g)
    return Draw(-z.square().sum(-1) - 3, z, mu, logvar, torch.tensor(step), 1000)


@pytest.mark.parametrize("loss", [elbo, capacity, iwae, beta_tcvae])
def test_every_objective_reports_the_elbo_at_beta_one(loss):
    terms = loss(draw())
    assert torch.allclose(terms["elbo"], -(terms["reconstruction"] + terms["kl"]))
    assert terms["loss"].shape == terms["elbo"].shape == (B,)


def test_beta_one_is_the_elbo_and_beta_zero_the_reconstruction():
    terms = elbo(draw())
    assert torch.equal(terms["loss"], -terms["elbo"])
    assert torch.equal(elbo(draw(), beta=0.0)["loss"], terms["reconstruction"])
    assert torch.allclose(elbo(draw(), beta=4.0)["loss"], terms["reconstruction"] + 4 * terms["kl"])


@pytest.mark.parametrize(("step", "target"), [(0.0, 0.0), (50.0, 5.0), (100.0, 10.0), (1e6, 10.0)])
def test_capacity_grows_linearly_then_stays(step, target):
    terms = capacity(draw(step=step), capacity=10.0, gamma=7.0, ramp=100)
    expected = terms["reconstruction"] + 7 * (terms["kl"].mean() - target).abs()
    assert torch.allclose(terms["loss"], expected)


def test_iwae_of_one_sample_is_the_elbo_estimated_by_that_sample():
    one = draw(samples=1)
    log_q = gaussian_log_prob(one.z, one.mu, one.logvar).sum(-1)
    single = (one.log_px_z + standard_normal_log_prob(one.z).sum(-1) - log_q)[0]
    assert torch.allclose(-iwae(one)["loss"], single, atol=1e-5)


def test_iwae_tightens_with_more_samples():
    bounds = [-torch.stack([iwae(draw(k, seed=s))["loss"].mean() for s in range(100)]).mean() for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2]


def gradients(doubly, z_scale=1.0, n=4000):
    """Mean and variance of the encoder's gradient of the IWAE bound of x ~ N(z, 1), z ~ N(0, 1), over n draws."""
    g = torch.Generator().manual_seed(1)
    mu, logvar = torch.full((n, 1), 0.4, requires_grad=True), torch.full((n, 1), -0.5, requires_grad=True)
    theta = torch.ones(n, 1, requires_grad=True)
    z = mu + (0.5 * logvar).exp() * torch.randn(5, n, 1, generator=g)
    log_px = gaussian_log_prob(torch.tensor(1.3), theta * z, torch.zeros(())).sum(-1)
    loss = iwae(Draw(log_px, z, mu, logvar, torch.tensor(0.0), 1), doubly_reparameterised=doubly)["loss"]
    return loss.detach(), torch.autograd.grad(loss.sum(), (mu, logvar, theta))


def test_doubly_reparameterised_gradient_has_the_same_value_and_mean_and_less_variance():
    (loss, plain), (same, doubly) = gradients(False), gradients(True)
    assert torch.allclose(loss, same, atol=1e-5)
    for a, b in zip(plain, doubly, strict=True):
        error = ((a.var() + b.var()) / len(a)).sqrt()
        assert abs(a.mean() - b.mean()) < 4 * error
    assert torch.allclose(plain[2], doubly[2], atol=1e-5)  # the decoder's gradient is the same estimate
    assert doubly[0].var() < 0.7 * plain[0].var()


def test_stratified_weights_put_one_over_n_on_the_diagonal_and_sum_to_one():
    weights = stratified_log_weights(10, 1000, torch.zeros(1)).exp()
    assert torch.allclose(weights.diagonal(), torch.tensor(1e-3))
    assert torch.allclose(weights.sum(1), torch.ones(10))


def far_apart(n_data):
    mu = torch.arange(64.0).unsqueeze(1).expand(64, 2) * 100
    logvar = torch.zeros(64, 2)
    z = mu + torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    return Draw(torch.zeros(1, 64), z.unsqueeze(0), mu, logvar, torch.tensor(0.0), n_data)


def test_mutual_information_of_disjoint_posteriors_reaches_log_n():
    information, _, _ = decompose(far_apart(60_000))
    assert torch.allclose(information, torch.tensor(math.log(60_000)), atol=1e-3)


def test_mutual_information_never_exceeds_log_n():
    information, _, _ = decompose(draw(1))
    assert (information <= math.log(1000) + 1e-5).all()


def test_the_three_parts_add_up_to_the_sampled_kl():
    one = draw(1)
    parts = sum(decompose(one))
    log_q = gaussian_log_prob(one.z[0], one.mu, one.logvar).sum(-1)
    assert torch.allclose(parts, log_q - standard_normal_log_prob(one.z[0]).sum(-1), atol=1e-4)


def test_total_correlation_of_a_gaussian_with_known_covariance():
    # all posteriors equal up to a mean drawn from N(0, S): the aggregate is N(0, S + v I), its TC is known
    n, v, rho = 3000, 0.1, 0.8
    g = torch.Generator().manual_seed(0)
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]])
    mu = torch.randn(n, 2, generator=g) @ torch.linalg.cholesky(covariance).T
    z = mu + v**0.5 * torch.randn(n, 2, generator=g)
    _, tc, _ = decompose(Draw(torch.zeros(1, n), z[None], mu, torch.full((n, 2), math.log(v)), torch.tensor(0.0), n))
    aggregate = covariance + v * torch.eye(2)
    exact = 0.5 * (aggregate.diagonal().log().sum() - torch.logdet(aggregate))
    assert abs(tc.mean() - exact) < 0.05


def test_beta_tcvae_with_all_weights_one_estimates_the_elbo():
    terms = beta_tcvae(draw(1), alpha=1.0, beta=1.0, gamma=1.0)
    parts = terms["mutual_information"] + terms["total_correlation"] + terms["dimension_kl"]
    assert torch.allclose(terms["loss"], terms["reconstruction"] + parts, atol=1e-5)
