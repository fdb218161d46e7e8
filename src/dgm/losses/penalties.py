"""What is added to a critic's loss so that its gradient stays bounded: unreduced, [B]. They need its double derivative.

Shapes: B batch, *E event.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

Critic = Callable[[Tensor], Tensor]
Weight = Annotated[float, Ge(0)]


def gradient_norm(critic: Critic, x: Tensor) -> Tensor:
    """|d critic / d x| of each image, over all its pixels: [B, *E] -> [B]."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.flatten(1).norm(2, 1)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, weight: Weight = 10.0, centre: Weight = 1.0) -> Tensor:
    """weight (|gradient| - centre)^2 between real and generated images (Gulrajani et al., 2017, eq. 3).

    One-centred as published; `centre = 0` as Thanh-Tung et al. (2019).
    """
    alpha = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    return weight * (gradient_norm(critic, alpha * real + (1 - alpha) * fake) - centre) ** 2


def r1(critic: Critic, real: Tensor, fake: Tensor, weight: Weight = 10.0) -> Tensor:
    """weight / 2 |gradient|^2 at real images (Mescheder et al., 2018, eq. 9)."""
    return weight / 2 * gradient_norm(critic, real) ** 2


def r2(critic: Critic, real: Tensor, fake: Tensor, weight: Weight = 10.0) -> Tensor:
    """weight / 2 |gradient|^2 at generated images (Mescheder et al., 2018, eq. 10)."""
    return weight / 2 * gradient_norm(critic, fake) ** 2
