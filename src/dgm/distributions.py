"""Densities, divergences and reparameterisation; all values in nats.

Every function works element by element and broadcasts; `total` adds up the dimensions of one event.
Shapes: B batch, K samples per image, D latent dimensions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def total(values: Tensor, event: int) -> Tensor:
    """Sum over the last `event` dimensions: [..., *event] -> [...]."""
    return values.flatten(-event).sum(-1) if event > 1 else values.sum(-1)


def precise(output: Tensor) -> Tensor:
    """A network's output in single precision at least, whatever mixed precision made of it; any shape.

    A sum of nats over the pixels of an image loses whole nats in 8 bits.
    """
    return output.float() if output.dtype.itemsize < 4 else output


def reparameterise(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mu + sigma * eps (Kingma & Welling, 2014, eq. 4)."""
    return torch.addcmul(mu, (0.5 * logvar).exp(), eps)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) per dimension (Kingma & Welling, 2014, app. B)."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def gaussian_log_prob(x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log N(x; mu, exp(logvar)) per dimension."""
    return -0.5 * (LOG_2PI + logvar + (x - mu).square() * (-logvar).exp())


def standard_normal_log_prob(x: Tensor) -> Tensor:
    """log N(x; 0, 1) per dimension."""
    return -0.5 * (LOG_2PI + x.square())


def bernoulli_cross_entropy(x: Tensor, logits: Tensor) -> Tensor:
    """-x log p - (1 - x) log(1 - p) with p = sigmoid(logits); x in 0..1 and broadcast to the logits."""
    return F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")


def discretized_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int = 256) -> Tensor:
    """log P(x) of a logistic integrated over the level of x; the outer levels take the tails.

    Salimans et al., 2017 (PixelCNN++), eq. 2, with unit values x = k / (levels - 1). Sums to 1 over k.
    """
    half, inverse = 0.5 / (levels - 1), (-log_scale).exp()
    upper, lower = (x - mean + half) * inverse, (x - mean - half) * inverse
    # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - e^(l - u)), stable in both tails
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
    outer = torch.where(x < half, F.logsigmoid(upper), F.logsigmoid(-lower))
    return torch.where((x < half) | (x > 1 - half), outer, inner)
