"""The residual pair of spectrally normalised GANs, for images of any size from 8 x 8 up.

Shapes: B batch, C, H, W image, F features, Z latent dimensions, E condition.
"""

import math
from collections.abc import Callable
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dgm.images import signed, unsigned
from dgm.nn.conv import Shape, levels
from dgm.nn.mlp import Size

Wrap = Callable[[nn.Module], nn.Module]


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scales and shifts a condition gives (de Vries et al., 2017; Miyato & Koyama, 2018).

    Without one they are weights, as usual.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not condition)
        self.scale = nn.Linear(condition, channels, bias=False) if condition else None
        self.shift = nn.Linear(condition, channels, bias=False) if condition else None
        if self.scale is not None and self.shift is not None:
            nn.init.normal_(self.scale.weight, 1.0, 0.02)
            nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """x: [B, F, H, W], h: one-hot [B, E] -> the shape of x."""
        normal = self.norm(x)
        if self.scale is None or self.shift is None:
            return normal
        return normal * self.scale(h)[:, :, None, None] + self.shift(h)[:, :, None, None]


class Up(nn.Module):
    """Miyato et al. (2018), fig. 8b: a residual block that enlarges the image to `size`."""

    def __init__(self, width: int, size: tuple[int, int], condition: int) -> None:
        super().__init__()
        self.size = size
        self.norms = nn.ModuleList(ConditionalNorm(width, condition) for _ in range(2))
        self.first, self.second = convolution(width, width, 3), convolution(width, width, 3)
        self.shortcut = convolution(width, width, 1, gain=1.0)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """[B, F, H', W'] -> [B, F, *size]."""
        first, second = self.norms
        inner = self.first(F.interpolate(first(x, h).relu(), self.size))
        return self.second(second(inner, h).relu()) + self.shortcut(F.interpolate(x, self.size))


class Generator(nn.Module):
    """Miyato et al. (2018), table 4: 256 features at every level, from about 4 x 4 to the image.

    A condition gives scales and shifts of every normalisation but the last.
    """

    def __init__(self, shape: Shape, latent: Size, width: Size = 256, condition: Annotated[int, Ge(0)] = 0) -> None:
        super().__init__()
        smallest, *larger = levels(shape)[::-1]
        self.first = nn.Linear(latent, width * math.prod(smallest))
        nn.init.xavier_uniform_(self.first.weight)
        self.start = nn.Unflatten(1, (width, *smallest))
        self.blocks = nn.ModuleList(Up(width, size, condition) for size in larger)
        image = convolution(width, shape[0], 3, gain=1.0)
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), image, nn.Tanh())

    def forward(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """z: [B, Z], h: [B, E] -> images in 0..1 [B, C, H, W]."""
        x = self.start(self.first(z))
        for block in self.blocks:
            x = block(x, h)
        return unsigned(self.last(x))


class Down(nn.Module):
    """Miyato et al. (2018), fig. 8a: a residual block, which halves the image where `down`. The `first` one does not
    rectify the image itself."""

    def __init__(self, before: int, width: int, down: bool, first: bool, wrap: Wrap) -> None:
        super().__init__()
        self.down, self.rectified = down, not first
        self.first, self.second = wrap(convolution(before, width, 3)), wrap(convolution(width, width, 3))
        learnt = down or before != width
        self.shortcut = wrap(convolution(before, width, 1, gain=1.0)) if learnt else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, F', H, W] -> [B, F, H / 2, W / 2] rounded up, or [B, F, H, W]."""
        inner = self.second(self.first(x.relu() if self.rectified else x).relu())
        return self.pooled(inner) + self.pooled(self.shortcut(x))

    def pooled(self, x: Tensor) -> Tensor:
        """Mean of 2 x 2 pixels, of those there are at the edge."""
        return F.avg_pool2d(x, 2, ceil_mode=True) if self.down else x


class Critic(nn.Module):
    """Miyato et al. (2018), table 4: down to about 8 x 8, two blocks at that size, the sum over all places.

    `spectral` normalises every layer's largest singular value. A condition is projected on the features (Miyato &
    Koyama, 2018, eq. 3). With `guesses` of labels there are so many logits more.
    """

    def __init__(
        self,
        shape: Shape,
        width: Size = 128,
        spectral: bool = True,
        condition: Annotated[int, Ge(0)] = 0,
        guesses: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        wrap: Wrap = spectral_norm if spectral else nn.Identity()
        halved = max(1, len(levels(shape)) - 2)
        self.blocks = nn.Sequential(
            *(Down(width if i else shape[0], width, i < halved, i == 0, wrap) for i in range(halved + 2))
        )
        self.last = wrap(linear(width, 1 + guesses))
        self.projection = wrap(linear(condition, width)) if condition else None

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: images in 0..1 [B, C, H, W], h: [B, E] -> logits [B], or [B, 1 + guesses]."""
        features = self.blocks(signed(x)).relu().sum((2, 3))
        logits = self.last(features).squeeze(1)
        return logits if self.projection is None else logits + (self.projection(h) * features).sum(1)


def convolution(before: int, after: int, size: int, gain: float = math.sqrt(2)) -> nn.Conv2d:
    """Of odd size, which keeps the image's; weights as Glorot & Bengio (2010, eq. 16), times a gain."""
    layer = nn.Conv2d(before, after, size, padding=size // 2)
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(before: int, after: int) -> nn.Linear:
    """Weights as Glorot & Bengio (2010, eq. 16)."""
    layer = nn.Linear(before, after)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
