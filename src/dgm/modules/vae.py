"""The variational autoencoder and all its relatives that differ in the objective or the likelihood only.

Shapes: B batch, K posterior samples per image, Z latent dimensions, N samples.
"""

import math
from collections.abc import Callable
from typing import Annotated, Protocol

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.distributions import precise, reparameterise
from dgm.losses import Terms
from dgm.losses.variational import Draw, log_weights
from dgm.modules.base import MakeOptimizer, MakeScheduler, Model, met


class Likelihood(Protocol):
    """p(x | decoder output)."""

    levels: int

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """[B, ...], [K, B, ...] -> [K, B]."""
        ...

    def mean(self, output: Tensor) -> Tensor:
        """Any shape -> the same."""
        ...


class VAE(Model):
    """Kingma & Welling (2014): an encoder q(z | x), a decoder p(x | z), a standard normal prior."""

    likelihood_kind = "lower bound"
    asked = "mean"  # of the likelihood
    rows = 16_384  # decoded at once when a bound takes many samples: bounds its memory

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        loss: Callable[[Draw], Terms],
        optimizer: MakeOptimizer,
        latent: Annotated[int, Ge(1)],
        samples: Annotated[int, Ge(1)] = 1,
        scheduler: MakeScheduler | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, met(likelihood, self.asked)
        self.loss = loss
        self.latent, self.samples = latent, samples
        self.levels = likelihood.levels

    def objective(self, x: Tensor, label: Tensor | None = None) -> Terms:
        """x: [B, ...], labels [B] where p(x | z, label) is modelled -> terms [B]."""
        mu, logvar = self.posterior(x)
        return self.loss(self.draw(x, mu, logvar, torch.randn(self.samples, *mu.shape, device=mu.device), label))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: [B, ...] -> mu, logvar of q(z | x): [B, Z] each."""
        mu, logvar = precise(self.encoder(x)).chunk(2, -1)
        return mu, logvar

    def draw(self, x: Tensor, mu: Tensor, logvar: Tensor, eps: Tensor, label: Tensor | None = None) -> Draw:
        """x: [B, ...], mu, logvar: [B, Z], noise eps: [K, B, Z] -> K samples of the posterior and their fit.

        An objective that changes with the updates is evaluated as at their end, or no two epochs could be compared.
        """
        z = reparameterise(mu, logvar, eps)
        step = self.step if self.training else torch.full_like(self.step, math.inf)
        return Draw(self.fit(x, z, label), z, mu, logvar, step, self.data_size)

    def fit(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x | z): [B, ...], [K, B, Z] -> [K, B]."""
        return self.likelihood.log_prob(x, precise(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2]))

    def encode(self, x: Tensor) -> Tensor:
        """[B, ...] -> posterior means [B, Z]."""
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """[B, Z] -> expected images [B, ...]."""
        return self.likelihood.mean(self.decoder(z))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Decode n draws of the prior: -> [N, ...] expected images."""
        z = torch.randn(n, self.latent, generator=generator)
        return self.decode(z.to(self.device))

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, samples: int, label: Tensor | None = None) -> Tensor:
        """log 1/K sum_k w_k, a lower bound on log p(x) that tightens with K (Burda et al., 2016): [B, ...] -> [B]."""
        mu, logvar = self.posterior(x)
        size = max(1, self.rows // len(x))
        parts = []
        for start in range(0, samples, size):
            eps = torch.randn(min(size, samples - start), *mu.shape, device=mu.device)
            parts.append(log_weights(self.draw(x, mu, logvar, eps, label)).logsumexp(0))
        return torch.stack(parts).logsumexp(0) - math.log(samples)
