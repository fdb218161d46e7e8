"""Latent traversals (Higgins et al., 2017, fig. 1): one latent varied, the others held at an image's code.

Shapes: N images, S steps, Z latent dimensions, C channels, H height, W width.
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from dgm.figures import Drawing
from dgm.figures.reading import able, batched, kl_per_dimension, posterior, test_images
from dgm.figures.style import canvas, show_grid
from dgm.modules.base import HasPosterior
from dgm.runs import Run

TEST = 10_000  # images, at most, that the KL is averaged over


def draw(
    run: Run,
    images: Annotated[int, Ge(1)] = 3,
    steps: Annotated[int, Ge(2)] = 9,
    span: Annotated[float, Gt(0)] = 3.0,
    rows: Annotated[int, Ge(1)] = 12,
    over: Annotated[int, Ge(1)] = 64,
) -> Drawing:
    """A panel per test image, a row per latent in the order of the KL, over [-span, span] prior sd."""
    model = able(run, HasPosterior, "choose a run of a variational autoencoder, such as model=vae")
    test = test_images(run, TEST)
    mu, logvar = posterior(model, test.x)
    kl = kl_per_dimension(mu, logvar)
    order = kl.argsort(descending=True)
    values = torch.linspace(-span, span, steps)
    change = pixel_change(model, mu[:over], values)
    starts, shown = test.varied(images), order[:rows]
    figure = canvas(0.36 * steps * len(starts) + 1.6, 0.36 * len(shown) + 0.5)
    panels = figure.subplots(1, len(starts), squeeze=False)[0]
    names = [f"$z_{{{d + 1}}}$  {kl[d]:.2f} nats" for d in shown.tolist()]
    heads = [
        f"{v:+g}".replace("+0", "0") if i in (0, steps // 2, steps - 1) else "" for i, v in enumerate(values.tolist())
    ]
    for i, start in enumerate(starts.tolist()):
        tiles = vary(model, mu[start : start + 1], shown, values).flatten(0, 2)
        title = f"Test image {start}" + ("" if test.label is None else f" (class {int(test.label[start])})")
        show_grid(panels[i], tiles, steps, title, names if i == 0 else (), heads)
    numbers = {
        "total_kl": kl.sum().item(),
        "active_latents": int((kl > 0.01).sum()),
        "order": order.tolist(),
        "kl": kl.tolist(),
        "pixel_change": change.tolist(),
        "values": values.tolist(),
        "shown": starts.tolist(),
    }
    return Drawing(figure, numbers)


def vary(model: Any, z: Tensor, dimensions: Tensor, values: Tensor) -> Tensor:
    """Decoded codes with one latent after the other set to each value: [N, Z] -> [N, dims, S, C, H, W]."""
    codes = z[:, None, None].repeat(1, len(dimensions), len(values), 1)
    for row, dimension in enumerate(dimensions.tolist()):
        codes[:, row, :, dimension] = values
    return batched(model.decode, codes.flatten(0, 2)).clamp(0, 1).unflatten(0, codes.shape[:3])


def pixel_change(model: Any, z: Tensor, values: Tensor) -> Tensor:
    """Mean squared change of a pixel from the image at the code itself, per latent: [N, Z] -> [Z]."""
    there = batched(model.decode, z).clamp(0, 1).unsqueeze(1)
    every = torch.arange(z.shape[1])
    return torch.stack([(vary(model, z, d, values)[:, 0] - there).square().mean() for d in every.split(1)])
