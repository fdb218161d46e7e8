"""Images whose lower half is drawn anew given the upper, of sequences the second. Shapes: N images, C channels."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from dgm.figures import Drawing
from dgm.figures.reading import able, given_label, log_p, test_images
from dgm.figures.style import canvas, show_grid
from dgm.modules.base import Completes
from dgm.runs import Run


@torch.no_grad()
def draw(
    run: Run,
    images: Annotated[int, Ge(1)] = 8,
    each: Annotated[int, Ge(1)] = 6,
    given: Annotated[float, Gt(0), Lt(1)] = 0.5,
    seed: Annotated[int, Ge(0)] = 0,
) -> Drawing:
    """A row per test image: what is given of it, several completions, the image itself."""
    model = able(run, Completes, "choose a run of an autoregressive model, such as model=pixelcnn")
    test = test_images(run, 1000)
    rows = test.varied(images)
    every = given_label(model, test)
    x, label = test.x[rows], None if every is None else every[rows]
    along = 2 if x.shape[2] > 1 else 3
    edge = max(1, round(given * x.shape[along]))
    known = torch.zeros_like(x, dtype=torch.bool)
    known.narrow(along, 0, edge).fill_(True)
    again = x.repeat_interleave(each, 0)
    noise = torch.rand(again.shape, generator=torch.Generator().manual_seed(seed))
    labels = None if label is None else label.repeat_interleave(each)
    drawn = model.complete(again, known.repeat_interleave(each, 0), noise, labels)
    changed = int((drawn != again).narrow(along, 0, edge).sum())
    if changed:
        raise RuntimeError(f"{changed} given values were changed: the sampler does not keep what is known")
    shown = torch.where(known, x, torch.full_like(x, 0.5))
    tiles = torch.cat([shown[:, None], drawn.view(len(x), each, *x.shape[1:]), x[:, None]], 1).flatten(0, 1)
    figure = canvas(0.62 * (each + 2) + 0.3, 0.62 * len(x) + 0.6)
    show_grid(figure.subplots(), tiles, each + 2, "", heads=["given", *[""] * each, "image"])
    own, theirs = (log_p(model, v, w).mean().item() for v, w in ((drawn, labels), (x, label)))
    differ = (drawn != again).narrow(along, edge, x.shape[along] - edge).float().mean().item()
    numbers = {"given_rows": edge, "changed_given_values": changed, "share_of_drawn_values_unlike_the_image": differ}
    return Drawing(figure, numbers | {"log_p_completions": own, "log_p_images": theirs, "images": rows.tolist()})
