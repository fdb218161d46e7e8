"""Procedural sprites on the factor grid of dSprites (Matthey et al., 2017), and dSprites from its file.

Shapes: B batch, S side of an image, F = 5 factors (shape, scale, orientation, x, y), or 6 with the colour before them.
Rows are ordered as in dSprites: y runs fastest, shape slowest of five. The colour, which never varies in dSprites, is
there only where more than one is asked for. The label of an image is its shape.

Images are equal where factors are not: orientations 0 and 39 are one angle, as in dSprites, and small turns and scales
fall on the same pixels. Of 10,000 test images 1,077 stand among the training images too (1,589 at 32 x 32).
"""

import colorsys
import math
import zipfile
import zlib
from collections.abc import Callable
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from dgm.data.loading import generator
from dgm.data.sets import Arrays, Batch, Set, Splits, Subset, subset

UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)
FACTORS = ("shape", "scale", "orientation", "x", "y")
SIZES = (3, 6, 40, 32, 32)
CANVAS = 64  # side of the canvas, in the unit of all lengths below
FIRST = 16.5  # centre of a sprite at position 0; each position is one unit further, the last at 47.5


def load(
    size: Literal[32, 64] = 64,
    path: str | None = None,
    test: Annotated[int, Ge(1)] = 10_000,
    colours: Annotated[int, Ge(1)] = 1,
    only: dict[str, list[int]] | None = None,
) -> Splits:
    """All 737,280 images in each colour, `test` of them set apart by a fixed shuffle; drawn, or read from the npz.

    `only`: those where a factor has one of some values, as in {orientation: [0], x: [15, 16]}.
    """
    data: Set = Sprites(size) if path is None else read(path, size)
    if only:
        data = subset(data, chosen(only))
    if colours > 1:
        data = Coloured(data, colours)
    if test >= len(data):
        raise ValueError(f"data.source.test={test} leaves nothing of {len(data)} images; lower it")
    order = torch.randperm(len(data), generator=generator(0))
    return Splits(Subset(data, order[test:]), Subset(data, order[:test]))


def factors(rows: Tensor) -> Tensor:
    """Row indices [B] -> factors [B, F], int64."""
    return torch.stack(torch.unravel_index(rows, SIZES), 1)


def chosen(only: dict[str, list[int]]) -> Tensor:
    """Rows of the grid where each factor named has one of its values. Errors: ValueError for what the grid lacks."""
    drawn = factors(torch.arange(prod(SIZES)))
    kept = torch.ones(len(drawn), dtype=torch.bool)
    for name, values in only.items():
        if name not in FACTORS:
            raise ValueError(f"data.source.only.{name}={values}: no factor; there are: {', '.join(FACTORS)}")
        at = FACTORS.index(name)
        if not values or not set(values) <= set(range(SIZES[at])):
            raise ValueError(f"data.source.only.{name}={values}: give one or more of 0..{SIZES[at] - 1}")
        kept &= torch.isin(drawn[:, at], torch.tensor(values))
    return kept.nonzero()[:, 0]


def rows(factors: Tensor) -> Tensor:
    """Factors [B, F] -> row indices [B]."""
    strides = torch.tensor([prod(SIZES[i + 1 :]) for i in range(len(SIZES))])
    return (factors * strides).sum(1)


def square(x: Tensor, y: Tensor) -> Tensor:
    """Inside a square in the unit circle; x, y of any shape."""
    return torch.maximum(x.abs(), y.abs()) <= 0.6928  # no edge of the grid then falls on a pixel's centre


def ellipse(x: Tensor, y: Tensor) -> Tensor:
    """Inside an ellipse, twice as wide as high."""
    return x.square() + (2 * y).square() <= 1.0


def heart(x: Tensor, y: Tensor) -> Tensor:
    """Inside (x^2 + y^2 - 1)^3 = x^2 y^3, brought into the unit circle, tip down (y points up)."""
    u, v = 1.26 * x, 1.26 * y + 0.25  # the smallest circle around it has its centre at 0.25 and radius 1.25
    return (u.square() + v.square() - 1) ** 3 <= u.square() * v**3


OUTLINES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (square, ellipse, heart)
RADIUS = 15.3  # of the unit circle at scale 1


