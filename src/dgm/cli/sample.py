"""`dgm sample`: images from a trained run, as one picture and as an array."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, MinLen
from PIL import Image

from dgm.cli.compose import asked, compose, explain
from dgm.configs import ConfigError, check
from dgm.images import grid, quantise
from dgm.runs import Run


def command(arguments: list[str]) -> int:
    """Write samples_SEED.png, and samples_SEED.npy with uint8 [N, C, H, W]; print the paths."""
    if asked(arguments):
        return explain("sample", arguments)
    config = compose("sample", arguments)
    check(sample, config)
    run = Run.open(config["run"])
    model = run.model()
    if not hasattr(model, "sample"):
        raise ConfigError(f"run={run.folder}: {type(model).__name__} cannot sample; it only reconstructs")
    wanted, classes = config["label"], getattr(model, "classes", 0)
    if wanted is not None and wanted >= classes:
        remedy = f"give one of 0 to {classes - 1}" if classes else "leave it out, or train with model.conditional=true"
        raise ConfigError(f"label={wanted}: this model knows {classes} classes; {remedy}")
    of = {} if wanted is None else {"label": torch.full((config["n"],), wanted)}
    with torch.no_grad():
        images = model.sample(config["n"], generator=torch.Generator().manual_seed(config["seed"]), **of)
    if images.dim() != 4:
        raise ConfigError(f"run={run.folder}: draws points {list(images.shape[1:])}, not images; use its model in code")
    folder = Path(config["out"] or run.path("samples"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"samples_seed{config['seed']}" + (f"_label{wanted}" if of else ""))
    Image.fromarray(grid(images, columns=max(1, round(config["n"] ** 0.5))).numpy()).save(path.with_suffix(".png"))
    np.save(path.with_suffix(".npy"), quantise(images).numpy())
    print(path.with_suffix(".png"), path.with_suffix(".npy"), sep="\n")
    return 0


def sample(
    *,
    run: Annotated[str, MinLen(1)],
    n: Annotated[int, Ge(1)],
    seed: Annotated[int, Ge(0)],
    label: Annotated[int, Ge(0)] | None,
    out: str | None,
) -> None:
    """The signature that a sample config is checked against."""
