"""Test images over their reconstructions. Shapes: N images, C channels, H height, W width."""

from typing import Annotated

import torch
from annotated_types import Ge

from dgm.figures import Drawing
from dgm.figures.reading import able, reconstruct, squared_error, test_images
from dgm.figures.style import canvas, show_grid
from dgm.modules.base import Encodes
from dgm.runs import Run


def draw(
    run: Run,
    images: Annotated[int, Ge(1)] = 20,
    columns: Annotated[int, Ge(1)] = 10,
    over: Annotated[int, Ge(1)] = 1000,
) -> Drawing:
    """`images` of all classes, row over row; squared error, summed over pixels, of each and over `over`."""
    model = able(run, Encodes, "choose a run of an autoencoder")
    test = test_images(run, over)
    again = reconstruct(model, test.x)
    error = squared_error(test.x, again)
    shown = test.varied(images)
    columns = min(columns, len(shown))
    shown = shown[: len(shown) // columns * columns]  # whole rows only
    pairs = torch.stack([test.x[shown].unflatten(0, (-1, columns)), again[shown].unflatten(0, (-1, columns))], 1)
    figure = canvas(0.6 * columns + 1, 1.2 * len(pairs) + 0.4)
    title = f"Squared error per image: {error.mean():.2f}, mean over {len(error):,} test images"
    show_grid(figure.subplots(), pairs.flatten(0, 2), columns, title, ["data", "model"] * len(pairs))
    numbers = {
        "mean_squared_error": error.mean().item(),
        "standard_error": (error.std() / len(error) ** 0.5).item(),
        "images": len(error),
        "shown": shown.tolist(),
        "squared_error_of_shown": error[shown].tolist(),
    }
    return Drawing(figure, numbers)
