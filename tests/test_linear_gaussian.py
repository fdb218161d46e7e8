"""A linear-Gaussian VAE, where log p(x) is known: x = W z + b + noise, so x ~ N(b, W W' + s^2 I)."""

from functools import partial

import pytest
import torch

from dgm.losses.variational import elbo
from dgm.metrics.likelihood import Likelihood
from dgm.modules.vae import VAE
from dgm.nn.likelihoods import Gaussian
from dgm.nn.mlp import Decoder, Encoder

D, Z, SCALE = 6, 3, 0.7


@pytest.fixture
def model():
    """W has orthogonal columns, so that the exact posterior is a diagonal Gaussian, and q is that posterior."""
    torch.manual_seed(0)
    encoder, decoder = Encoder([D], Z, [], heads=2), Decoder([D], Z, [])
    vae = VAE(encoder, decoder, Gaussian(SCALE), elbo, partial(torch.optim.Adam, lr=1e-3), Z).double()
    w = torch.linalg.qr(torch.randn(D, Z).double()).Q * torch.tensor([0.5, 1.0, 2.0]).double()
    b = torch.randn(D).double()
    precision = 1 + w.square().sum(0) / SCALE**2
    with torch.no_grad():
        decoder.layers[0].weight.copy_(w), decoder.layers[0].bias.copy_(b)
        to_mu = (w / SCALE**2 / precision).T
        encoder.layers[0].weight.copy_(torch.cat([to_mu, torch.zeros(Z, D)]))
        encoder.layers[0].bias.copy_(torch.cat([-to_mu @ b, -precision.log()]))
    return vae


def exact(model, x):
    w, b = model.decoder.layers[0].weight, model.decoder.layers[0].bias
    scale = model.likelihood.log_scale.exp()
    covariance = w @ w.T + scale**2 * torch.eye(D).double()
    return torch.distributions.MultivariateNormal(b, covariance).log_prob(x)


def points(model, n=50):
    return model.decoder(torch.randn(n, Z).double()).detach() + SCALE * torch.randn(n, D).double()


def test_every_bound_is_exact_at_the_exact_posterior(model):
    x = points(model)
    log_p = exact(model, x)
    for k in (1, 7):
        assert torch.allclose(model.log_likelihood(x, k), log_p, atol=1e-5)
    # the ELBO with analytic KL still has noise in its reconstruction: its mean is exact
    mu, logvar = model.posterior(x)
    eps = torch.randn(20_000, *mu.shape).double()
    values = elbo(model.draw(x, mu, logvar, eps))["elbo"]
    assert (values - log_p).abs().max() < 0.05
    # noise enters quadratically: antithetic unit vectors of length sqrt(Z) integrate it exactly
    units = torch.cat([torch.eye(Z), -torch.eye(Z)]).double().unsqueeze(1).expand(-1, len(x), -1) * Z**0.5
    assert torch.allclose(elbo(model.draw(x, mu, logvar, units))["elbo"], log_p, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_elbo_below_iw_below_log_p_for_any_encoder(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    x = points(model, 200)
    log_p = exact(model, x).mean()
    draws = {k: torch.stack([model.log_likelihood(x, k).mean() for _ in range(40)]) for k in (1, 5, 50, 1000)}
    means = [draws[k].mean() for k in (1, 5, 50, 1000)]
    error = max(values.std() / 40**0.5 for values in draws.values())
    assert means[0] < means[1] < means[2] < means[3] + 3 * error
    assert means[3] < log_p + 3 * error
    assert log_p - means[3] < 0.05
    assert log_p - means[0] > 0.01


def test_log_p_minus_elbo_is_the_kl_to_the_posterior(model):
    x = points(model)
    mu, logvar = (t.clone() for t in model.posterior(x))
    shifted, wider = mu + 0.3, logvar + 0.5
    units = torch.cat([torch.eye(Z), -torch.eye(Z)]).double().unsqueeze(1).expand(-1, len(x), -1) * Z**0.5
    gap = exact(model, x) - elbo(model.draw(x, shifted, wider, units))["elbo"]
    q = torch.distributions.Normal(shifted, (0.5 * wider).exp())
    p = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    assert torch.allclose(gap, torch.distributions.kl_divergence(q, p).sum(-1), atol=1e-5)


def test_a_bound_of_many_samples_is_the_same_in_any_chunks(model, monkeypatch):
    x = points(model, 4)
    torch.manual_seed(3)
    whole = model.log_likelihood(x, 64)
    monkeypatch.setattr(model, "rows", 8)
    torch.manual_seed(3)
    assert torch.allclose(model.log_likelihood(x, 64), whole, atol=1e-9)


def test_the_likelihood_metric_reports_the_exact_value(model):
    class Points:
        binarise = "none"
        x = points(model, 100)

        def size(self, split):
            return 100

        def set(self, split):
            return self

        def fetch(self, rows):
            return {"point": self.x[rows]}

    report = Likelihood(samples=10)(model, Points(), torch.device("cpu"))
    assert abs(report.values["iw_10"] - exact(model, Points.x).mean().item()) < 1e-5
    assert report.values["active_units"] == 3
