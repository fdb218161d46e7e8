"""Continuity and completeness of a latent space over beta: what does a sample of the prior decode to?

Shapes: N samples, K classes, Z latent dimensions, C channels, H height, W width.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt

from dgm.figures import Drawing
from dgm.figures.latent_scatter import show, variational
from dgm.figures.reading import Images, able, alike, batched, by, posterior, spread, test_images
from dgm.figures.style import canvas, dress, show_grid
from dgm.images import quantise
from dgm.metrics.features import Classifier, OwnClassifier
from dgm.modules.base import HasPosterior
from dgm.runs import Run

SURE = 0.9


def draw(
    runs: list[Run],
    cache: str,
    n: Annotated[int, Ge(2)] = 1000,
    shown: Annotated[int, Ge(1)] = 25,
    step: Annotated[float, Gt(0)] = 0.1,
) -> Drawing:
    """A column per beta: codes of test images in the two latents of highest KL, and decoded prior samples.

    Completeness: the confidence of a classifier of the data in n decoded samples; read it with `classes`, the
    effective number of classes among them, as a collapsed space decodes to one image and may be sure of it.
    Continuity: how often the answer changes when the sample moves by `step` prior deviations.
    """
    alike(runs, "data.name", "data.limit", "data.val", "model._target_", "model.latent")
    data = runs[0].data()
    test = test_images(runs[0], 2000, data)
    classifier = OwnClassifier().ready(data, Path(cache), partial(print, file=sys.stderr))
    groups = by(runs, "loss.beta")
    figure = canvas(3.2 * len(groups) + 0.4, 6.8)
    panels = figure.subplots(2, len(groups), squeeze=False)
    rows = []
    for column, (beta, seeds) in enumerate(groups.items()):
        models = [able(run, HasPosterior, "give a folder of variational autoencoders") for run in seeds]
        measured = [measure(model, test, classifier, n, step) for model in models]
        rows.append({"beta": beta} | {name: spread([m[name] for m in measured]) for name in measured[0]})
        draw_column(panels[:, column], models[0], test, shown, rows[-1])
    named = [(name, row) for row in rows for name in ("confidence", "classes")]
    key = {f"{name}_beta_{row['beta']:g}": row[name]["mean"] for name, row in named}
    return Drawing(figure, key | {"samples": n, "step": step, "betas": rows})


def measure(model: Any, test: Images, classifier: Classifier, n: int, step: float) -> dict[str, float]:
    """Numbers of one run."""
    generator = torch.Generator().manual_seed(0)
    z, move = torch.randn(2, n, model.latent, generator=generator)
    logits, moved = (batched(lambda c: classifier(quantise(model.decode(c)))[1], c) for c in (z, z + step * move))
    chances = logits.softmax(1)
    sure, mixture = chances.amax(1), chances.mean(0)
    view = variational(*posterior(model, test.x)).numbers
    return {
        "confidence": sure.mean().item(),
        "share_sure": (sure > SURE).float().mean().item(),
        "classes": torch.special.entr(mixture).sum().exp().item(),
        "label_changes": (logits.argmax(1) != moved.argmax(1)).float().mean().item(),
        "mean_posterior_sd": view["mean_posterior_sd"],
        "sd_of_means": view["sd_of_means"],
    }


def draw_column(panels: Any, model: Any, test: Images, shown: int, row: dict[str, Any]) -> None:
    """Codes above, decoded samples below."""
    view = variational(*posterior(model, test.x))
    show(panels[0], view, test.label)
    names = [name.partition("  ")[0] for name in view.names]
    dress(panels[0], f"β = {row['beta']:g}: sd of means {row['sd_of_means']['mean']:.2f}", *names)
    side = max(int(shown**0.5), 1)
    z = torch.randn(side * side, model.latent, generator=torch.Generator().manual_seed(0))
    title = f"decoded prior: confidence {row['confidence']['mean']:.2f}"
    show_grid(panels[1], batched(model.decode, z).clamp(0, 1), side, title)
