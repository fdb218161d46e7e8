"""The context of a pixel: where its distribution has a gradient. Shapes: N images, C channels, H height, W width."""

from typing import Annotated

import torch
from annotated_types import Ge
from matplotlib.colors import LogNorm

from dgm.figures import Drawing
from dgm.figures.reading import able, test_images
from dgm.figures.style import INK, canvas, dress
from dgm.modules.base import Completes
from dgm.runs import Run


def draw(
    runs: list[Run],
    row: Annotated[int, Ge(0)] | None = None,
    column: Annotated[int, Ge(0)] | None = None,
    images: Annotated[int, Ge(1)] = 64,
) -> Drawing:
    """Mean absolute gradient of what is said of one pixel, with respect to every pixel, for each run.

    Blind are earlier pixels without any gradient although one further away, in a row above or to the left, has some.
    """
    figure = canvas(3.2 * len(runs) + 0.6, 3.4)
    numbers = []
    for axes, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        model = able(run, Completes, "choose runs of autoregressive models, such as model=pixelcnn")
        x = test_images(run, images).x.requires_grad_()
        height, width = x.shape[2:]
        at = (height * 2 // 3 if row is None else row, width // 2 if column is None else column)
        if at[0] >= height or at[1] >= width:
            raise ValueError(f"figure.row={at[0]}, figure.column={at[1]}: outside images of {height} x {width}")
        classes = int(getattr(model, "classes", 0))
        h = model.condition(torch.zeros(len(x), dtype=torch.long), x) if classes else None
        (gradient,) = torch.autograd.grad(model.network(x, h)[:, :, at[0], at[1]].abs().sum(), x)
        field = gradient.abs().mean((0, 1))
        seen = field > 0
        later = torch.arange(height * width).view(height, width) > at[0] * width + at[1]
        if (seen & later).any():
            raise RuntimeError(f"run={run.folder}: pixel {at} depends on later pixels; this is no likelihood")
        blind = blind_spot(seen, at)
        name = type(model.network).__name__
        shown = torch.where(seen, field, torch.nan).numpy()
        mesh = axes.imshow(shown, cmap="viridis", norm=LogNorm())
        axes.plot(*torch.where(blind)[::-1], "x", color="#bd1f01", markersize=4, linestyle="none")
        axes.plot(at[1], at[0], "s", color=INK, markersize=5)
        figure.colorbar(mesh, ax=axes, shrink=0.7)
        dress(axes, f"{name}: sees {int(seen.sum())}, blind to {int(blind.sum())}")
        numbers.append({"run": run.folder.name, "network": name, "seen": int(seen.sum()), "blind": int(blind.sum())})
    key = {f"blind_{one['network']}": one["blind"] for one in numbers}
    return Drawing(figure, key | {"row": at[0], "column": at[1], "runs": numbers})


def blind_spot(seen: torch.Tensor, at: tuple[int, int]) -> torch.Tensor:
    """Earlier pixels that are not seen, within the rows and the columns that are: [H, W] -> [H, W]."""
    rows, columns = torch.where(seen)
    inside = torch.zeros_like(seen)
    inside[int(rows.min()) : at[0], int(columns.min()) : int(columns.max()) + 1] = True
    inside[at[0], int(columns.min()) : at[1]] = True
    return inside & ~seen
