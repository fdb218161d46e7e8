"""A generator as a transformer of distributions in the plane. Shapes: N points."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from torch import Tensor

from dgm.configs import ConfigError
from dgm.figures import Claim, Drawing
from dgm.figures.reading import able
from dgm.figures.style import FAINT, canvas, dress
from dgm.modules.base import Samples
from dgm.runs import Run


@torch.no_grad()
def draw(run: Run, n: Annotated[int, Ge(100)] = 2000, seed: Annotated[int, Ge(0)] = 0) -> Drawing:
    """Codes coloured by where they are, and where the generator puts them, over points of the data.

    The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo, 2013) to the data, before and after.
    Smooth: how far the images of two neighbouring codes lie apart, over the distance of any two images.
    """
    model = able(run, Samples, "give a run of a GAN on points")
    data = run.data()
    if list(data.shape) != [2] or getattr(model, "latent", 0) != 2 or not hasattr(model, "codes"):
        raise ConfigError(f"run={run.folder}: needs a GAN from 2 latents to 2 dimensions; give experiment=ring_gan")
    generator = torch.Generator().manual_seed(seed)
    z = model.codes(n, generator)
    x = model.decode(z)
    real = data.set("test").fetch(torch.arange(min(n, data.size("test"))))["point"]
    before, after = energy_distance(z, real), energy_distance(x, real)
    distance, nearest = (torch.cdist(z, z) + torch.diag(torch.full((n,), torch.inf))).min(1)
    smooth = ((x - x[nearest]).norm(dim=1).median() / torch.pdist(x).median()).item()
    figure = canvas(8.2, 4.1)
    left, right = figure.subplots(1, 2)
    colours = hues(z)
    show(left, z, colours, None, "codes")
    show(right, x, colours, real, f"generated, over the data: energy distance {after:.3f}")
    fallen = 1 - after / before
    numbers: dict[str, Any] = {"energy_distance_of_codes": before, "energy_distance": after, "fallen_by": fallen}
    numbers |= {"neighbours_stay_together": smooth, "median_distance_of_neighbours": distance.median().item()}
    claims = (
        Claim(f"the energy distance to the data falls by 95 %: {fallen:.1%}", fallen >= 0.95),
        Claim(f"neighbours stay together: {smooth:.3f} of the distance of any two", smooth < 0.1),
    )
    return Drawing(figure, numbers | {"samples": n, "seed": seed}, claims)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Of samples [N, D], [M, D]; unbiased, so it may fall below 0."""
    x, y = x.double(), y.double()
    return (2 * torch.cdist(x, y).mean() - torch.pdist(x).mean() - torch.pdist(y).mean()).item()


def hues(z: Tensor) -> np.ndarray:
    """A colour for each code, its angle as hue, its rank from the centre as saturation: [N, 2] -> [N, 3]."""
    centred = (z - z.mean(0)).numpy()
    angle = np.arctan2(centred[:, 1], centred[:, 0]) / (2 * np.pi) % 1.0
    rank = np.argsort(np.argsort(np.hypot(*centred.T))) / max(1, len(z) - 1)
    return hsv_to_rgb(np.stack([angle, 0.35 + 0.65 * rank, np.full_like(rank, 0.88)], 1))


def show(axes: Axes, points: Tensor, colours: np.ndarray, under: Tensor | None, title: str) -> None:
    """Points [N, 2] in their colours."""
    if under is not None:
        axes.scatter(under[:, 0], under[:, 1], s=9, color=FAINT, alpha=0.25, linewidths=0)
    axes.scatter(points[:, 0], points[:, 1], s=5, c=colours, linewidths=0)
    axes.set_aspect("equal")
    dress(axes, title)
