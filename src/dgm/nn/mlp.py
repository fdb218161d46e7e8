"""Fully connected networks for images [B, C, H, W] and points [B, D]. B batch, Z latent dimensions."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

Size = Annotated[int, Ge(1)]


def mlp(sizes: list[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Linear layers with an activation between them, none after the last.

    Weights as Glorot & Bengio (2010, eq. 16), biases zero, as in Burda et al. (2016): with torch's own smaller
    weights fewer latent units become active.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        linear = nn.Linear(before, after)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    """x: [B, *shape] -> [B, heads * Z]; no hidden layer makes it linear."""

    def __init__(
        self,
        shape: Annotated[list[Size], MinLen(1)],
        latent: Size,
        hidden: list[Size],
        heads: Size = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.layers = mlp([math.prod(shape), *hidden, heads * latent], activation)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, *shape] -> [B, heads * Z]."""
        return self.layers(x.flatten(1))


class Decoder(nn.Module):
    """z: [B, Z] -> [B, *shape]; no hidden layer makes it linear. `output` comes last, e.g. a sigmoid.

    A condition h: [B, E] of `condition` numbers is put beside z.
    """

    def __init__(
        self,
        shape: Annotated[list[Size], MinLen(1)],
        latent: Size,
        hidden: list[Size],
        activation: Callable[[], nn.Module] = nn.ReLU,
        output: Callable[[], nn.Module] = nn.Identity,
        condition: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.layers = mlp([latent + condition, *hidden, math.prod(shape)], activation).append(output())

    def forward(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """z: [B, Z], h: [B, E] -> [B, *shape]."""
        return self.layers(z if h is None else torch.cat([z, h], 1)).unflatten(-1, self.shape)


class Critic(nn.Module):
    """x: [B, *shape] -> one logit each, [B]. A condition is put beside x (Mirza & Osindero, 2014).

    With `guesses` of labels: -> [B, 1 + guesses].
    """

    def __init__(
        self,
        shape: Annotated[list[Size], MinLen(1)],
        hidden: list[Size],
        slope: Annotated[float, Ge(0)] = 0.2,
        condition: Annotated[int, Ge(0)] = 0,
        guesses: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.layers = mlp([math.prod(shape) + condition, *hidden, 1 + guesses], partial(nn.LeakyReLU, slope))

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: [B, *shape], h: [B, E] -> [B], or [B, 1 + guesses]."""
        flat = x.flatten(1)
        return self.layers(flat if h is None else torch.cat([flat, h], 1)).squeeze(1)
