"""Time to draw images against their size, pass by pass and with cached activations. Shapes: N images, S side."""

from collections.abc import Callable
from itertools import islice
from time import perf_counter
from typing import Annotated, Any

import torch
from annotated_types import Ge, MinLen

from dgm.configs import build
from dgm.figures import Drawing
from dgm.figures.reading import able
from dgm.figures.style import PALETTE, canvas, dress, legend
from dgm.modules.autoregressive import naive
from dgm.modules.base import Completes
from dgm.runs import Run


@torch.no_grad()
def draw(
    run: Run,
    sizes: Annotated[list[Annotated[int, Ge(4)]], MinLen(1)] | None = None,
    n: Annotated[int, Ge(1)] = 64,
    passes: Annotated[int, Ge(1)] = 5,
) -> Drawing:
    """Seconds for n images on this machine, with the run's network at several sizes.

    The naive sampler's time is that of `passes` of its passes times their number, except at the smallest size,
    where it runs to its end and must give the same images as the cached one.
    """
    model = able(run, Completes, "choose a run of an autoregressive model, such as model=pixelcnn")
    rows: list[dict[str, float]] = []
    for side in sizes or [8, 16, 28, 32, 64]:
        rows.append(measure(at_size(run, model, side), side, n, passes, check=not rows))
    figure = canvas(5.2, 3.6)
    axes = figure.subplots()
    pixels = [row["side"] ** 2 for row in rows]
    for i, (name, label) in enumerate(
        [("naive", "naive: a pass per pixel"), ("cached", "cached"), ("likelihood", "one likelihood evaluation")]
    ):
        axes.plot(pixels, [row[name] for row in rows], "os^"[i] + "-", color=PALETTE[i], label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(pixels, [f"{row['side']}²" for row in rows])
    axes.minorticks_off()
    dress(axes, f"{type(model.network).__name__}, {n} images", "pixels", "seconds")
    legend(axes)
    key = {f"naive_over_cached_{row['side']}": row["naive"] / row["cached"] for row in rows}
    key |= {f"cached_over_likelihood_{row['side']}": row["cached"] / row["likelihood"] for row in rows}
    return Drawing(figure, key | {"images": n, "threads": torch.get_num_threads(), "sizes": rows})


def at_size(run: Run, model: Any, side: int) -> Any:
    """The run's model for images of another size; convolutions keep their weights."""
    config = {**run.config["model"], "shape": [model.shape[0], side, side]}
    other = build(config)
    other.load_state_dict(model.state_dict())
    return other.eval()


def measure(model: Any, side: int, n: int, passes: int, check: bool) -> dict[str, float]:
    """Seconds of the three."""
    noise = torch.rand(n, *model.shape, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros_like(noise)
    label = torch.arange(n) % model.classes if model.classes else None
    cached, images = timed(lambda: model.complete(nothing, nothing > 0, noise, label))
    timed(lambda: model.log_likelihood(images, label=label))
    likelihood, _ = timed(lambda: model.log_likelihood(images, label=label))
    if check:
        slow, same = timed(lambda: model.complete(nothing, nothing > 0, noise, label, cached=False))
        if not torch.equal(images, same):
            raise RuntimeError(f"{int((images != same).sum())} values of {side} x {side} images differ from the naive")
        return {"side": side, "naive": slow, "cached": cached, "likelihood": likelihood}
    h = model.condition(label, images)
    some, _ = timed(lambda: list(islice(naive(model.network, images, h), passes)))
    return {"side": side, "naive": some / passes * images[0].numel(), "cached": cached, "likelihood": likelihood}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = perf_counter()
    result = work()
    return perf_counter() - start, result
