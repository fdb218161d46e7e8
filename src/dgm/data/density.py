"""Densities on the line and in the plane whose log p is known, to check what a model has learnt.

Shapes: N points, D dimensions, K components of a mixture.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Protocol

import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor

from dgm.data.loading import generator
from dgm.data.sets import Arrays, Splits

LOG_2PI = math.log(2 * math.pi)
CHUNK = 16_384  # points whose distances to all components are held at once

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


class Density(Protocol):
    """A distribution that can be sampled and evaluated."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """-> [N, D], float32."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """[N, D] -> [N], nats."""
        ...


def load(density: Density, n: Count = 50_000, test: Count = 10_000, seed: Annotated[int, Ge(0)] = 0) -> Splits:
    """`n` training and `test` test points, drawn by `seed`, which is not the seed of the run."""
    train, held = density.sample(n, generator(seed, 0)), density.sample(test, generator(seed, 1))
    return Splits(Arrays({"point": train}), Arrays({"point": held}))


class Mixture(ABC):
    """A mixture of isotropic Gaussians, exact whatever the number of components."""

    @abstractmethod
    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means [K, D], standard deviations [K] and weights [K] up to a factor, float64."""
        ...

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.components()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """-> [N, D], float32."""
        means, stds, weights = self._parts
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, means.shape[1], dtype=means.dtype, generator=generator)
        return (means[chosen] + stds[chosen, None] * noise).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """log sum_k w_k N(x; mu_k, sigma_k^2 I): [N, D] -> [N]."""
        return torch.cat([self._log_prob(part) for part in x.split(CHUNK)])

    def _log_prob(self, x: Tensor) -> Tensor:
        means, stds, weights = (part.to(x.device) for part in self._parts)
        scaled = torch.cdist(x.double(), means, compute_mode="donot_use_mm_for_euclid_dist") / stds
        dimensions = means.shape[1]
        log_parts = -0.5 * (scaled.square() + dimensions * LOG_2PI) - dimensions * stds.log()
        return torch.logsumexp(log_parts + (weights / weights.sum()).log(), 1).to(x.dtype)


@dataclass(frozen=True)
class Line(Mixture):
    """Gaussians on the line."""

    means: Annotated[list[float], MinLen(1)]
    stds: Annotated[list[Positive], MinLen(1)]
    weights: Annotated[list[Positive], MinLen(1)]

    def __post_init__(self) -> None:
        if not len(self.means) == len(self.stds) == len(self.weights):
            counts = f"{len(self.means)} means, {len(self.stds)} stds and {len(self.weights)} weights"
            raise ValueError(f"data.source.density has {counts}; give as many of each")

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """As given, D = 1."""
        means, stds, weights = (torch.tensor(v, dtype=torch.double) for v in (self.means, self.stds, self.weights))
        return means[:, None], stds, weights


@dataclass(frozen=True)
class Ring(Mixture):
    """Equal Gaussians on a circle; eight at radius 2 with deviation 0.02 in Metz et al., 2017, sec. 3.1."""

    modes: Count = 8
    radius: Positive = 2.0
    std: Positive = 0.1

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means on the circle, the first at angle 0."""
        angles = torch.arange(self.modes, dtype=torch.double) * (2 * math.pi / self.modes)
        return _alike(self.radius * torch.stack([angles.cos(), angles.sin()], 1), self.std)


@dataclass(frozen=True)
class Grid(Mixture):
    """side x side equal Gaussians; 25 with spacing 2, deviation 0.05 in Srivastava et al., 2017 (VEEGAN)."""

    side: Count = 5
    spacing: Positive = 2.0
    std: Positive = 0.05

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means on a square grid around the origin."""
        ticks = (torch.arange(self.side, dtype=torch.double) - (self.side - 1) / 2) * self.spacing
        return _alike(torch.cartesian_prod(ticks, ticks), self.std)


