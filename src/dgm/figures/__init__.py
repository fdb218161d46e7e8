"""Figures: draw(run or runs, ...) -> a picture and the numbers behind it. They read artefacts and never train."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure
from PIL import Image


class Claim(NamedTuple):
    """What a figure is there to show, with its number, and whether the run bears it out."""

    words: str
    holds: bool


class Drawing(NamedTuple):
    """A picture, and all numbers from which it was drawn, as json can hold them.

    A claim that does not hold makes `dgm figure` fail, after all is written. `frames` are shown as an animation.
    """

    figure: Figure
    numbers: dict[str, Any]
    claims: tuple[Claim, ...] = ()
    frames: tuple[Image.Image, ...] = ()
