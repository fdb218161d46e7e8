"""The learned 2-D manifold: decoded quantiles of the prior (Kingma & Welling, 2014, fig. 4).

Shapes: S images per side, C channels, H height, W width.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from dgm.configs import ConfigError
from dgm.figures import Drawing
from dgm.figures.reading import able, batched
from dgm.figures.style import canvas, show_grid
from dgm.images import quantise
from dgm.metrics.features import OwnClassifier
from dgm.modules.base import Encodes, Samples
from dgm.runs import Run


def draw(run: Run, size: Annotated[int, Ge(2)] = 20, classify: bool = False, cache: str = "outputs/.cache") -> Drawing:
    """z1 grows to the right and z2 upwards, in equal steps of prior probability.

    `classify`: also count the classes that a classifier of the data finds, and how often neighbours differ.
    """
    able(run, Samples, "choose a run of a model with a prior, such as model=vae")
    model = able(run, Encodes, "choose a run of an autoencoder with a prior, such as model=vae")
    if model.latent != 2:
        raise ConfigError(
            f"run={run.folder}: a manifold is drawn of two latents and this run has {model.latent}; "
            "train with model.latent=2"
        )
    quantiles = (torch.arange(size) + 0.5) / size
    z = torch.special.ndtri(quantiles)
    images = batched(model.decode, torch.cartesian_prod(z.flip(0), z).flip(1)).clamp(0, 1)
    near = neighbour_distance(images.unflatten(0, (size, size)))
    far = torch.pdist(images.flatten(1)).mean().item()
    side = 0.34 * size + 0.7
    figure = canvas(side, side)
    axes = figure.subplots()
    marks = [f"{q:.3g}" if i in (0, size // 2, size - 1) else "" for i, q in enumerate(quantiles.tolist())]
    title = f"Distance of neighbours / of random pairs: {near / far:.3f}"
    show_grid(axes, images, size, title, marks[::-1], marks)
    axes.tick_params(labeltop=False, labelbottom=True)
    axes.set_xlabel("prior quantile of $z_1$", fontsize=9)
    axes.set_ylabel("prior quantile of $z_2$", fontsize=9)
    numbers = {
        "neighbour_over_random": near / far,
        "neighbour_distance": near,
        "random_distance": far,
        "quantiles": quantiles.tolist(),
        "values": z.tolist(),
    }
    named = labels(run, images, cache).unflatten(0, (size, size)) if classify else None
    return Drawing(figure, numbers if named is None else coverage(named) | numbers)


def labels(run: Run, images: Tensor, cache: str) -> Tensor:
    """What the classifier of the data calls the images: [S * S, C, H, W] -> [S * S]."""
    classifier = OwnClassifier().ready(run.data(), Path(cache), partial(print, file=sys.stderr))
    return batched(lambda part: classifier(quantise(part))[1].argmax(1), images)


def coverage(label: Tensor) -> dict[str, Any]:
    """Number of classes on the grid [S, S], and the share of neighbours of unlike class."""
    unlike = torch.cat([(label[1:] != label[:-1]).flatten(), (label[:, 1:] != label[:, :-1]).flatten()])
    return {"classes_covered": len(label.unique()), "label_changes": unlike.float().mean().item()}


def neighbour_distance(images: Tensor) -> float:
    """Mean L2 distance of images that lie side by side or one above the other: [S, S, C, H, W] -> number."""
    down = (images[1:] - images[:-1]).flatten(2).norm(dim=-1)
    right = (images[:, 1:] - images[:, :-1]).flatten(2).norm(dim=-1)
    return torch.cat([down.flatten(), right.flatten()]).mean().item()