@dataclass(frozen=True)
class Moons(Mixture):
    """Two interleaved half circles of radius 1, blurred: each is `nodes` Gaussians side by side.

    Log p is exactly of this sum. At the defaults the nodes are 0.012 apart, far below `std`, and the sum is within
    0.005 nats on the arcs, 0.05 nats 0.3 beside them, of that of very many nodes, the blurred arcs of `make_moons`.
    """

    std: Positive = 0.1
    nodes: Count = 256

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means along both arcs, centred on the origin."""
        t = (torch.arange(self.nodes, dtype=torch.double) + 0.5) * (math.pi / self.nodes)
        upper, lower = torch.stack([t.cos(), t.sin()], 1), torch.stack([1 - t.cos(), 0.5 - t.sin()], 1)
        return _alike(torch.cat([upper, lower]) - torch.tensor([0.5, 0.25], dtype=torch.double), self.std)


@dataclass(frozen=True)
class Spiral(Mixture):
    """Arms that wind outwards to `radius`, blurred: each is `nodes` Gaussians, and log p is of this sum.

    Radius and angle grow as the square root of the node's number: an arm is about as dense everywhere.
    """

    arms: Count = 2
    turns: Positive = 1.5
    radius: Positive = 3.0
    std: Positive = 0.1
    nodes: Count = 512

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means along all arms, which start at the centre."""
        u = ((torch.arange(self.nodes, dtype=torch.double) + 0.5) / self.nodes).sqrt()
        start = torch.arange(self.arms, dtype=torch.double)[:, None] * (2 * math.pi / self.arms)
        angle, r = start + 2 * math.pi * self.turns * u, self.radius * u
        return _alike(torch.stack([r * angle.cos(), r * angle.sin()], -1).flatten(0, 1), self.std)


def _alike(means: Tensor, std: float) -> tuple[Tensor, Tensor, Tensor]:
    ones = torch.ones(len(means), dtype=torch.double)
    return means, std * ones, ones


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on every other square of a board of squares x squares around the origin, D = 2."""

    squares: Annotated[int, Ge(2)] = 4
    width: Positive = 1.0

    @property
    def count(self) -> int:
        """Squares that hold points."""
        return (self.squares**2 + 1) // 2

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """-> [N, 2], float32."""
        chosen = torch.randint(self.count, (n,), generator=generator)
        board = torch.arange(self.squares)
        even = torch.cartesian_prod(board, board)
        corner = even[even.sum(1) % 2 == 0][chosen] - self.squares / 2
        return self.width * (corner + torch.rand(n, 2, generator=generator))

    def log_prob(self, x: Tensor) -> Tensor:
        """-log(count width^2) on the squares, -inf off them: [N, 2] -> [N]."""
        cell = (x / self.width + self.squares / 2).floor()
        inside = ((cell >= 0) & (cell < self.squares)).all(1) & (cell.sum(1) % 2 == 0)
        level = -math.log(self.count * self.width**2)
        return torch.where(inside, level, -torch.inf).to(x.dtype)


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian of any dimension with a given covariance."""

    mean: Annotated[list[float], MinLen(1)]
    covariance: Annotated[list[list[float]], MinLen(1)]

    def __post_init__(self) -> None:
        matrix = torch.tensor(self.covariance, dtype=torch.double)
        alike = matrix.shape == (len(self.mean), len(self.mean)) and torch.equal(matrix, matrix.T)
        if not alike or torch.linalg.cholesky_ex(matrix).info:
            raise ValueError(
                f"data.source.density.covariance={self.covariance} must be symmetric, positive definite "
                f"and of as many rows as the mean {self.mean}"
            )

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of the covariance [D, D], float64."""
        return torch.linalg.cholesky(torch.tensor(self.covariance, dtype=torch.double))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """-> [N, D], float32."""
        noise = torch.randn(n, len(self.mean), dtype=torch.double, generator=generator)
        return (noise @ self.factor.T + torch.tensor(self.mean, dtype=torch.double)).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """[N, D] -> [N], nats."""
        factor = self.factor.to(x.device)
        centred = x.double() - x.new_tensor(self.mean).double()
        white = torch.linalg.solve_triangular(factor, centred.T, upper=False)
        constant = len(self.mean) * LOG_2PI / 2 + factor.diagonal().log().sum()
        return (-0.5 * white.square().sum(0) - constant).to(x.dtype)
