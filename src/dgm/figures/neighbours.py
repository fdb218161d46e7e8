"""Has a model learnt the training images by heart? Samples beside their nearest ones. Shapes: N, M images, P pixels."""

from typing import Annotated

import torch
from annotated_types import Ge
from scipy.stats import mannwhitneyu
from torch import Tensor

from dgm.figures import Drawing
from dgm.figures.reading import able
from dgm.figures.style import PALETTE, canvas, dress, legend, show_grid
from dgm.images import unit
from dgm.modules.base import Samples
from dgm.runs import Run

SHIFTS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
CERTAIN = 1e-3  # below this chance, samples are called copies


@torch.no_grad()
def draw(
    run: Run,
    n: Annotated[int, Ge(10)] = 500,
    shown: Annotated[int, Ge(1)] = 12,
    seed: Annotated[int, Ge(0)] = 0,
) -> Drawing:
    """Distances from samples, and from test images, to the nearest training image, all shifts by a pixel tried.

    An honest model's samples lie no nearer than test images do (after Meehan et al., 2020): where the rank test says
    that they do, the model copies. Distances are between pixels 0..1, the images as they are, not binarised.
    """
    model = able(run, Samples, "choose a run of a model that draws images")
    data = run.data()
    images = [unit(data.raw(split).fetch(torch.arange(data.size(split)))["image"]) for split in ("train", "test")]
    train, test = images[0], images[1][:n]
    samples = model.sample(n, generator=torch.Generator().manual_seed(seed)).clamp(0, 1).cpu()
    found, held = nearest(samples, train), nearest(test, train)
    copies = copying(found[0], held[0])
    figure = canvas(0.55 * shown + 4.2, 2.6)
    left, right = figure.subplots(1, 2, width_ratios=[3.4, 0.55 * shown])
    span = (0.0, max(found[0].max().item(), held[0].max().item()))
    for (distance, _), name, colour in zip((held, found), ("test images", "samples"), PALETTE, strict=False):
        left.hist(distance.numpy(), 40, span, color=colour, alpha=0.7, label=f"{name}: {distance.mean():.2f}")
    dress(left, "copies" if copies < CERTAIN else "no copies", "distance to the nearest training image", "images")
    legend(left)
    pairs = torch.cat([samples[:shown], train[found[1][:shown]]])
    show_grid(right, pairs, shown, "", ["samples", "nearest"])
    numbers = {"samples_to_train": found[0].mean().item(), "test_to_train": held[0].mean().item()}
    return Drawing(figure, numbers | {"chance_of_no_copies": copies, "copies": copies < CERTAIN, "n": n, "seed": seed})


def nearest(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest training image under any shift by a pixel, and which it is: [N, ...] -> [N], [N]."""
    best = torch.full((len(x),), torch.inf)
    index = torch.zeros(len(x), dtype=torch.long)
    flat = train.flatten(1)
    for shift in SHIFTS:
        moved = torch.roll(x, shift, (2, 3)).flatten(1)
        for start in range(0, len(flat), 20_000):
            distance, row = torch.cdist(moved, flat[start : start + 20_000]).min(1)
            better = distance < best
            best, index = torch.where(better, distance, best), torch.where(better, row + start, index)
    return best, index


def copying(samples: Tensor, held: Tensor) -> float:
    """The chance of samples this near to the training images if they were like held-out ones: [N], [M]."""
    return float(mannwhitneyu(samples.numpy(), held.numpy(), alternative="less").pvalue)
