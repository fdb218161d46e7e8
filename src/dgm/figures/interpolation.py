"""Paths between two images: linear and spherical in the latent space, and a cross-fade of pixels.

The images are test images, or samples of a model that has no codes for given images.

Shapes: P pairs, S steps, Z latent dimensions, C channels, H height, W width.
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from matplotlib.axes import Axes
from torch import Tensor

from dgm.figures import Drawing
from dgm.figures.reading import Images, able, batched, test_images
from dgm.figures.style import MARKERS, PALETTE, canvas, dress, legend, show_grid
from dgm.modules.base import Decodes, Encodes
from dgm.runs import Run

Paths = dict[str, Tensor]  # name -> [P, S, C, H, W]


def draw(
    run: Run,
    pairs: Annotated[int, Ge(1)] = 4,
    steps: Annotated[int, Ge(3)] = 11,
    over: Annotated[int, Ge(1)] = 200,
) -> Drawing:
    """Three rows for each pair, and how evenly the pixels change along the path, over more pairs."""
    model = able(run, Decodes, "choose a run of an autoencoder or a GAN")
    t = torch.linspace(0, 1, steps)
    if isinstance(model, Encodes):
        test = test_images(run, 4 * over)
        a, b = couples(test, over)
        ends, codes = (test.x[a], test.x[b]), (batched(model.encode, test.x[a]), batched(model.encode, test.x[b]))
    else:
        a, b = torch.arange(2 * over).view(2, -1)
        both = torch.randn(2, over, model.latent, generator=torch.Generator().manual_seed(0))
        codes, ends = (both[0], both[1]), (decoded(model, both[0]), decoded(model, both[1]))
    found = paths(model, ends, codes, t)
    title = "Between test images" if isinstance(model, Encodes) else "Between samples"
    lengths = {name: step_lengths(path) for name, path in found.items()}
    pairs = min(pairs, len(a))
    figure = canvas(0.54 * steps + 4.8, (0.5 * 3 + 0.1) * pairs + 0.6)
    cells = figure.add_gridspec(pairs, 2, width_ratios=[0.54 * steps + 1.4, 3.2])
    heads = [f"{x:.1f}" if i in (0, steps // 2, steps - 1) else "" for i, x in enumerate(t.tolist())]
    for i in range(pairs):
        axes, tiles = figure.add_subplot(cells[i, 0]), torch.cat([path[i] for path in found.values()])
        show_grid(axes, tiles, steps, "" if i else title, list(found), () if i else heads)
    plot_steps(figure.add_subplot(cells[:, 1]), lengths)
    evenness = {name: (step.max(1).values / step.mean(1)) for name, step in lengths.items()}
    numbers = {f"max_over_mean_step_{name}": ratio.mean().item() for name, ratio in evenness.items()}
    shown = {name: ratio[:pairs].tolist() for name, ratio in evenness.items()}
    rows = [a[:pairs].tolist(), b[:pairs].tolist()]
    return Drawing(figure, numbers | {"pairs": len(a), "shown": shown, "rows": rows})


def paths(model: Any, ends: tuple[Tensor, Tensor], codes: tuple[Tensor, Tensor], t: Tensor) -> Paths:
    """From image to image: [P, C, H, W] twice, their codes [P, Z] twice, [S] -> [P, S, C, H, W] each."""
    ways = {"linear": linear(*codes, t), "spherical": spherical(*codes, t)}
    found = {name: decoded(model, z.flatten(0, 1)).unflatten(0, z.shape[:2]) for name, z in ways.items()}
    return found | {"cross-fade": linear(*ends, t)}


def decoded(model: Any, z: Tensor) -> Tensor:
    """[N, Z] -> [N, C, H, W] in 0..1."""
    return batched(model.decode, z).clamp(0, 1)


def couples(test: Images, n: int) -> tuple[Tensor, Tensor]:
    """Rows of pairs, of different classes where these are known: [P], [P]."""
    rows = test.varied(min(2 * n, len(test.x)) // 2 * 2)
    return rows[0::2], rows[1::2]


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(1 - t) a + t b: [P, ...] twice, [S] -> [P, S, ...]."""
    return torch.lerp(a.unsqueeze(1), b.unsqueeze(1), t.view(1, -1, *[1] * (a.dim() - 1)))


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Along the great circle (White, 2016), straight where there is none: [P, Z] twice, [S] -> [P, S, Z]."""
    cosine = torch.cosine_similarity(a, b, -1).clamp(-1, 1)
    omega = cosine.acos().view(-1, 1, 1)
    t = t.view(1, -1, 1)
    arc = (((1 - t) * omega).sin() * a.unsqueeze(1) + (t * omega).sin() * b.unsqueeze(1)) / omega.sin()
    return torch.where(omega.sin().abs() < 1e-4, linear(a, b, t.flatten()), arc)


def step_lengths(path: Tensor) -> Tensor:
    """L2 distance of images that follow one another: [P, S, C, H, W] -> [P, S - 1]."""
    return path.diff(dim=1).flatten(2).norm(dim=-1)


def plot_steps(axes: Axes, lengths: dict[str, Tensor]) -> None:
    """Mean step length along the path, in units of the path's own mean step."""
    for i, (name, step) in enumerate(lengths.items()):
        relative = (step / step.mean(1, keepdim=True)).mean(0)
        middles = (torch.arange(len(relative)) + 0.5) / len(relative)
        axes.plot(middles, relative, color=PALETTE[i], marker=MARKERS[i], markersize=4, label=name)
    axes.set_xlim(0, 1)
    axes.set_box_aspect(1)
    axes.set_anchor("N")
    dress(axes, f"Evenness, mean of {len(step)} pairs", "position on the path", "step in pixels / mean step")
    legend(axes)
