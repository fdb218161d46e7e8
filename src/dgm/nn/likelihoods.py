"""What a decoder's output says about an image: p(x | output), one number per pixel, plus a scale where there is one.

`levels` tells how a log-likelihood becomes bits per dimension: 0 for probabilities of discrete values,
the number of levels of the data for a density. Shapes: B batch, K samples per image, *E event.
"""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from dgm.distributions import (
    bernoulli_log_prob,
    discretized_logistic_log_prob,
    gaussian_log_prob,
    total,
)

SMALLEST = math.log(1 / 255)  # a learned scale finer than one level would make the density unbounded


class Bernoulli(nn.Module):
    """Binary pixels with p = sigmoid(output). On grey values the bound is a cross-entropy, not a likelihood."""

    levels = 0
    binary = True
    joint = False

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, *E], output: [..., B, *E] -> [..., B] nats."""
        return total(bernoulli_log_prob(x, output), x.dim() - 1)

    def mean(self, output: Tensor) -> Tensor:
        """Expected image in 0..1, any shape."""
        return output.sigmoid()

    def outputs(self, channels: int) -> int:
        """Numbers per pixel."""
        return channels

    def conditional(self, output: Tensor, pixel: Tensor, colour: int) -> Tensor:
        """Log-probabilities of 0 and 1: [N, C], [N, C] -> [N, 2]."""
        logit = output[:, colour]
        return torch.stack([nn.functional.logsigmoid(-logit), nn.functional.logsigmoid(logit)], 1)


class Gaussian(nn.Module):
    """N(output, scale^2) with one scale for all pixels, fixed or learned (Rybkin et al., 2021, sec. 3.1)."""

    levels = 256
    binary = False

    def __init__(self, scale: Annotated[float, Gt(0)] = 1.0, learned: bool = False) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learned)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, *E], output: [..., B, *E] -> [..., B] nats, a density over unit values."""
        return total(gaussian_log_prob(x, output, 2 * self.log_scale.clamp_min(SMALLEST)), x.dim() - 1)

    def mean(self, output: Tensor) -> Tensor:
        """Expected image or point, any shape."""
        return output


class DiscretizedLogistic(nn.Module):
    """A logistic around sigmoid(output), integrated over the 256 levels; one learned scale per channel.

    Kingma et al., 2016 (IAF), sec. 5.2 and Salimans et al., 2017, eq. 2.
    """

    levels = 0
    binary = False

    def __init__(self, channels: Annotated[int, Gt(0)], scale: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), math.log(scale)))

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, C, H, W], output: [..., B, C, H, W] -> [..., B] nats."""
        log_scale = self.log_scale.clamp_min(SMALLEST)
        return total(discretized_logistic_log_prob(x, output.sigmoid(), log_scale), x.dim() - 1)

    def mean(self, output: Tensor) -> Tensor:
        """Centre of the logistic in 0..1, any shape."""
        return output.sigmoid()


class Categorical(nn.Module):
    """Any distribution over the levels of each value: a softmax (van den Oord et al., 2016, sec. 3)."""

    levels = 0
    binary = False
    joint = False

    def __init__(self, values: Annotated[int, Ge(2)] = 256) -> None:
        super().__init__()
        self.values = values

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, C, H, W], output: [B, C L, H, W] -> [B] nats."""
        logits = output.unflatten(1, (x.shape[1], self.values)).movedim(2, 1)
        target = (x * (self.values - 1)).round().long()
        return -nn.functional.cross_entropy(logits, target, reduction="none").flatten(1).sum(1)

    def outputs(self, channels: int) -> int:
        """Numbers per pixel."""
        return channels * self.values

    def conditional(self, output: Tensor, pixel: Tensor, colour: int) -> Tensor:
        """Log-probabilities of the levels: [N, C L], [N, C] -> [N, L]."""
        return output[:, colour * self.values : (colour + 1) * self.values].log_softmax(1)
