"""From grey to binary images, all uint8 0 or 255. Shapes: [B, C, H, W]."""

from typing import Literal

import torch
from torch import Tensor

Binarisation = Literal["none", "threshold", "dynamic", "static"]


def threshold(image: Tensor) -> Tensor:
    """White where the level is above the middle."""
    return (image > 127).to(torch.uint8) * 255


def stochastic(image: Tensor, generator: torch.Generator) -> Tensor:
    """White with probability level / 255, exactly: P(r < level) for r uniform over 0..254."""
    noise = torch.randint(0, 255, image.shape, dtype=torch.uint8, generator=generator)
    return noise.lt_(image).mul_(255)
