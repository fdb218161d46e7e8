"""A VAE whose decoder draws pixel by pixel. Shapes: B batch, K posterior samples, Z latent dimensions, N samples."""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.distributions import precise
from dgm.losses import Terms
from dgm.losses.variational import Draw
from dgm.modules.autoregressive import Conditional, autoregression, complete, one_hot
from dgm.modules.base import MakeOptimizer, MakeScheduler, conditioned
from dgm.modules.vae import VAE


class PixelVAE(VAE):
    """Gulrajani et al. (2017), one level: p(x | z) = prod_i p(x_i | x_<i, z).

    decoder: codes -> `features` maps, which condition every layer of the network, beside the label of a conditional
    model. Where the network can do without the code, the KL says so: its posterior falls back to the prior (sec. 3.1).
    """

    likelihood: Conditional
    asked = "conditional"
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
        classes: Annotated[int, Ge(0)] = 0,
        conditional: bool = False,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, loss, optimizer, latent, samples, scheduler)  # type: ignore[arg-type]
        self.classes, self.shape = conditioned(classes, conditional), tuple(shape)
        self.network = autoregression(network, likelihood, shape, features + self.classes)

    def fit(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x | z), or log p(x | z, label): [B, ...], [K, B, Z], [B] -> [K, B]."""
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        labels = None if label is None else label.repeat(len(z))
        output = precise(self.network(repeated, self.condition(z.flatten(0, 1), labels)))
        return self.likelihood.log_prob(repeated, output).unflatten(0, z.shape[:2])

    def condition(self, z: Tensor, label: Tensor | None) -> Tensor:
        """The maps of a code and, where they are wanted, of labels [B]: [B, Z] -> [B, E, H, W]."""
        maps = self.decoder(z)
        if not self.classes:
            return maps
        return torch.cat([maps, one_hot(label, self.classes, maps).expand(-1, -1, *maps.shape[2:])], 1)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Pixel by pixel the median of its distribution: [B, Z] -> [B, ...], without chance."""
        return self._drawn(z, torch.full((len(z), *self.shape), 0.5).to(z), label)

    def sample(self, n: int, generator: torch.Generator | None = None, label: Tensor | None = None) -> Tensor:
        """A code of the prior, then the pixels given it: -> [N, ...]; labels, where wanted, may be given."""
        z = torch.randn(n, self.latent, generator=generator)
        noise = torch.rand(n, *self.shape, generator=generator)
        label = self.draw_labels(n, generator) if label is None else label
        like = next(self.parameters())
        return self._drawn(z.to(like), noise.to(like), label)

    @torch.no_grad()
    def _drawn(self, z: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        nothing = torch.zeros_like(noise)
        return complete(self.network, self.likelihood, nothing, nothing > 0, noise, self.condition(z, label))
