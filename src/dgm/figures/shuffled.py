"""Does a model know where a pixel stands? Its likelihood of images, and of the same with their pixels shuffled.

Shapes: N images, C channels, H height, W width.
"""

from typing import Annotated

import torch
from annotated_types import Ge

from dgm.figures import Drawing
from dgm.figures.reading import able, given_label, log_p, test_images
from dgm.figures.style import PALETTE, canvas, dress, legend
from dgm.modules.base import Completes
from dgm.runs import Run


@torch.no_grad()
def draw(run: Run, images: Annotated[int, Ge(2)] = 1000, seed: Annotated[int, Ge(0)] = 0) -> Drawing:
    """-log p of test images, of the same under one permutation of pixels, and under one for each image."""
    model = able(run, Completes, "choose a run of an autoregressive model, such as model=pixelcnn")
    test = test_images(run, images)
    flat, generator = test.x.flatten(2), torch.Generator().manual_seed(seed)
    one = flat[:, :, torch.randperm(flat.shape[2], generator=generator)].view_as(test.x)
    each = torch.rand(len(flat), 1, flat.shape[2], generator=generator).argsort(2).expand_as(flat)
    kinds = {"images": test.x, "one permutation": one, "one for each image": flat.gather(2, each).view_as(test.x)}
    figure = canvas(5.2, 3.2)
    axes = figure.subplots()
    numbers: dict[str, float] = {}
    for (name, x), colour in zip(kinds.items(), PALETTE, strict=False):
        nats = -log_p(model, x, given_label(model, test))
        numbers["nats_" + name.replace(" ", "_")] = nats.mean().item()
        axes.hist(nats.numpy(), 60, color=colour, alpha=0.75, label=f"{name}: {nats.mean():.1f}")
    dress(axes, f"{type(model.network).__name__}, {len(test.x):,} test images", "-log p, nats", "images")
    legend(axes)
    return Drawing(figure, numbers | {"number_of_images": len(test.x), "seed": seed})
