"""The autoencoder: x -> z -> x_hat, no noise anywhere. Shapes: B batch, Z latent dimensions."""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from dgm.distributions import precise
from dgm.losses import Terms
from dgm.losses.reconstruction import Reconstruction
from dgm.modules.base import MakeOptimizer, MakeScheduler, Model


class Autoencoder(Model):
    """Minimises a distance between the input and its reconstruction through a bottleneck of Z numbers."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        loss: Callable[[Reconstruction], Terms],
        optimizer: MakeOptimizer,
        latent: Annotated[int, Ge(1)],
        scheduler: MakeScheduler | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.encoder, self.decoder = encoder, decoder
        self.loss = loss
        self.latent = latent

    def objective(self, x: Tensor) -> Terms:
        """x: [B, ...] -> terms [B]."""
        return self.loss(Reconstruction(x, precise(self.decode(self.encode(x)))))

    def encode(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, Z]."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """[B, Z] -> [B, ...]."""
        return self.decoder(z)
