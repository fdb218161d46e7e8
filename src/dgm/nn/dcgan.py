"""DCGAN after its guidelines, for images of any size from 8 x 8 up. Shapes: B batch, C, H, W image, Z latent."""

import itertools
import math
from collections.abc import Callable
from typing import Annotated, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dgm.images import signed, unsigned
from dgm.nn.conv import Norm, Shape, levels, no_norm
from dgm.nn.mlp import Size


class Crop(nn.Module):
    """The upper left part: doubling gives one row or column too many where the size is odd."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H', W'] -> [B, C, H, W]."""
        return x[:, :, : self.size[0], : self.size[1]]


def widths(shape: list[int], width: int) -> list[int]:
    """Channels of each level below the image: doubling, at most eight times the width."""
    return [width * min(8, 2**i) for i in range(len(levels(shape)) - 1)]


class Generator(nn.Module):
    """Radford et al. (2016), fig. 1: transposed convolutions of stride 2, batch normalisation, ReLU, tanh.

    A condition h: [B, E] of `condition` numbers is put beside z.
    """

    def __init__(
        self,
        shape: Shape,
        latent: Size,
        width: Size = 64,
        norm: Norm = nn.BatchNorm2d,
        condition: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        sizes, channels = levels(shape)[::-1], widths(shape, width)[::-1]
        first = channels[0] * math.prod(sizes[0])
        layers: list[nn.Module] = [nn.Linear(latent + condition, first), nn.Unflatten(1, (channels[0], *sizes[0]))]
        for i, (small, large) in enumerate(itertools.pairwise(sizes)):
            layers += [norm(channels[i]), nn.ReLU()]
            after = [*channels[1:], shape[0]][i]
            layers.append(nn.ConvTranspose2d(channels[i], after, 4, stride=2, padding=1))
            if large != (2 * small[0], 2 * small[1]):
                layers.append(Crop(large))
        self.layers = nn.Sequential(*layers, nn.Tanh()).apply(small_weights)

    def forward(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """z: [B, Z], h: [B, E] -> images in 0..1 [B, C, H, W]."""
        return unsigned(self.layers(z if h is None else torch.cat([z, h], 1)))


class Critic(nn.Module):
    """Radford et al. (2016): convolutions of stride 2, leaky ReLU, no normalisation of the first; one logit.

    `spectral` normalises every layer's largest singular value instead (Miyato et al., 2018). A condition is projected
    on the features (Miyato & Koyama, 2018, eq. 3). With `guesses` of labels there are so many logits more.
    """

    def __init__(
        self,
        shape: Shape,
        width: Size = 64,
        norm: Norm = no_norm,
        spectral: bool = False,
        slope: Annotated[float, Ge(0)] = 0.2,
        condition: Annotated[int, Ge(0)] = 0,
        guesses: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else nn.Identity()
        sizes, layers, before = levels(shape), list[nn.Module](), shape[0]
        for i, after in enumerate(widths(shape, width)):
            padding = (1 + sizes[i][0] % 2, 1 + sizes[i][1] % 2)
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=padding)
            layers += [wrap(convolution.apply(small_weights)), Crop(sizes[i + 1])]
            layers += [norm(after)] * (i > 0) + [nn.LeakyReLU(slope)]
            before = after
        features = before * math.prod(sizes[-1])
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.last = wrap(nn.Linear(features, 1 + guesses).apply(small_weights))
        self.projection = wrap(nn.Linear(condition, features).apply(small_weights)) if condition else None

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: images in 0..1 [B, C, H, W], h: [B, E] -> logits [B], or [B, 1 + guesses]."""
        features = self.layers(signed(x))
        logits = self.last(features).squeeze(1)
        return logits if self.projection is None else logits + (self.projection(h) * features).sum(1)


def small_weights(layer: nn.Module) -> None:
    """N(0, 0.02) (Radford et al., 2016, sec. 4), and 1 + N(0, 0.02) for scales of a normalisation."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        nn.init.zeros_(cast(Tensor, layer.bias))
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
