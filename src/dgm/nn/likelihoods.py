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
    bernoulli_cross_entropy,
    discretized_logistic_log_prob,
    gaussian_log_prob,
    total,
)

FINEST = -7.0  # of a component of a mixture, whose probabilities stay bounded
WIDE = math.log(0.25)  # the scale of a component where the network says 0
SMALLEST = 1 / 255  # a learned scale finer than one level would make the density unbounded


def softly_bounded(free: Tensor) -> Tensor:
    """Log of a scale that is learned, log(exp(free) + SMALLEST): any shape -> the same (Rybkin et al., 2021, sec. 4).

    A hard bound would leave a scale that once reaches it without a gradient.
    """
    return torch.logaddexp(free, free.new_tensor(math.log(SMALLEST)))


def free(scale: float) -> float:
    """What `softly_bounded` makes the log of a scale of. Errors: ValueError where it is too small to be learned."""
    if scale <= SMALLEST:
        raise ValueError(f"scale={scale}: a learned scale stays above one level, 1/255; begin with a larger one")
    return math.log(scale - SMALLEST)


class Bernoulli(nn.Module):
    """Binary pixels with p = sigmoid(output). On grey values the bound is a cross-entropy, not a likelihood."""

    levels = 0
    binary = True
    joint = False

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, *E], output: [..., B, *E] -> [..., B] nats."""
        return -total(bernoulli_cross_entropy(x, output), x.dim() - 1)

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
        self.learned = learned
        self.free = nn.Parameter(torch.tensor(free(scale) if learned else math.log(scale)), requires_grad=learned)

    @property
    def log_scale(self) -> Tensor:
        """Log of the scale: []."""
        return softly_bounded(self.free) if self.learned else self.free

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, *E], output: [..., B, *E] -> [..., B] nats, a density over unit values."""
        return total(gaussian_log_prob(x, output, 2 * self.log_scale), x.dim() - 1)

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
        self.free = nn.Parameter(torch.full((channels, 1, 1), free(scale)))

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, C, H, W], output: [..., B, C, H, W] -> [..., B] nats."""
        log_prob = discretized_logistic_log_prob(x, output.sigmoid(), softly_bounded(self.free))
        return total(log_prob, x.dim() - 1)

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


class LogisticMixture(nn.Module):
    """A mixture of discretised logistics per pixel, whose colours depend linearly on those before them.

    Salimans et al. (2017), sec. 2.1 and 2.2, over `values` levels, to which x is rounded.
    Shapes: M components, R = C (C - 1) / 2 coefficients.
    """

    levels = 0
    binary = False
    joint = True

    def __init__(self, components: Annotated[int, Ge(1)] = 10, values: Annotated[int, Ge(2)] = 256) -> None:
        super().__init__()
        self.components, self.values = components, values

    def outputs(self, channels: int) -> int:
        """Numbers per pixel: a weight, and for each colour a mean, a scale and a coefficient for each colour before."""
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """x: [B, C, H, W], output: [B, P, H, W] -> [B] nats."""
        weights, parts = self._parts(output, x.shape[1])
        x = (x * (self.values - 1)).round() / (self.values - 1)
        per_component = weights + sum(self._colour(parts, x, c, x[:, None, c]) for c in range(x.shape[1]))
        return per_component.logsumexp(1).flatten(1).sum(1)

    def conditional(self, output: Tensor, pixel: Tensor, colour: int) -> Tensor:
        """Log-probabilities of the levels: [N, P], [N, C] -> [N, L]."""
        weights, parts = self._parts(output, pixel.shape[1])
        for c in range(colour):  # what the colours before say of the component
            weights = weights + self._colour(parts, pixel, c, pixel[:, None, c])
        every = torch.linspace(0, 1, self.values, dtype=output.dtype, device=output.device)[None, None]
        spread = [part[..., None] for part in parts]
        of_levels = self._colour(spread, pixel[..., None], colour, every)  # [N, M, L]
        return (weights.log_softmax(1)[..., None] + of_levels).logsumexp(1)

    def _parts(self, output: Tensor, channels: int) -> tuple[Tensor, list[Tensor]]:
        """[B, P, ...] -> log-weights [B, M, ...]; means and log-scales [B, M, C, ...], coefficients [B, M, R, ...]."""
        per_component = output.unflatten(1, (self.components, -1))
        weights, *parts = per_component.split([1, channels, channels, channels * (channels - 1) // 2], 2)
        return weights[:, :, 0].log_softmax(1), parts

    def _colour(self, parts: list[Tensor], x: Tensor, colour: int, value: Tensor) -> Tensor:
        """log P(value of a colour | colours before, component): value [B, 1, ...] -> [B, M, ...]."""
        means, scales, coefficients = parts
        first = colour * (colour - 1) // 2
        mean = means[:, :, colour] + 0.5  # an output of 0 is the middle of the range
        for before in range(colour):
            mean = mean + coefficients[:, :, first + before].tanh() * x[:, None, before]
        log_scale = (scales[:, :, colour] + WIDE).clamp(min=FINEST)
        return discretized_logistic_log_prob(value, mean, log_scale, self.values)
