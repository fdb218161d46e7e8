"""The look of all figures: sizes, a colour-blind safe palette, axes, grids. Nothing global is changed.

Shapes: N images, C channels, H height, W width.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from dgm.images import grid, visible

# Petroff (2021), "Accessible color sequences for data visualization": ten, safe for colour-blind readers
PALETTE = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"]
PALETTE += ["#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]
MARKERS = "osD^vP*X<>"
INK, FAINT = "#222222", "#8a8f98"
TITLE, LABEL, TICK = 10.0, 9.0, 8.0  # points
DPI = 150
ROUND = (
    1,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    30,
    40,
    60,
    80,
    100,
    150,
    200,
    300,
    500,
    1000,
    2000,
    4000,
    8000,
)


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def dress(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Labels, and no more ink than is needed."""
    axes.set_title(title, fontsize=TITLE, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=LABEL, color=INK)
    axes.set_ylabel(y, fontsize=LABEL, color=INK)
    axes.tick_params(labelsize=TICK, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    return axes


def logarithmic(axes: Axes) -> None:
    """A logarithmic x axis, marked at round numbers."""
    axes.set_xscale("log")
    axes.minorticks_off()
    low, high = axes.get_xlim()
    ticks = [tick for tick in ROUND if low <= tick <= high]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])


def legend(axes: Axes, title: str | None = None, columns: int = 1) -> None:
    """A frameless legend where there is room."""
    axes.legend(title=title, frameon=False, fontsize=TICK, title_fontsize=TICK, ncols=columns)


def show_grid(
    axes: Axes,
    images: Tensor,
    columns: int,
    title: str = "",
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> None:
    """Unit images [N, C, H, W] tiled row by row, with a name for every row and column where given."""
    images = visible(images)
    gap = max(1, images.shape[-1] // 16)
    picture = grid(images, columns, gap).numpy()
    axes.imshow(picture, interpolation="nearest" if images.shape[-1] <= 16 else "auto")
    dress(axes, title)
    axes.spines[:].set_visible(False)
    height, width = images.shape[-2] + gap, images.shape[-1] + gap
    axes.set_yticks(_middles(len(rows), height, gap), rows)
    axes.set_xticks(_middles(len(heads), width, gap), heads)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)


def _middles(n: int, size: int, gap: int) -> np.ndarray:
    return (np.arange(n) + 0.5) * size + gap / 2 - 0.5


def classes(axes: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Points [N, 2], coloured by class where it is known; every class is named at its median."""
    size = min(14.0, max(3.0, 4000 / len(points)))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, color=PALETTE[0], alpha=0.6, linewidths=0)
        return
    for label in np.unique(labels):
        here = points[labels == label]
        colour = PALETTE[int(label) % len(PALETTE)]
        axes.scatter(here[:, 0], here[:, 1], s=size, color=colour, alpha=0.75, linewidths=0)
        x, y = np.median(here, 0)
        badge = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": colour}
        name = axes.text(x, y, str(label), fontsize=TICK, color=INK, ha="center", va="center", zorder=5)
        name.set_bbox(badge)
