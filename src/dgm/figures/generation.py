"""Images while they are drawn, value by value. Shapes: N images, C channels, H height, W width."""

from typing import Annotated

import torch
from annotated_types import Ge

from dgm.figures import Drawing
from dgm.figures.reading import able, given_label, log_p, test_images
from dgm.figures.style import canvas, show_grid
from dgm.modules.base import Completes
from dgm.runs import Run


@torch.no_grad()
def draw(
    run: Run,
    images: Annotated[int, Ge(1)] = 6,
    steps: Annotated[int, Ge(2)] = 8,
    seed: Annotated[int, Ge(0)] = 0,
) -> Drawing:
    """A row per image, from nothing to all of it; grey is what is not drawn yet."""
    model = able(run, Completes, "choose a run of an autoregressive model, such as model=pixelcnn")
    test = test_images(run, 1000)
    generator = torch.Generator().manual_seed(seed)
    classes = int(getattr(model, "classes", 0))
    label = torch.arange(images) % classes if classes else None
    nothing = torch.zeros(images, *test.x.shape[1:])
    x = model.complete(nothing, nothing > 0, torch.rand(nothing.shape, generator=generator), label)
    order = model.network.order
    counts = [round(len(order) * i / (steps - 1)) for i in range(steps)]
    tiles = []
    for count in counts:
        done = torch.zeros(order.numel(), dtype=torch.bool)
        done[order[:count]] = True
        tiles.append(torch.where(done.view(x.shape[1:]), x, torch.full_like(x, 0.5)))
    figure = canvas(0.66 * steps + 0.3, 0.66 * images + 0.5)
    heads = [f"{count:,}" for count in counts]
    show_grid(figure.subplots(), torch.stack(tiles, 1).flatten(0, 1), steps, "", heads=heads)
    own, theirs = log_p(model, x, label).mean().item(), log_p(model, test.x, given_label(model, test)).mean().item()
    numbers = {"values_per_image": len(order), "log_p_samples": own, "log_p_test_images": theirs, "seed": seed}
    return Drawing(figure, numbers | {"steps": counts})
