"""The latent space seen from two of its dimensions. Shapes: N images, Z latent dimensions."""

from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, Ellipse
from torch import Tensor

from dgm.configs import ConfigError
from dgm.figures import Drawing
from dgm.figures.reading import able, batched, kl_per_dimension, posterior, test_images
from dgm.figures.style import FAINT, PALETTE, canvas, classes, dress
from dgm.modules.base import Encodes, HasPosterior
from dgm.runs import Run


class View(NamedTuple):
    """Codes in two dimensions, [N, 2], their posterior deviations [N, 2] if known, axis names, numbers."""

    points: Tensor
    sd: Tensor | None
    names: list[str]
    numbers: dict[str, Any]


def draw(run: Run, n: Annotated[int, Ge(2)] = 2000, ellipses: Annotated[int, Ge(0)] = 60) -> Drawing:
    """The two latents of highest KL with posteriors at 1 sd, or two principal components of plain codes."""
    model = able(run, Encodes, "choose a run of an autoencoder")
    if model.latent < 2:
        raise ConfigError(f"run={run.folder}: a scatter needs two latents; train with model.latent=2 or more")
    test = test_images(run, n)
    known = isinstance(model, HasPosterior)
    view = variational(*posterior(model, test.x)) if known else principal(batched(model.encode, test.x))
    figure = canvas(5.6, 5.4)
    axes = figure.subplots()
    show(axes, view, test.label, ellipses)
    share = view.numbers["share_of_variance"]
    dress(axes, f"{len(test.x):,} test images; {share:.0%} of the variance of their codes", *view.names)
    return Drawing(figure, {"images": len(test.x)} | view.numbers)


def show(axes: Axes, view: View, label: Tensor | None, ellipses: int = 0) -> None:
    """Points coloured by class; where there are posteriors, some of them, and the prior at 1 and 2 sd."""
    if view.sd is not None:
        for radius in (1, 2):
            axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=FAINT, linestyle="--", linewidth=0.9))
        colours = [PALETTE[0]] * ellipses if label is None else [PALETTE[c % 10] for c in label.tolist()]
        some = zip(view.points[:ellipses].tolist(), 2 * view.sd[:ellipses], colours, strict=False)
        for centre, (width, height), colour in some:
            ellipse = Ellipse(centre, float(width), float(height), linewidth=0.7)
            ellipse.set(facecolor=to_rgba(colour, 0.12), edgecolor=to_rgba(colour, 0.8))
            axes.add_patch(ellipse)
    classes(axes, view.points.numpy(), None if label is None else label.numpy())
    axes.set_aspect("equal", "datalim")


def variational(mu: Tensor, logvar: Tensor) -> View:
    """The two latents of the highest KL: mu, logvar [N, Z]."""
    kl, sd, spread = kl_per_dimension(mu, logvar), (0.5 * logvar).exp(), mu.std(0)
    best = kl.argsort(descending=True)[:2].sort().values
    numbers = {
        "share_of_variance": (spread[best].square().sum() / spread.square().sum()).item(),
        "sd_of_means": spread.square().mean().sqrt().item(),
        "mean_posterior_sd": sd.mean().item(),
        "dimensions": best.tolist(),
        "kl": kl.tolist(),
        "sd_of_means_each": spread.tolist(),
        "mean_posterior_sd_each": sd.mean(0).tolist(),
    }
    names = [f"posterior mean of $z_{{{d + 1}}}$  ({kl[d]:.2f} nats)" for d in best.tolist()]
    return View(mu[:, best], sd[:, best], names, numbers)


def principal(codes: Tensor) -> View:
    """Two principal components of codes [N, Z]."""
    centred = codes - codes.mean(0)
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    share = singular.square() / singular.square().sum()
    numbers = {
        "share_of_variance": share[:2].sum().item(),
        "sd_of_codes": codes.std(0).square().mean().sqrt().item(),
        "share_each": share.tolist(),
        "sd_of_codes_each": codes.std(0).tolist(),
    }
    names = [f"principal component {i + 1} of the codes  ({share[i]:.0%} of variance)" for i in range(2)]
    return View(centred @ axes[:2].T, None, names, numbers)
