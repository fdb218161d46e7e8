"""Strided convolutional encoder and its mirror image, for images of any size from 8 x 8 up.

Each level halves the image, rounding up, as long as the shorter side stays at least four pixels long.
Shapes: B batch, C channels, H height, W width, Z latent dimensions.
"""

import itertools
import math
from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Len
from torch import Tensor, nn

from dgm.nn.mlp import Size

Shape = Annotated[list[Size], Len(3, 3)]
Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Group normalisation in up to eight groups: it does not couple the images of a batch."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def no_norm(channels: int) -> nn.Module:
    """No normalisation."""
    return nn.Identity()


def levels(shape: list[int]) -> list[tuple[int, int]]:
    """Image sizes from the full one to the smallest: at least two of them."""
    _, h, w = shape
    if min(h, w) < 8:
        raise ValueError(f"shape={shape}: a convolutional network needs images of at least 8 x 8; use an MLP")
    sizes = [(h, w)]
    while math.ceil(min(sizes[-1]) / 2) >= 4:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


def widths(shape: list[int], width: int) -> list[int]:
    """Channels of each level below the image: doubling, at most four times the width."""
    return [width * min(4, 2**i) for i in range(len(levels(shape)) - 1)]


class Encoder(nn.Module):
    """x: [B, C, H, W] -> [B, heads * Z]."""

    def __init__(
        self,
        shape: Shape,
        latent: Size,
        width: Size,
        heads: Size = 1,
        hidden: Annotated[int, Ge(1)] = 256,
        norm: Norm = group_norm,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = shape[0]
        for after in widths(shape, width):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), norm(after), activation()]
            before = after
        flat = before * math.prod(levels(shape)[-1])
        head = [nn.Flatten(), nn.Linear(flat, hidden), activation(), nn.Linear(hidden, heads * latent)]
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W] -> [B, heads * Z]."""
        return self.layers(x)


class Decoder(nn.Module):
    """z: [B, Z] -> [B, C, H, W]. `output` comes last, e.g. a sigmoid."""

    def __init__(
        self,
        shape: Shape,
        latent: Size,
        width: Size,
        hidden: Annotated[int, Ge(1)] = 256,
        norm: Norm = group_norm,
        activation: Callable[[], nn.Module] = nn.ReLU,
        output: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        sizes, channels = levels(shape)[::-1], widths(shape, width)[::-1]
        flat = channels[0] * math.prod(sizes[0])
        layers: list[nn.Module] = [
            nn.Linear(latent, hidden),
            activation(),
            nn.Linear(hidden, flat),
            activation(),
        ]
        layers.append(nn.Unflatten(1, (channels[0], *sizes[0])))
        for i, (small, large) in enumerate(itertools.pairwise(sizes)):
            after = [*channels[1:], shape[0]][i]
            odd = (large[0] - (2 * small[0] - 1), large[1] - (2 * small[1] - 1))
            layers.append(nn.ConvTranspose2d(channels[i], after, 3, stride=2, padding=1, output_padding=odd))
            if i < len(channels) - 1:
                layers += [norm(after), activation()]
        self.layers = nn.Sequential(*layers, output())

    def forward(self, z: Tensor) -> Tensor:
        """z: [B, Z] -> [B, C, H, W]."""
        return self.layers(z)
