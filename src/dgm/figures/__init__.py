"""Figures: draw(run or runs, ...) -> a picture and the numbers behind it. They read artefacts and never train."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """A picture, and all numbers from which it was drawn, as json can hold them."""

    figure: Figure
    numbers: dict[str, Any]
