"""Differentiable augmentation of what a critic sees. Shapes: B batch, C, H, W image."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from dgm.images import signed, unsigned

Share = Annotated[float, Ge(0), Le(1)]


class DiffAugment(nn.Module):
    """Zhao et al. (2020), sec. 3.2 and app. A: every image, real or generated, its own change, with its gradient.

    colour: brightness by up to 0.5 of the signed range, saturation by 0 to 2, contrast by 0.5 to 1.5. translation: up
    to that share of a side; what comes in is grey. cutout: a grey rectangle of that share of both sides. 0 leaves one
    out.
    """

    def __init__(self, colour: bool = True, translation: Share = 0.125, cutout: Share = 0.5) -> None:
        super().__init__()
        self.colour, self.translation, self.cutout = colour, translation, cutout

    def forward(self, x: Tensor) -> Tensor:
        """Images in 0..1, or beyond: [B, C, H, W] -> the same."""
        if x.dim() != 4:
            raise ValueError(f"model.augment changes images, not points {list(x.shape[1:])}; set model/augment=null")
        x = signed(x)
        if self.colour:
            x = recoloured(x, uniform(x) - 0.5, 2 * uniform(x), uniform(x) + 0.5)
        if self.translation:
            x = moved(x, *(whole_steps(x, side, self.translation) for side in x.shape[2:]))
        if self.cutout:
            x = cut(x, self.cutout, uniform(x), uniform(x))
        return unsigned(x)


def uniform(x: Tensor) -> Tensor:
    """One number in 0..1 for each image: [B, 1, 1, 1]."""
    return torch.rand(len(x), 1, 1, 1, device=x.device)


def whole_steps(x: Tensor, side: int, share: float) -> Tensor:
    """As many pixels for each image, up to a share of the side in either direction: [B, 1, 1, 1]."""
    most = int(side * share + 0.5)
    return torch.randint(-most, most + 1, (len(x), 1, 1, 1), device=x.device)


def recoloured(x: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Each added or multiplied about the mean of a pixel's colours, and of the image: signed [B, C, H, W]."""
    x = x + brightness
    x = torch.lerp(x.mean(1, keepdim=True), x, saturation)
    return torch.lerp(x.mean((1, 2, 3), keepdim=True), x, contrast)


def moved(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image shifted by its own number of pixels; 0 comes in: [B, C, H, W]."""
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) - down
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1) - right
    padded = F.pad(x, (1, 1, 1, 1))  # what lies outside is read from the margin
    rows, columns = (rows + 1).clamp(0, height + 1), (columns + 1).clamp(0, width + 1)
    return padded.gather(2, rows.expand(-1, x.shape[1], -1, width + 2)).gather(
        3, columns.expand(-1, x.shape[1], height, -1)
    )


def cut(x: Tensor, share: float, down: Tensor, right: Tensor) -> Tensor:
    """A rectangle of each image set to 0, its centre anywhere: [B, C, H, W]."""
    inside = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for dim, at in ((2, down), (3, right)):
        side, shape = x.shape[dim], [1, 1, 1, 1]
        size, shape[dim] = int(side * share + 0.5), side
        start = (at * (side + 1 - size % 2)).floor() - size // 2
        here = torch.arange(side, device=x.device).view(shape)
        inside = inside & (here >= start) & (here < start + size)
    return x.masked_fill(inside, 0.0)