def inside(shape: int, scale: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether points lie in a shape at the origin, turned counter-clockwise; y points down; broadcasts."""
    cos, sin, unit = angle.cos(), angle.sin(), RADIUS * scale
    return OUTLINES[shape]((x * cos - y * sin) / unit, (-x * sin - y * cos) / unit)


class Sprites:
    """The whole grid, drawn when asked for.

    Each of the 720 shapes, scales and orientations is drawn once, on a plate so large that every image is a
    window of it: positions are whole units apart, so the window at the right place is the drawing itself.
    """

    def __init__(self, size: Literal[32, 64] = 64) -> None:
        self.size, self.step = size, CANVAS // size

    def __len__(self) -> int:
        return prod(SIZES)

    @cached_property
    def plates(self) -> Tensor:
        """uint8 [720, P, P], P = step (S - 1) + 32, sampled at whole units."""
        side = self.step * (self.size - 1) + SIZES[3]
        ticks = torch.arange(side) + (0.5 * self.step - FIRST - (SIZES[3] - 1))
        scale, angle = torch.linspace(0.5, 1, SIZES[1]), torch.linspace(0, 2 * math.pi, SIZES[2])
        pose = (scale.view(-1, 1, 1, 1), angle.view(-1, 1, 1), ticks.view(1, -1), ticks.view(-1, 1))
        drawn = [inside(shape, *pose).to(torch.uint8) * 255 for shape in range(SIZES[0])]
        return torch.stack(drawn).flatten(0, 2)

    @cached_property
    def windows(self) -> Tensor:
        """A view of the plates, uint8 [720, 32, 32, S, S]: top and left edges, then the image."""
        reach = self.step * (self.size - 1) + 1
        views = self.plates.unfold(1, reach, 1).unfold(2, reach, 1)
        return views[..., :: self.step, :: self.step]

    def fetch(self, indices: Tensor) -> Batch:
        """Rows [B] -> {"image": uint8 [B, 1, S, S], 0 or 255, "label": int64 [B], "factors": int64 [B, F]}."""
        drawn = factors(indices)
        shape, scale, angle, x, y = drawn.unbind(1)
        plate = (shape * SIZES[1] + scale) * SIZES[2] + angle
        image = self.windows[plate, SIZES[4] - 1 - y, SIZES[3] - 1 - x]
        return {"image": image.unsqueeze(1), "label": shape, "factors": drawn}


class Coloured:
    """Sprites in each of `colours` hues from red by way of green to blue; the hue is the first factor."""

    def __init__(self, base: Set, colours: int) -> None:
        self.base = base
        hues = [colorsys.hsv_to_rgb(2 / 3 * i / (colours - 1), 1, 1) for i in range(colours)]
        self.hues = torch.tensor(hues).mul(255).round().to(torch.uint8).view(colours, 3, 1, 1)

    def __len__(self) -> int:
        return len(self.hues) * len(self.base)

    def fetch(self, indices: Tensor) -> Batch:
        """Rows [B] -> {"image": uint8 [B, 3, S, S], "label": int64 [B], "factors": int64 [B, F]}."""
        colour, row = indices // len(self.base), indices % len(self.base)
        batch = self.base.fetch(row)
        image = self.hues[colour].where(batch["image"] > 0, 0)
        return {**batch, "image": image, "factors": torch.cat([colour[:, None], batch["factors"]], 1)}


def read(path: str, size: int) -> Arrays:
    """The genuine npz -> images of 0 or 255 [N, 1, 64, 64] and factors [N, F], in memory (3 GiB).

    Errors: FileNotFoundError where there is no file, ValueError where it is not the archive of dSprites.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise FileNotFoundError(f"data.source.path={path}: no such file; correct it, or null draws the sprites")
    try:
        with np.load(place, allow_pickle=False) as archive:
            images, classes = torch.from_numpy(archive["imgs"]), torch.from_numpy(archive["latents_classes"])
    except UNREADABLE as error:
        raise _corrupt(path, " ".join(str(error).split()) or type(error).__name__) from error
    if images.dtype != torch.uint8 or images.shape[1:] != (CANVAS, CANVAS) or classes.shape != (len(images), 6):
        raise _corrupt(path, f"imgs {list(images.shape)} {images.dtype}, classes {list(classes.shape)}")
    if size != CANVAS:
        raise ValueError(f"data.source.size={size}, but the images in {path} are 64 x 64; set it to 64")
    known = classes[:, 1:].long()
    return Arrays({"image": images.mul_(255).unsqueeze(1), "label": known[:, 0].clone(), "factors": known})


def _corrupt(path: str, why: str) -> ValueError:
    return ValueError(f"data.source.path={path} is no intact dSprites npz ({why}); download it again, or set null")
