"""Fully visible models: p(x) = prod_i p(x_i | x_<i), exact, trained by maximum likelihood.

Shapes: B batch, N samples, C colours, H height, W width, P outputs per pixel, L levels, E condition.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from dgm.distributions import precise
from dgm.losses import Terms
from dgm.modules.base import MakeOptimizer, MakeScheduler, Model, conditioned, met


class Conditional(Protocol):
    """p(x_i | what the network says at i), over L levels from 0 to 1."""

    levels: int
    joint: bool  # whether it models the colours of a pixel together

    def outputs(self, channels: int) -> int:
        """Numbers per pixel that it takes."""
        ...

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """[B, C, H, W], [B, P, H, W] -> [B]."""
        ...

    def conditional(self, output: Tensor, pixel: Tensor, colour: int) -> Tensor:
        """[N, P], a pixel [N, C] whose colours before `colour` are known -> log-probabilities of the levels [N, L]."""
        ...


class Autoregressive(Model):
    """A network whose output at a pixel depends on earlier ones only (`nn.masked`), and the conditional it feeds.

    Of a network with several members p(x) is the mean of theirs, a mixture; training takes them in turn (Germain et
    al., 2015, sec. 4.3).
    """

    likelihood_kind = "exact"

    def __init__(
        self,
        network: Callable[..., nn.Module],
        likelihood: Conditional,
        loss: Callable[[Tensor], Terms],
        shape: list[int],
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        classes: Annotated[int, Ge(0)] = 0,
        conditional: bool = False,
    ) -> None:
        super().__init__(optimizer, scheduler)
        met(likelihood, "conditional")
        self.classes = conditioned(classes, conditional)
        self.network = autoregression(network, likelihood, shape, self.classes)
        self.members = int(getattr(self.network, "members", 1))
        self.likelihood, self.shape = likelihood, tuple(shape)
        self.loss, self.levels = loss, likelihood.levels

    def objective(self, x: Tensor, label: Tensor | None = None) -> Terms:
        """x: [B, C, H, W], of a conditional model with labels [B] -> terms [B]."""
        if self.training and self.members > 1:
            return self.loss(self.log_p(self.updates % self.members, x, self.condition(label, x)))
        return self.loss(self.log_likelihood(x, label=label))

    def log_likelihood(self, x: Tensor, samples: int = 1, label: Tensor | None = None) -> Tensor:
        """log p(x), or log p(x | label), exact whatever the number of samples: [B, C, H, W] -> [B]."""
        h = self.condition(label, x)
        if self.members == 1:
            return self.likelihood.log_prob(x, precise(self.network(x, h)))
        each = torch.stack([self.log_p(member, x, h) for member in range(self.members)])
        return each.logsumexp(0) - math.log(self.members)

    def log_p(self, member: int, x: Tensor, h: Tensor | None) -> Tensor:
        """log p(x) of one member: [B, C, H, W], [B, E, 1, 1] -> [B]."""
        return self.likelihood.log_prob(x, precise(self.network(x, h, member=member)))

    def condition(self, label: Tensor | None, like: Tensor) -> Tensor | None:
        """Labels [B] as the network takes them, [B, E, 1, 1]; nothing where it takes none."""
        return one_hot(label, self.classes, like) if self.classes else None

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None, label: Tensor | None = None) -> Tensor:
        """Pixel by pixel: -> [N, C, H, W]; where labels [N] are wanted and not given, they are drawn."""
        like = next(self.parameters())
        noise = torch.rand(n, *self.shape, generator=generator).to(like)
        label = self.draw_labels(n, generator) if label is None else label
        x, h = torch.zeros_like(noise), self.condition(label, noise)
        if self.members == 1:
            return complete(self.network, self.likelihood, x, x > 0, noise, h)
        chosen = torch.randint(self.members, (n,), generator=generator).to(like.device)
        for member in chosen.unique().tolist():
            rows = chosen == member
            network, given = self.network.member(member), None if h is None else h[rows]  # type: ignore[operator]
            x[rows] = complete(network, self.likelihood, x[rows], x[rows] > 0, noise[rows], given)
        return x

    def complete(
        self, x: Tensor, known: Tensor, noise: Tensor, label: Tensor | None = None, cached: bool = True
    ) -> Tensor:
        """Draw what is not known of images, given what comes before it: [N, C, H, W] each -> [N, C, H, W].

        Of several members the first draws.
        """
        return complete(self.network, self.likelihood, x, known, noise, self.condition(label, x), cached)


def one_hot(label: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """Labels [B] -> [B, E, 1, 1]. Errors: ValueError where there are none."""
    if label is None:
        raise ValueError("this model is conditional: give it labels, or a run with model.conditional=false")
    return F.one_hot(label, classes).to(like)[:, :, None, None]


def autoregression(
    network: Callable[..., nn.Module], likelihood: Conditional, shape: list[int], condition: int
) -> nn.Module:
    """A network that says what the likelihood takes."""
    if len(shape) != 3:
        raise ValueError(f"shape={list(shape)}: autoregressive models take images [C, H, W]; choose other data")
    groups = 1 if likelihood.joint else shape[0]
    return network(shape=list(shape), outputs=likelihood.outputs(shape[0]), groups=groups, condition=condition)


@torch.no_grad()
def complete(
    network: Any,
    likelihood: Conditional,
    image: Tensor,
    known: Tensor,
    noise: Tensor,
    h: Tensor | None = None,
    cached: bool = True,
) -> Tensor:
    """Draw what is not `known`, in order, given all that is before it; known values stay.

    image, known (bool), noise (uniform in 0..1): [N, C, H, W] each -> [N, C, H, W]. The draw inverts the cumulative
    probabilities of a value's levels at its noise, so equal noise gives equal samples. `cached` takes the network's
    own walk, where it has one, instead of a whole pass for each value.
    """
    image, (_n, _channels, height, width) = image.clone(), image.shape
    outputs = network.walk(image, h) if cached and hasattr(network, "walk") else naive(network, image, h)
    for place, output in zip(network.order.tolist(), outputs, strict=True):
        colour, y, x = place // (height * width), place // width % height, place % width
        here = known[:, colour, y, x]
        drawn = draw(likelihood.conditional(output, image[:, :, y, x], colour), noise[:, colour, y, x])
        image[:, colour, y, x] = torch.where(here, image[:, colour, y, x], drawn)
    return image


def naive(network: Any, image: Tensor, h: Tensor | None = None) -> Iterator[Tensor]:
    """The outputs [N, P] at the places of the network's order, by a whole pass for each."""
    height, width = image.shape[2:]
    for place in network.order.tolist():
        yield network(image, h)[:, :, place // width % height, place % width]


def draw(log_p: Tensor, noise: Tensor) -> Tensor:
    """The levels at which the cumulative probability passes the noise: [N, L], [N] -> [N], in 0..1."""
    last = log_p.shape[1] - 1
    passed = noise[:, None] >= log_p[:, :last].exp().cumsum(1)
    return passed.sum(1).to(noise.dtype) / last
