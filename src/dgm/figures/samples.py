"""A grid of samples at a fixed seed."""

from typing import Annotated

import torch
from annotated_types import Ge

from dgm.figures import Drawing
from dgm.figures.reading import able, test_images
from dgm.figures.style import canvas, show_grid
from dgm.modules.base import Samples
from dgm.runs import Run


@torch.no_grad()
def draw(
    run: Run,
    n: Annotated[int, Ge(1)] = 100,
    columns: Annotated[int, Ge(1)] = 10,
    seed: Annotated[int, Ge(0)] = 0,
) -> Drawing:
    """n samples, and the mean intensity of samples and of test images: a first sign of a collapsed model."""
    model = able(run, Samples, "choose a run of a model with a prior, such as model=vae")
    samples = model.sample(n, generator=torch.Generator().manual_seed(seed)).clamp(0, 1)
    data = test_images(run, 1000).x
    intensity, wanted = samples.mean().item(), data.mean().item()
    columns = min(columns, n)
    figure = canvas(0.6 * columns + 0.3, 0.6 * -(-n // columns) + 0.5)
    show_grid(figure.subplots(), samples, columns, f"Mean intensity: {intensity:.3f} (data {wanted:.3f})")
    numbers = {"seed": seed, "n": n, "mean_intensity_samples": intensity, "mean_intensity_data": wanted}
    return Drawing(figure, numbers)
