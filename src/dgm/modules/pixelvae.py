"""A VAE whose decoder draws pixel by pixel. Shapes: B batch, K posterior samples, Z latent dimensions, N samples."""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.losses import Terms
from dgm.losses.variational import Draw
from dgm.modules.autoregressive import Conditional, autoregression, complete
from dgm.modules.base import MakeOptimizer, MakeScheduler
from dgm.modules.vae import VAE


class PixelVAE(VAE):
    """Gulrajani et al. (2017), one level: p(x | z) = prod_i p(x_i | x_<i, z).

    decoder: codes -> `features` maps, which condition every layer of the network. Where the network can do without
    the code, the KL says so: its posterior falls back to the prior (sec. 3.1).
    """

    likelihood: Conditional  # type: ignore[assignment]
    rows = 1024  # every image takes all feature maps of the network

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        network: Callable[..., nn.Module],
        features: Annotated[int, Ge(1)],
        likelihood: Conditional,
        loss: Callable[[Draw], Terms],
        shape: list[int],
        optimizer: MakeOptimizer,
        latent: Annotated[int, Ge(1)],
        samples: Annotated[int, Ge(1)] = 1,
        scheduler: MakeScheduler | None = None,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, loss, optimizer, latent, samples, scheduler)  # type: ignore[arg-type]
        self.network, self.shape = autoregression(network, likelihood, shape, features), tuple(shape)

    def fit(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z): [B, ...], [K, B, Z] -> [K, B]."""
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        output = self.network(repeated, self.decoder(z.flatten(0, 1)))
        return self.likelihood.log_prob(repeated, output).unflatten(0, z.shape[:2])

    def decode(self, z: Tensor) -> Tensor:
        """Pixel by pixel the median of its distribution: [B, Z] -> [B, ...], without chance."""
        return self._drawn(z, torch.full((len(z), *self.shape), 0.5).to(z))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """A code of the prior, then the pixels given it: -> [N, ...]."""
        z = torch.randn(n, self.latent, generator=generator)
        noise = torch.rand(n, *self.shape, generator=generator)
        like = next(self.parameters())
        return self._drawn(z.to(like), noise.to(like))

    def _drawn(self, z: Tensor, noise: Tensor) -> Tensor:
        nothing = torch.zeros_like(noise)
        with torch.no_grad():
            return complete(self.network, self.likelihood, nothing, nothing > 0, noise, self.decoder(z))
