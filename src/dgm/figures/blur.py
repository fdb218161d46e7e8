"""Are samples as sharp as data? Their power at each spatial frequency. Shapes: N images, H height, W width, R rings."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from dgm.figures import Drawing
from dgm.figures.reading import able, alike
from dgm.figures.style import INK, PALETTE, canvas, dress, legend, show_grid
from dgm.images import unit
from dgm.modules.base import Samples
from dgm.runs import Run


@torch.no_grad()
def draw(runs: list[Run], n: Annotated[int, Ge(2)] = 1000, shown: Annotated[int, Ge(1)] = 8) -> Drawing:
    """Radial power spectra of samples of each run and of test images as they are, not binarised.

    `high_frequency`: the power above half the highest frequency, over that of the data; below 1 is blur.
    """
    alike(runs, "data.name", "data.shape")
    data = runs[0].data()
    x = unit(data.raw("test").fetch(torch.arange(min(n, data.size("test"))))["image"])
    real = spectrum(x)
    figure = canvas(8.4, 0.55 * (len(runs) + 1) + 2.0)
    left, right = figure.subplots(1, 2, width_ratios=[3, 0.45 * shown + 1])
    frequency = torch.linspace(0, 1, len(real))
    left.plot(frequency[1:], real[1:], color=INK, label="test images")
    tiles, names, rows = [x[:shown]], ["data"], []
    for i, run in enumerate(runs):
        model = able(run, Samples, "give runs of models that draw images")
        drawn = model.sample(n, generator=torch.Generator().manual_seed(0)).clamp(0, 1).cpu()
        power = spectrum(drawn)
        name = f"{type(model).__name__} {i + 1}"
        high = power[len(power) // 2 :].sum() / real[len(real) // 2 :].sum()
        left.plot(frequency[1:], power[1:], color=PALETTE[i % len(PALETTE)], label=f"{name}: {high:.2f}")
        rows.append({"name": name, "run": run.folder.name, "high_frequency": high.item()})
        tiles.append(drawn[:shown])
        names.append(name)
    left.set_yscale("log")
    dress(left, "", "spatial frequency, of the highest", "power")
    legend(left, "power of high frequencies, over the data's")
    show_grid(right, torch.cat(tiles), shown, "", names)
    key = {f"high_frequency {row['name']}": row["high_frequency"] for row in rows}
    return Drawing(figure, key | {"samples": n, "runs": rows})


def spectrum(x: Tensor) -> Tensor:
    """Mean power of images without their mean, in rings of equal width of spatial frequency: [N, C, H, W] -> [R]."""
    height, width = x.shape[2:]
    power = torch.fft.fft2(x - x.mean((2, 3), keepdim=True)).abs().square().mean((0, 1)) / (height * width)
    radius = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.fftfreq(width).square()).sqrt()
    rings = max(2, min(height, width) // 2)
    ring = (radius / 0.5 * (rings - 1)).round().long().clamp_max(rings)  # the corners lie beyond the last
    sums = torch.zeros(rings + 1).scatter_add_(0, ring.flatten(), power.flatten())
    return (sums / torch.bincount(ring.flatten(), minlength=rings + 1))[:rings]
