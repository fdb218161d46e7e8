"""Two parallel lines: which distances see how far apart they are? Exact; needs no run. Shapes: N points."""

import math
from typing import Annotated

import torch
from annotated_types import Ge
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dgm.figures import Claim, Drawing
from dgm.figures.style import INK, PALETTE, canvas, dress, legend


def draw(
    n: Annotated[int, Ge(2)] = 200,
    steps: Annotated[int, Ge(3)] = 21,
) -> Drawing:
    """(0, y) against (theta, y), y uniform in 0..1 (Arjovsky et al., 2017, example 1).

    The Jensen-Shannon divergence is log 2 wherever theta is not 0, so its gradient is 0; Wasserstein-1 is |theta|.
    Both are computed, of histograms and of an optimal assignment of n points.
    """
    y = (torch.arange(n, dtype=torch.double) + 0.5) / n
    theta = torch.linspace(-1, 1, steps, dtype=torch.double)
    theta[steps // 2] = 0.0
    line = torch.stack([torch.zeros_like(y), y], 1)
    moved = [torch.stack([t.expand(n), y], 1) for t in theta]
    w1 = torch.tensor([transport(line, other) for other in moved], dtype=torch.double)
    js = torch.tensor([jensen_shannon(line, other, cells=4 * steps) for other in moved], dtype=torch.double)
    figure = canvas(8.6, 3.0)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.6])
    left.plot([0, 0], [0, 1], color=PALETTE[0], linewidth=3)
    left.plot([0.6, 0.6], [0, 1], color=PALETTE[2], linewidth=3)
    left.annotate("", (0.6, 0.5), (0, 0.5), arrowprops={"arrowstyle": "<->", "color": INK})
    left.text(0.3, 0.54, "theta", ha="center", fontsize=9, color=INK)
    left.set_xlim(-1.05, 1.05)
    dress(left, "Two distributions")
    right.plot(theta, w1, color=PALETTE[0], marker="o", markersize=3, label="Wasserstein-1")
    apart = theta != 0
    right.plot(theta[apart & (theta < 0)], js[apart & (theta < 0)], color=PALETTE[2], label="Jensen-Shannon")
    right.plot(theta[apart & (theta > 0)], js[apart & (theta > 0)], color=PALETTE[2])
    right.plot(0, js[~apart], color=PALETTE[2], marker="o", markersize=4)
    dress(right, "Their distance", "theta", "nats; units of length")
    legend(right)
    error, flat = (w1 - theta.abs()).abs().max().item(), (js[apart] - math.log(2)).abs().max().item()
    claims = (
        Claim(f"Wasserstein-1 is |theta|, to {error:.1e}", error < 1e-9),
        Claim(f"Jensen-Shannon is log 2 wherever theta is not 0, to {flat:.1e}", flat < 1e-9),
    )
    numbers = {"largest_error_of_wasserstein_1": error, "largest_error_of_jensen_shannon": flat}
    table = {"theta": theta.tolist(), "wasserstein_1": w1.tolist(), "jensen_shannon": js.tolist()}
    return Drawing(figure, numbers | table, claims)


def transport(a: Tensor, b: Tensor) -> float:
    """Wasserstein-1 distance of as many points each, by an optimal assignment: [N, 2] twice."""
    cost = (a[:, None] - b).norm(dim=2)
    rows, columns = linear_sum_assignment(cost.numpy())
    return cost[rows, columns].mean().item()


def jensen_shannon(a: Tensor, b: Tensor, cells: int) -> float:
    """Of histograms over -1..1 by 0..1, in nats: [N, 2] twice."""
    p, q = (histogram(x, cells) for x in (a, b))
    m = (p + q) / 2
    entropy = torch.special.entr
    return (entropy(m).sum() - (entropy(p).sum() + entropy(q).sum()) / 2).item()


def histogram(x: Tensor, cells: int) -> Tensor:
    """Shares of points in each cell: [N, 2] -> [cells * cells]."""
    column = (((x[:, 0] + 1) / 2 * cells).long()).clamp(0, cells - 1)
    row = (x[:, 1] * cells).long().clamp(0, cells - 1)
    return torch.bincount(row * cells + column, minlength=cells * cells).double() / len(x)
