"""Bottleneck size against reconstruction, beside PCA (Hinton & Salakhutdinov, 2006, fig. 2).

Shapes: N images, K shown, P pixels and channels, Z components.
"""

from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from matplotlib.axes import Axes
from torch import Tensor

from dgm.data.sets import Set
from dgm.figures import Drawing
from dgm.figures.reading import able, alike, by, reconstruct, spread, squared_error, test_images
from dgm.figures.style import PALETTE, canvas, dress, legend, show_grid
from dgm.images import inputs
from dgm.modules.base import Encodes
from dgm.runs import Run

CHUNK = 10_000


class PCA(NamedTuple):
    """Mean [P] and directions [P, P] of a data set, largest variance first."""

    mean: Tensor
    directions: Tensor

    def reconstruct(self, x: Tensor, size: int) -> Tensor:
        """The projection on the first components: [N, C, H, W] -> the same shape."""
        basis = self.directions[:, :size]
        return (((x.flatten(1).double() - self.mean) @ basis) @ basis.T + self.mean).view_as(x).float()


def fit_pca(data: Set) -> PCA:
    """All images of a set in 0..1, by their covariance, in double precision."""
    total, square = torch.zeros(()), torch.zeros(())
    for rows in torch.arange(len(data)).split(CHUNK):
        x = inputs(data.fetch(rows)).flatten(1).double()
        total, square = total + x.sum(0), square + x.T @ x
    mean = total / len(data)
    covariance = square / len(data) - mean.outer(mean)
    return PCA(mean, torch.linalg.eigh(covariance).eigenvectors.flip(1))


def draw(runs: list[Run], images: Annotated[int, Ge(1)] = 8) -> Drawing:
    """Squared error per test image, summed over pixels, of autoencoders with several `model.latent`."""
    alike(runs, "data.name", "data.binarise", "data.limit", "data.val", "model._target_")
    data = runs[0].data()
    x = test_images(runs[0], data.size("test"), data).x
    rows = test_images(runs[0], 1000, data).varied(images)
    pca = fit_pca(data.set("train"))
    tiles, names, sizes = [x[rows]], ["data"], []
    for size, seeds in by(runs, "model.latent").items():
        again = [reconstruct(able(run, Encodes, "give a folder of autoencoders"), x) for run in seeds]
        linear = pca.reconstruct(x, size)
        error = spread([squared_error(x, one).mean().item() for one in again])
        sizes.append({"latent": size, "model": error, "pca": squared_error(x, linear).mean().item()})
        tiles += [again[0][rows], linear[rows]]
        names += [f"AE {size}", f"PCA {size}"]
    figure = canvas(5.2 + 0.55 * len(rows), max(3.6, 0.55 * len(names) + 0.5))
    left, right = figure.subplots(1, 2, width_ratios=[4, 0.55 * len(rows) + 0.8])
    plot_errors(left, sizes)
    show_grid(right, torch.cat(tiles), len(rows), "Test images and reconstructions", names)
    key = {f"model_{s['latent']}": s["model"]["mean"] for s in sizes} | {f"pca_{s['latent']}": s["pca"] for s in sizes}
    return Drawing(figure, key | {"images": len(x), "sizes": sizes, "shown": rows.tolist()})


def plot_errors(axes: Axes, sizes: list[dict[str, Any]]) -> None:
    """Mean and deviation over seeds against size, beside PCA."""
    latent, mean = [s["latent"] for s in sizes], [s["model"]["mean"] for s in sizes]
    sd = [s["model"]["sd"] for s in sizes]
    axes.errorbar(latent, mean, sd, color=PALETTE[0], marker="o", capsize=3, label="autoencoder")
    pca = [s["pca"] for s in sizes]
    axes.errorbar(latent, pca, color=PALETTE[1], marker="s", linestyle="--", label="PCA")
    axes.set_xscale("log")
    axes.set_xticks(latent, [str(z) for z in latent])
    axes.minorticks_off()
    axes.set_ylim(0, None)
    dress(axes, "", "bottleneck size (numbers per image)", "squared error per test image")
    legend(axes)
